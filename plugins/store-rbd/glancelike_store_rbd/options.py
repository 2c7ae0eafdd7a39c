"""The options of the store, named as Glance names them."""

from __future__ import annotations

from oslo_config import cfg

MIB = 1 << 20

OPTIONS = (
    cfg.StrOpt("rbd_store_pool", default="images", help="Pool that the images are kept in."),
    cfg.StrOpt(
        "rbd_store_user",
        help="Ceph user, without the 'client.' before it; by default the one librados takes, admin.",
    ),
    cfg.StrOpt(
        "rbd_store_ceph_conf",
        default="/etc/ceph/ceph.conf",
        help="Ceph's configuration file; it names the monitors and, if need be, the keyring.",
    ),
    cfg.IntOpt(
        "rbd_store_chunk_size",
        default=8,
        min=1,
        max=32,
        help="MiB of an image that are one object in the cluster: a power of two.",
    ),
    cfg.IntOpt(
        "rados_connect_timeout",
        default=0,
        min=0,
        help="Seconds that connecting may take; 0 means as long as rbd_store_timeout says.",
    ),
    cfg.IntOpt(
        "rbd_store_timeout",
        default=30,
        min=1,
        help="Seconds after which an operation that the cluster doesn't answer fails.",
    ),
    cfg.BoolOpt(
        "rbd_thin_provisioning",
        default=True,
        help="Don't store blocks of zeros, which read as zeros anyway.",
    ),
)
