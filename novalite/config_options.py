"""Every option that isn't a plugin's own: name, type, default, help.

Names and sections are Nova's where the thing is the same.
"""

from __future__ import annotations

import socket

from oslo_config import cfg

from glancelike.sql.options import OPTIONS

DEFAULT = (
    cfg.StrOpt(
        "host", default=socket.gethostname(), sample_default="<your hostname>", help="This host's name."
    ),
    cfg.HostAddressOpt("my_ip", default="127.0.0.1", help="Address under which other hosts reach this one."),
    cfg.StrOpt("state_path", default="/var/lib/novalite", help="Directory for what this host keeps."),
    cfg.StrOpt(
        "instances_path",
        default="$state_path/instances",
        help="Directory for the servers' disks, of this host alone.",
    ),
    cfg.StrOpt(
        "default_ephemeral_format",
        choices=("ext2", "ext3", "ext4", "xfs", "ntfs", "vfat"),
        help="File system of ephemeral disks, whose mkfs has to be on the compute hosts. Without, it goes by "
        "the image's os_type: ext4 for linux, ntfs for windows, else vfat.",
    ),
    cfg.StrOpt("compute_driver", default="libvirt", help="Virt driver: an entry point of novalite.virt."),
    cfg.StrOpt(
        "transport_url",
        default="kombu+inprocess://",
        secret=True,
        help="Message queue, as oslo.messaging writes it (rabbit://user:password@host:5672/). The default "
        "stays within one process.",
    ),
    cfg.FloatOpt(
        "rpc_response_timeout", default=30, min=1, help="Seconds to wait for another host's answer."
    ),
    cfg.StrOpt("default_availability_zone", default="nova", help="Zone of this host."),
    cfg.FloatOpt("report_interval", default=10, min=0.05, help="Seconds between this host's heartbeats."),
    cfg.FloatOpt(
        "service_down_time", default=60, min=0.1, help="Seconds without heartbeat until a host is down."
    ),
    cfg.FloatOpt(
        "redrive_interval",
        default=10,
        min=0.05,
        help="Seconds between looks for unfinished work whose message was lost or whose worker died.",
    ),
    cfg.FloatOpt(
        "lease_seconds",
        default=60,
        min=0.5,
        help="Seconds after which work of a worker that no longer answers is taken over.",
    ),
    cfg.FloatOpt(
        "sync_power_state_interval",
        default=30,
        min=0.05,
        help="Seconds between comparisons of the guests' real states with the records.",
    ),
    cfg.IntOpt(
        "shelved_offload_time",
        default=0,
        min=-1,
        max=0,
        help="0: a shelved server leaves its host at once; -1: when an administrator says so.",
    ),
    cfg.BoolOpt(
        "allow_resize_to_same_host",
        default=True,
        help="Resize a server where it is, if there is room: its disk needn't be carried then.",
    ),
    cfg.IntOpt(
        "max_concurrent_builds", default=10, min=1, help="Servers this host works on at the same time."
    ),
    cfg.IntOpt("reserved_host_cpus", default=0, min=0, help="CPUs kept back for the host itself."),
    cfg.IntOpt(
        "reserved_host_memory_mb", default=512, min=0, help="MiB of memory kept back for the host itself."
    ),
    cfg.IntOpt("reserved_host_disk_mb", default=0, min=0, help="MiB of disk kept back for the host itself."),
    cfg.BoolOpt(
        "force_config_drive",
        default=True,
        help="Give every server a config drive. Without one a guest learns neither its name nor its keys "
        "where no metadata service runs.",
    ),
    cfg.HostAddressOpt(
        "osapi_compute_listen", default="127.0.0.1", help="Address the Compute API listens on."
    ),
    cfg.PortOpt("osapi_compute_listen_port", default=8774, help="Port the Compute API listens on."),
    cfg.IntOpt("osapi_compute_workers", default=1, min=1, help="Processes that serve the Compute API."),
    cfg.IntOpt("threads", default=16, min=1, help="Threads of each process that serves the Compute API."),
    cfg.HostAddressOpt(
        "metadata_listen",
        default="127.0.0.1",
        help="Address the metadata service listens on: 169.254.169.254 where guests ask it themselves, one "
        "that proxies reach where these do.",
    ),
    cfg.PortOpt("metadata_listen_port", default=8775, help="Port the metadata service listens on."),
    cfg.IntOpt("metadata_workers", default=1, min=1, help="Processes that serve metadata."),
    cfg.BoolOpt("debug", default=False, help="Log debug messages."),
)
API = (
    cfg.StrOpt("auth_strategy", default="none", help="How callers are recognised: none, basic or keystone."),
    cfg.StrOpt(
        "http_basic_auth_user_file",
        default="/etc/novalite/htpasswd",
        help="Accounts for basic: lines of user:bcrypt-hash[:project[:role,role]].",
    ),
    cfg.StrOpt("auth_none_project", default="admin", help="Project of every caller under none."),
    cfg.IntOpt("max_limit", default=1000, min=1, help="Most items of one page of a list."),
)
DATABASE = (
    cfg.StrOpt(
        "connection",
        default="sqlite:///$state_path/novalite.sqlite",
        secret=True,
        help="Database URL, as SQLAlchemy writes it; mysql+pymysql://user:password@host/novalite or "
        "postgresql+psycopg://… for one that several hosts share.",
    ),
    cfg.BoolOpt("auto_upgrade", default=False, help="Bring the schema up to date at start."),
    *OPTIONS,
)
SCHEDULER = (
    cfg.StrOpt("driver", default="simple", help="Who picks: an entry point of novalite.scheduler.drivers."),
    cfg.ListOpt(
        "hooks",
        default=["capacity", "image_properties", "server_group", "image_locality"],
        help="Who advises: entry points of novalite.scheduler.hooks.",
    ),
    cfg.IntOpt(
        "max_attempts", default=3, min=1, help="How often a server's build is tried, on all hosts together."
    ),
)
GLANCE = (
    cfg.URIOpt(
        "endpoint_override", default="http://127.0.0.1:9292", schemes=["http", "https"], help="Image service."
    ),
    cfg.StrOpt(
        "auth_type",
        help="How the workers prove themselves to Keystone, to get images of any project: a plugin of "
        "keystoneauth, as password, whose options are taken here as well: auth_url, project_name, "
        "user_domain_name, project_domain_name and so on. Their user needs what the image service asks of an "
        "administrator. Callers of the API are passed on with their own tokens.",
    ),
    cfg.StrOpt(
        "username",
        help="User for HTTP Basic authentication, or with auth_type Keystone's; else none is sent.",
    ),
    cfg.StrOpt("password", secret=True, help="Password of the same."),
    cfg.StrOpt("cafile", help="Certificates to trust instead of the system's."),
    cfg.BoolOpt("insecure", default=False, help="Accept any certificate."),
    cfg.FloatOpt("timeout", default=30, min=0.1, help="Seconds to wait for each piece of an answer."),
    cfg.IntOpt("num_retries", default=3, min=0, help="How often a broken connection is tried again."),
)
IMAGE_CACHE = (
    cfg.StrOpt("directory", default="$instances_path/_base", help="Directory for base images."),
    cfg.BoolOpt("remove_unused_base_images", default=True, help="Remove base images that no server uses."),
    cfg.FloatOpt(
        "remove_unused_original_minimum_age_seconds",
        default=86400,
        min=0,
        help="Seconds that an unused base image is kept.",
    ),
    cfg.IntOpt(
        "max_size_mb",
        default=0,
        min=0,
        help="MiB that base images may take before unused ones go, the least recently used first, however "
        "young they are; 0 is no limit.",
    ),
    cfg.DictOpt(
        "local_stores",
        default={},
        help="File stores of the image service that this host has as well, on the file system of "
        "`directory`: store:directory, ... Servers' disks are put right on the images there, none is copied. "
        "The image service has to show locations (show_image_direct_url).",
    ),
    cfg.BoolOpt(
        "lazy_boot",
        default=True,
        help="Boot from raw and qcow2 images before they are here: what a guest reads is fetched when it "
        "reads it, and the rest behind its back.",
    ),
    cfg.IntOpt(
        "lazy_boot_minimum_mb",
        default=64,
        min=0,
        help="MiB of the smallest image that is booted from so; a smaller one is fetched first.",
    ),
    cfg.FloatOpt(
        "lazy_read_timeout",
        default=60,
        min=0.1,
        help="Seconds that a guest's read waits for an image service that is away. Then the guest is paused "
        "until it's back.",
    ),
    cfg.FloatOpt(
        "lazy_missing_timeout",
        default=60,
        min=0,
        help="Seconds for which the image service may say that there is no such image, or no data of it, "
        "before a guest that is paused for want of it is stopped and its server is in error.",
    ),
    cfg.FloatOpt(
        "lazy_fill_delay",
        default=10,
        min=0,
        help="Seconds without a read of something new after which a boot is over, and the rest is fetched.",
    ),
    cfg.FloatOpt(
        "lazy_fill_rate_mb",
        default=0,
        min=0,
        help="MiB a second at which the rest is fetched; 0 is no limit.",
    ),
    cfg.BoolOpt(
        "boot_trace",
        default=True,
        help="Fetch ahead what the first boot of an image has read. It is kept with the image, as "
        "novalite_boot_trace, where this host may change that, else on this host alone.",
    ),
    cfg.FloatOpt(
        "manager_interval", default=2400, min=0.05, help="Seconds between looks for unused base images."
    ),
)
MIGRATION = (
    cfg.HostAddressOpt(
        "listen",
        default="$my_ip",
        help="Address at which other hosts fetch the disks of servers that leave this host.",
    ),
    cfg.PortOpt("port", default=0, help="Port of the same; 0 is any free one."),
    cfg.StrOpt(
        "cert",
        help="Certificate to give disks by HTTPS with, and to show to the hosts that give them. Without one "
        "they travel openly.",
    ),
    cfg.StrOpt("key", help="Key of the certificate."),
    cfg.StrOpt(
        "cafile",
        help="Certificates to trust of the other hosts, instead of the system's. With cert as well, only "
        "hosts with such a certificate are given disks.",
    ),
    cfg.FloatOpt("timeout", default=30, min=0.1, help="Seconds to wait for each piece of a disk."),
)
NETWORK = (
    cfg.StrOpt(
        "kind",
        default="user",
        choices=[
            ("user", "behind the hypervisor's own address translation, unreachable from outside"),
            ("network", "a libvirt network"),
            ("bridge", "a bridge of the host"),
            ("none", "no network card"),
        ],
        help="What servers' network cards are connected to.",
    ),
    cfg.StrOpt("source", default="", help="Name of the libvirt network or the bridge."),
)
NEUTRON = (
    cfg.BoolOpt(
        "service_metadata_proxy",
        default=False,
        help="Answer metadata to proxies that tell which server asks, and sign it, as Neutron's do.",
    ),
    cfg.StrOpt(
        "metadata_proxy_shared_secret",
        default="",
        secret=True,
        help="What these proxies sign with. Who has it may read the user data of all servers.",
    ),
)
METADATA = (
    cfg.BoolOpt(
        "require_token",
        default=False,
        help="Answer only requests with a session token of EC2's version 2 (IMDSv2), in both forms. "
        "cloud-init sends none, but on Amazon's own machines: it then needs a config drive.",
    ),
)
SERIAL_CONSOLE = (
    cfg.BoolOpt(
        "enabled",
        default=False,
        help="Let the servers of this host be reached by serial console; run novalite-serialproxy here, too, "
        "unless it is novalite-all, which has that in it.",
    ),
    cfg.URIOpt(
        "base_url",
        default="ws://127.0.0.1:6083/",
        schemes=["ws", "wss"],
        help="Where clients find the serial consoles of this host.",
    ),
    cfg.HostAddressOpt(
        "serialproxy_host", default="127.0.0.1", help="Address that serial consoles are served on."
    ),
    cfg.PortOpt("serialproxy_port", default=6083, help="Port that serial consoles are served on."),
)
CONSOLE = (
    cfg.ListOpt(
        "allowed_origins",
        default=[],
        help="Hosts whose web pages may open consoles, beside that of base_url.",
    ),
)
CONSOLEAUTH = (
    cfg.IntOpt("token_ttl", default=600, min=1, help="Seconds within which a console has to be opened."),
)
POLICY = (
    cfg.StrOpt(
        "policy_file",
        default="policy.yaml",
        help="YAML file with policy rules that override the defaults, looked for beside the configuration "
        "files; read again when it changes. One of another name has to be there.",
    ),
)
QUOTA = (
    cfg.IntOpt("instances", default=10, min=-1, help="Servers of a project; -1 is unlimited."),
    cfg.IntOpt("cores", default=20, min=-1, help="Virtual CPUs of a project's servers; -1 is unlimited."),
    cfg.IntOpt(
        "ram", default=50 * 1024, min=-1, help="MiB of memory of a project's servers; -1 is unlimited."
    ),
    cfg.IntOpt("key_pairs", default=100, min=-1, help="Key pairs of a user; -1 is unlimited."),
    cfg.IntOpt("metadata_items", default=128, min=-1, help="Metadata items of a server; -1 is unlimited."),
    cfg.IntOpt("server_groups", default=10, min=-1, help="Server groups of a project; -1 is unlimited."),
    cfg.IntOpt(
        "server_group_members", default=10, min=-1, help="Servers of a server group; -1 is unlimited."
    ),
)
GROUPS: dict[str, tuple[cfg.Opt, ...]] = {
    "DEFAULT": DEFAULT,
    "api": API,
    "database": DATABASE,
    "scheduler": SCHEDULER,
    "glance": GLANCE,
    "image_cache": IMAGE_CACHE,
    "console": CONSOLE,
    "consoleauth": CONSOLEAUTH,
    "metadata": METADATA,
    "migration": MIGRATION,
    "network": NETWORK,
    "neutron": NEUTRON,
    "oslo_policy": POLICY,
    "quota": QUOTA,
    "serial_console": SERIAL_CONSOLE,
}
