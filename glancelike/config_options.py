"""Every option of the service, declared once: names, types, defaults, help.

Those of plugins stand with the plugins. ``config`` reads them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oslo_config import cfg

from glancelike import custom_schema, notifications, protections, signatures
from glancelike.outbound.options import limit_options, rule_options
from glancelike.service.context import CONTAINER_FORMATS, DISK_FORMATS
from glancelike.service.imports import METHODS
from glancelike.web.options import DEFAULT, NameList, StorageSize
from glancelike.web.settings import OPTIONS as WEB

STATE = "/var/lib/glancelike"

SERVER = (
    cfg.HostAddressOpt(
        "bind_host",
        default="127.0.0.1",
        help="Address to listen on. The default is loopback only: with auth_strategy "
        "'none' whoever reaches the server may do everything.",
    ),
    cfg.PortOpt("bind_port", default=9292, help="Port to listen on."),
    cfg.IntOpt("workers", min=1, default=1, help="Processes that serve requests."),
    cfg.IntOpt(
        "threads",
        min=1,
        default=16,
        help="Requests that each worker works on at once. Those that wait for bytes of their caller, or "
        "until it takes some, don't count.",
    ),
    cfg.StrOpt(
        "state_path",
        default=STATE,
        help="Directory for what the defaults keep: the SQLite database and the file store.",
    ),
    cfg.BoolOpt("debug", default=False, help="Log debug messages."),
    cfg.StrOpt(
        "auth_strategy",
        default="none",
        help="How callers are recognised: the name of a plugin of glancelike.auth, such as "
        "'none' (everybody is an administrator), 'basic' (http_basic_auth_user_file) or "
        "'keystone' ([keystone_authtoken]).",
    ),
    cfg.StrOpt(
        "registry",
        default="sql",
        help="Registry backend: the name of a plugin of glancelike.registries.",
    ),
    cfg.DictOpt(
        "enabled_backends",
        default={"file": "file"},
        help="Stores to mount, as store-id:driver, comma separated. Each store's options "
        "are in the section named like its id.",
    ),
    cfg.StrOpt(
        "staging_backend",
        default="file",
        help="Driver of the store that keeps data until it is imported, with its options in "
        "[os_glance_staging_store]. Servers on several hosts need one that all of them reach.",
    ),
    cfg.IntOpt(
        "reap_interval",
        min=0,
        default=30,
        help="Seconds between looks for uploads that died, whose images then are queued again; "
        "0 never looks.",
    ),
)
LIMITS = (
    cfg.IntOpt("image_size_cap", min=1, default=1 << 40, help="Largest image in bytes."),
    cfg.IntOpt("image_member_quota", min=-1, default=128, help="Most members of an image; -1: no limit."),
    cfg.IntOpt(
        "image_property_quota", min=-1, default=128, help="Most properties of an image; -1: no limit."
    ),
    cfg.IntOpt("image_tag_quota", min=-1, default=128, help="Most tags of an image; -1: no limit."),
    cfg.IntOpt(
        "limit_param_default", min=1, default=25, help="Images on a page when the caller names no limit."
    ),
    cfg.IntOpt("api_limit_max", min=1, default=1000, help="Most images on a page."),
    cfg.StrOpt(
        "hashing_algorithm",
        default="sha256",
        help="Digest of the image data, os_hash_algo: any name hashlib knows.",
    ),
    cfg.BoolOpt(
        "compute_md5_checksum",
        default=False,
        help="Compute the MD5 'checksum', too. The Image API allows it to be null.",
    ),
    cfg.FloatOpt(
        "upload_lease_seconds",
        min=1.0,
        default=60.0,
        help="How long an upload stays reserved for a process that has died.",
    ),
    cfg.IntOpt(
        "resumable_upload_lifetime",
        min=1,
        default=72,
        help="Hours after which an upload in pieces that has not ended is dropped, with all its bytes.",
    ),
    cfg.IntOpt(
        "presigned_upload_expires",
        min=0,
        default=0,
        help="Seconds that a URL is good for by which a client writes an image's data to the store itself, "
        "where the store can sign such URLs and copy. 0: there are none.",
    ),
)
DELETES = (
    cfg.BoolOpt(
        "delayed_delete",
        default=False,
        help="Keep deleted images, unseen, until they are scrubbed; `glancelike image restore` brings "
        "them back until then.",
    ),
    cfg.IntOpt(
        "scrub_time", min=0, default=0, help="Seconds that a deleted image is kept under delayed_delete."
    ),
)
PROPERTIES = (
    cfg.StrOpt(
        protections.OPTION,
        help="File that says who may create, read, update and delete which custom properties of images.",
    ),
    cfg.StrOpt(
        "property_protection_rule_format",
        choices=[str(each) for each in protections.Format],
        default="roles",
        help="What that file names: roles, or rules of policy_file.",
    ),
    cfg.StrOpt(
        custom_schema.OPTION,
        help="JSON file that describes custom properties, and names those that each image must have.",
    ),
)
CACHE = (
    cfg.StrOpt(
        "image_cache_dir",
        help="Directory for the data of images whose store isn't on this host, shared by all processes "
        "of the host; made when only its last part is missing. Unset: nothing is cached.",
    ),
    cfg.IntOpt(
        "image_cache_max_size",
        min=0,
        default=10 << 30,
        help="Most bytes in the cache; the least recently used images make room for others. A larger "
        "image isn't cached.",
    ),
    cfg.IntOpt(
        "image_cache_stall_time",
        min=0,
        default=86400,
        help="Seconds without progress after which data on its way into the cache is given up.",
    ),
    cfg.IntOpt(
        "cache_prefetcher_interval",
        min=1,
        default=300,
        help="Seconds between looks at the cache: what failed to be fetched ahead is tried again, and "
        "what no image needs any more is removed.",
    ),
    cfg.StrOpt(
        "worker_self_reference_url",
        help="URL of this host's server, which names its cache to other hosts; made of the host's name "
        "and bind_port by default.",
    ),
)
QUOTAS = (
    cfg.Opt(
        "user_storage_quota",
        type=StorageSize(),
        default=0,
        help="Most data that a project's images may have in all stores together, such as 500GB (units "
        "of 1024: B, KB, MB, GB, TB). 0: no limit. Has no effect with use_keystone_limits.",
    ),
    cfg.BoolOpt(
        "use_keystone_limits",
        default=False,
        help="Take each project's limits from Keystone, in the place of user_storage_quota and [quota]: "
        "image_size_total, image_stage_total (MiB), image_count_total, image_count_uploading. How to "
        "ask for them is in [oslo_limit].",
    ),
)
SAME_FOR_ALL = (
    cfg.IntOpt(
        "image_size_total",
        min=-1,
        default=-1,
        help="Most MiB that a project's images may have in all stores together; -1: no limit.",
    ),
    cfg.IntOpt(
        "image_stage_total",
        min=-1,
        default=-1,
        help="Most MiB that a project may have waiting for import; -1: no limit.",
    ),
    cfg.IntOpt("image_count_total", min=-1, default=-1, help="Most images of a project; -1: no limit."),
    cfg.IntOpt(
        "image_count_uploading",
        min=-1,
        default=-1,
        help="Most images of a project whose data may be on its way at a time; -1: no limit.",
    ),
)
TASKS = (
    cfg.IntOpt("task_time_to_live", min=0, default=48, help="Hours that a finished task is kept."),
    cfg.IntOpt(
        "task_workers",
        min=0,
        default=2,
        help="Threads of each process of glancelike-api that work on tasks; 0 leaves them all to "
        "glancelike-worker.",
    ),
    cfg.FloatOpt(
        "task_poll_interval",
        min=0.1,
        default=5.0,
        help="Seconds between looks for tasks that other processes left.",
    ),
    cfg.StrOpt(
        "work_dir",
        help="Directory for what import plugins need on disk: as large as the largest image. "
        "The system's directory for temporary files by default.",
    ),
)
IMPORT = (
    cfg.Opt(
        "enabled_import_methods",
        type=NameList(METHODS),
        default=["glance-direct", "web-download", "copy-image"],
        help="Ways to import an image: of glance-direct, web-download, copy-image, glance-download.",
    ),
)
IMPORT_PLUGINS = (
    cfg.Opt(
        "image_import_plugins",
        type=NameList(),
        default=[],
        help="What is done to imported images, in this order: names of plugins of "
        "glancelike.import_plugins, such as inject_image_metadata, image_decompression, image_conversion.",
    ),
)
GLANCE_DOWNLOAD = (
    cfg.Opt(
        "extra_properties",
        type=NameList(),
        default=["hw_", "trait:", "os_distro", "os_secure_boot", "os_type"],
        help="Beginnings of the names of properties that glance-download takes over from the source.",
    ),
)
LOCATIONS = (
    cfg.IntOpt("image_location_quota", min=-1, default=10, help="Most locations of an image; -1: no limit."),
    cfg.BoolOpt(
        "show_multiple_locations",
        default=False,
        help="Show an image's locations to its project, and let them be patched: whoever may do that "
        "can have an image read from any URL that a store may read.",
    ),
    cfg.BoolOpt(
        "show_image_direct_url",
        default=False,
        help="Show the URL of an image's first location to its project, as direct_url.",
    ),
    cfg.BoolOpt(
        "do_secure_hash",
        default=True,
        help="Read the data behind a location that was added by POST, to compute its digest and to "
        "compare it with the one that was told.",
    ),
    cfg.IntOpt(
        "http_retries",
        min=0,
        default=3,
        help="How often such data is read again after its store was away.",
    ),
)
COPIES = (
    cfg.IntOpt(
        "replicas",
        min=1,
        default=1,
        help="Stores that each active image is kept in; 1 makes no copies by itself. They count for quotas.",
    ),
    cfg.Opt(
        "replica_stores",
        type=NameList(),
        default=[],
        help="Ids of the stores that count as replicas, best first; all writable ones by default.",
    ),
    cfg.IntOpt(
        "replication_interval",
        min=1,
        default=600,
        help="Seconds between rounds over all images that make copies which are still, or again, missing.",
    ),
    cfg.IntOpt(
        "verify_interval",
        min=0,
        max=87600,
        default=0,
        help="Hours between rounds in which each copy of each image is read and its digest compared; "
        "0 makes none.",
    ),
    cfg.IntOpt(
        "verify_rate", min=0, default=50, help="Most MiB a second that such a round reads; 0: no limit."
    ),
    cfg.BoolOpt(
        "verify_repair",
        default=True,
        help="Have such a round make bad and missing copies again from good ones, and delete the bad.",
    ),
    cfg.BoolOpt(
        "copy_read_back",
        default=False,
        help="Read what a store copied by itself, and compare its digest, before the copy counts.",
    ),
    cfg.IntOpt(
        "presigned_download_expires",
        min=0,
        max=604800,
        default=0,
        help="Seconds that a URL is good for which a download with ?redirect=true is sent to, where the "
        "store has such URLs. It can't be taken back meanwhile. 0: data is never sent that way.",
    ),
)
FORMATS = (
    cfg.ListOpt("disk_formats", default=list(DISK_FORMATS), help="Disk formats that images may have."),
    cfg.ListOpt("container_formats", default=list(CONTAINER_FORMATS), help="Container formats."),
    cfg.BoolOpt(
        "require_image_format_match",
        default=True,
        help="Refuse data that isn't what disk_format claims. What is unsafe is refused anyway.",
    ),
)
STORES = (
    cfg.StrOpt("default_backend", help="Store that gets an upload which names none; the first by default."),
)
POLICY = (cfg.StrOpt("policy_file", help="YAML file with policy rules that override the defaults."),)
EACH_STORE = (
    cfg.StrOpt("store_description", help="What callers are told of this store."),
    cfg.IntOpt(
        "weight",
        default=0,
        help="Of the stores that hold an image the one with the highest weight is read first.",
    ),
    cfg.BoolOpt("read_only", default=False, help="Never write to this store, and never delete from it."),
)

REST = (*WEB[DEFAULT], *notifications.OPTIONS[DEFAULT])
FIXED: Mapping[str, Sequence[cfg.Opt]] = {
    "task": TASKS,
    "image_import_opts": IMPORT_PLUGINS,
    "glance_download_properties": GLANCE_DOWNLOAD,
    DEFAULT: (*SERVER, *DELETES, *PROPERTIES, *CACHE, *COPIES, *IMPORT, *LIMITS, *LOCATIONS, *QUOTAS, *REST),
    "quota": SAME_FOR_ALL,
    "import_filtering_opts": rule_options(),
    "outbound": limit_options(),
    "image_format": FORMATS,
    "glance_store": STORES,
    "oslo_policy": POLICY,
    **{
        group: opts
        for part in (WEB, signatures.OPTIONS, notifications.OPTIONS)
        for group, opts in part.items()
        if group != DEFAULT
    },
}
