"""Every option, read once into frozen values; the only reader of files and environment.

The object is made here and never the global ``cfg.CONF``, so two services
with different settings can live in one process. Names follow Glance's where
the thing is the same. An option nobody knows stops the start: a misspelt
limit must not be a missing limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oslo_config import cfg

from glancelike import plugins
from glancelike.errors import ConfigError
from glancelike.policy import Policy
from glancelike.registry.base import Registry
from glancelike.service import ImageService, Settings
from glancelike.service.context import CONTAINER_FORMATS, DISK_FORMATS
from glancelike.stores.base import Store
from glancelike.transfer import check_algorithm
from glancelike.vfs import MountTable
from glancelike.web.auth import Auth
from glancelike.web.options import DEFAULT, OptionError, OptionSet, sample_of

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
        help="Threads of each worker. A transfer holds one from its first byte to its last.",
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
        "'none' (everybody is an administrator) or 'basic' (http_basic_auth_user_file).",
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
EACH_STORE = (cfg.StrOpt("store_description", help="What callers are told of this store."),)


FIXED: Mapping[str, Sequence[cfg.Opt]] = {
    DEFAULT: (*SERVER, *LIMITS),
    "image_format": FORMATS,
    "glance_store": STORES,
    "oslo_policy": POLICY,
}
DATABASE = "database"


@dataclass(frozen=True, slots=True)
class PluginConfig:
    """A plugin's name, its class and its settings."""

    name: str
    plugin: type[plugins.Plugin]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the configuration says, checked."""

    bind_host: str
    bind_port: int
    workers: int
    threads: int
    debug: bool
    reap_interval: int
    auth: PluginConfig
    registry: PluginConfig
    stores: Mapping[str, PluginConfig]
    default_store: str | None
    descriptions: Mapping[str, str]
    policy_file: Path | None
    limits: Settings


def load(argv: Sequence[str] = (), *, prog: str = "glancelike-api") -> Config:
    """Read the command line, the config files and the environment.

    ``argv`` may hold ``--config-file`` and ``--config-dir``. Raises
    ConfigError, which names the file, the option or the plugin.
    """
    try:
        options = OptionSet(FIXED)
        options.parse(argv, project="glancelike", prog=prog)
        return _read(options)
    except OptionError as error:
        raise ConfigError(str(error)) from error


def build(config: Config) -> ImageService:
    """Make the service that the configuration describes, not yet opened."""
    drivers: dict[str, Store] = {}
    for name, store in config.stores.items():
        driver = store.plugin(store.settings)
        assert isinstance(driver, Store)  # noqa: S101 - plugins.load has checked it
        drivers[name] = driver
    mounts = MountTable(drivers, default=config.default_store, descriptions=config.descriptions)
    return ImageService(build_registry(config), mounts, Policy(config.policy_file), config.limits)


def build_registry(config: Config) -> Registry:
    """Make the registry backend alone, not yet opened."""
    registry = config.registry.plugin(config.registry.settings)
    assert isinstance(registry, Registry)  # noqa: S101 - plugins.load has checked it
    return registry


def _read(options: OptionSet) -> Config:
    conf = options.section(DEFAULT)
    state = Path(conf["state_path"]).absolute()
    auth = _plugin(options, "glancelike.auth", conf["auth_strategy"], Auth, DEFAULT, {})
    database = {"connection": f"sqlite:///{state / 'glancelike.db'}"}
    registry = _plugin(options, "glancelike.registries", conf["registry"], Registry, DATABASE, database)
    datadir = {"filesystem_store_datadir": str(state / "images")}
    stores = {}
    for name, driver in conf["enabled_backends"].items():
        if name in FIXED or name == DATABASE:
            raise ConfigError(f"enabled_backends: {name!r} can't be a store's id, its section is taken")
        stores[name] = _plugin(options, "glancelike.stores", driver, Store, name, datadir)
        options.register(name, EACH_STORE)
    options.refuse_unknown()
    told = {name: options.get(name, "store_description") for name in stores}
    formats = options.section("image_format")
    limits = Settings(
        **{opt.dest: conf[opt.dest] for opt in LIMITS},
        require_image_format_match=formats["require_image_format_match"],
        disk_formats=tuple(formats["disk_formats"]),
        container_formats=tuple(formats["container_formats"]),
    )
    check_algorithm(limits.hashing_algorithm)
    policy_file = options.get("oslo_policy", "policy_file")
    return Config(
        bind_host=conf["bind_host"],
        bind_port=conf["bind_port"],
        workers=conf["workers"],
        threads=conf["threads"],
        debug=conf["debug"],
        reap_interval=conf["reap_interval"],
        auth=auth,
        registry=registry,
        stores=stores,
        default_store=options.get("glance_store", "default_backend"),
        descriptions={name: text for name, text in told.items() if text},
        policy_file=Path(policy_file) if policy_file else None,
        limits=limits,
    )


def _plugin(
    options: OptionSet,
    namespace: str,
    name: str,
    contract: type[Any],
    group: str,
    defaults: Mapping[str, Any],
) -> PluginConfig:
    """Load a plugin, register its options in ``group`` and read them.

    ``defaults`` fill in what the configuration leaves open, where the plugin
    has such an option.
    """
    plugin = plugins.load(namespace, name, contract)
    options.register(group, plugin.options)
    settings = {}
    for opt in plugin.options:
        value = options.get(group, opt.dest)
        settings[opt.dest] = defaults.get(opt.dest) if value is None else value
    return PluginConfig(name, plugin, settings)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """List every option by section, for oslo.config's generator.

    The sections of stores are named after the driver here; in a config file
    they carry the store's id.
    """
    listed = [(group, list(opts)) for group, opts in FIXED.items()]
    auth = [
        opt
        for name in plugins.available("glancelike.auth")
        for opt in plugins.load("glancelike.auth", name, Auth).options
    ]
    listed.append((DEFAULT, auth))
    registry = plugins.load("glancelike.registries", "sql", Registry)
    listed.append((DATABASE, list(registry.options)))
    for name in plugins.available("glancelike.stores"):
        driver = plugins.load("glancelike.stores", name, Store)
        listed.append((name, [*EACH_STORE, *driver.options]))
    return listed


def sample() -> str:
    """Return a sample config file with every option commented out."""
    return sample_of("glancelike")
