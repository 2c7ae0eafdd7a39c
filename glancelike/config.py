"""Every option, read once into frozen values; the only reader of files and environment.

The object is made here and never the global ``cfg.CONF``, so two services
with different settings can live in one process. Names follow Glance's where
the thing is the same. An option nobody knows stops the start: a misspelt
limit must not be a missing limit.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oslo_config import cfg

from glancelike import custom_schema, notifications, plugins, protections, signatures
from glancelike.cache import ImageCache
from glancelike.config_options import COPIES, DELETES, EACH_STORE, FIXED, LIMITS, LOCATIONS
from glancelike.config_plugins import DATABASE, PluginConfig, plugin_of, registry_of
from glancelike.errors import BrokenPlugin, ConfigError
from glancelike.importing.base import ImportPlugin
from glancelike.limits_keystone import KeystoneLimits
from glancelike.outbound.options import limits_of, rules_of
from glancelike.policy import Policy
from glancelike.registry.base import Registry
from glancelike.service import ImageService, Settings
from glancelike.service.fields import BASE_FIELDS
from glancelike.service.quotas import RESOURCES
from glancelike.stores.base import Cap, Store
from glancelike.stores.broken import BrokenStore, broken_store
from glancelike.transfer import check_algorithm
from glancelike.vfs import RESERVED, STAGING, MountOptions, MountTable
from glancelike.web.auth import Auth
from glancelike.web.options import DEFAULT, OptionError, OptionSet, Values, sample_of
from glancelike.web.settings import OPTIONS as WEB
from glancelike.web.settings import WebSettings, settings_of

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Where and how large the local image cache is, and the node's name."""

    directory: Path
    max_size: int
    stall_time: int
    node: str


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
    store_options: Mapping[str, MountOptions]
    staging: PluginConfig
    policy_file: Path | None
    limits: Settings
    web: WebSettings
    signatures: Values
    notifications: Values
    keystone_limits: PluginConfig | None
    import_plugins: tuple[PluginConfig, ...]
    task_workers: int
    task_poll_interval: float
    cache: CacheConfig | None
    cache_prefetcher_interval: int


def load(argv: Sequence[str] = (), *, prog: str = "glancelike-api") -> Config:
    """Read the command line, the config files and the environment.

    ``argv`` may hold ``--config-file`` and ``--config-dir``. Raises
    ConfigError, which names the file, the option or the plugin.
    """
    try:
        return _read(_parsed(argv, prog))
    except OptionError as error:
        raise ConfigError(str(error)) from error


def backends(argv: Sequence[str] = (), *, prog: str = "glancelike-api") -> Mapping[str, str]:
    """Return the drivers' names by the stores' ids; no driver is loaded. Raises ConfigError."""
    try:
        return dict(_parsed(argv, prog).get(DEFAULT, "enabled_backends"))
    except OptionError as error:
        raise ConfigError(str(error)) from error


def load_store(
    argv: Sequence[str], store_id: str, *, prog: str = "glancelike-api"
) -> tuple[PluginConfig, bool]:
    """Read what concerns one store alone, and load its driver alone.

    Returns also whether the store is read_only. Raises ConfigError, a
    BrokenPlugin where the driver's own code is at fault.
    """
    try:
        options = _parsed(argv, prog)
        conf = options.section(DEFAULT)
        driver = conf["enabled_backends"][store_id]
        store = _store(options, store_id, driver, _datadir(conf, "images"))
        options.refuse_unknown(only=store_id)
        return store, options.get(store_id, "read_only")
    except OptionError as error:
        raise ConfigError(str(error)) from error


def _parsed(argv: Sequence[str], prog: str) -> OptionSet:
    options = OptionSet(FIXED)
    options.parse(argv, project="glancelike", prog=prog)
    return options


def build(config: Config) -> ImageService:
    """Make the service that the configuration describes, not yet opened."""
    cache = config.cache
    return ImageService(
        build_registry(config),
        build_stores(config),
        _policy(config),
        config.limits,
        import_plugins=[plugin.make(ImportPlugin) for plugin in config.import_plugins],
        certificates=signatures.certificates_of(config.signatures),
        notifier=notifications.notifier_of(config.notifications),
        cache=None
        if cache is None
        else ImageCache(
            cache.directory, max_size=cache.max_size, stall_time=cache.stall_time, node=cache.node
        ),
        limits=None
        if config.keystone_limits is None
        else KeystoneLimits(config.keystone_limits.settings, RESOURCES),
    )


def build_stores(config: Config) -> MountTable:
    """Make the stores alone, not yet opened."""
    needed = _needed(config)
    return MountTable(
        {name: _driver(name, store, needed=name == needed) for name, store in config.stores.items()},
        default=config.default_store,
        options=config.store_options,
        staging=_driver(STAGING, config.staging, needed=True),
    )


def build_registry(config: Config) -> Registry:
    """Make the registry backend alone, not yet opened."""
    return config.registry.make(Registry)


def _needed(config: Config) -> str:
    """Return the store that uploads go to by default: without it there is no service."""
    for name, store in config.stores.items():
        # A broken one counts: nobody knows whether it could be written.
        writable = issubclass(store.plugin, Store) and Cap.WRITE in store.plugin.capabilities
        if config.default_store is None and writable and not config.store_options[name].read_only:
            return name
    return config.default_store or ""


def _driver(name: str, store: PluginConfig, *, needed: bool) -> Store:
    """Make a store's driver, or what stands for it where its code is broken.

    Raises ConfigError, also for a broken store that is ``needed``.
    """
    try:
        made = store.make(Store)
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - a driver may raise anything
        # Not the message: of what a constructor was given some may be secret.
        made = broken_store(f"its constructor raised {type(error).__name__}")({})
    if isinstance(made, BrokenStore):
        if needed:
            raise ConfigError(f"store {name!r} can't be used: {made.reason}")
        LOG.error("store %r can't be used, the others can: %s", name, made.reason)
    return made


def _read(options: OptionSet) -> Config:
    conf = options.section(DEFAULT)
    auth = plugin_of(options, "glancelike.auth", conf["auth_strategy"], Auth, DEFAULT, {})
    registry = registry_of(options, conf["registry"], conf["state_path"])
    datadir = _datadir(conf, "images")
    stores = {}
    for name, driver in conf["enabled_backends"].items():
        if name.startswith(RESERVED):
            raise ConfigError(f"enabled_backends: {name!r} can't be a store's id: {RESERVED} is reserved")
        if name in FIXED or name in (DATABASE, auth.plugin.group, KeystoneLimits.group):
            raise ConfigError(f"enabled_backends: {name!r} can't be a store's id, its section is taken")
        try:
            stores[name] = _store(options, name, driver, datadir)
        except BrokenPlugin as error:
            options.tolerate(name)
            stores[name] = PluginConfig(driver, broken_store(str(error)), {})
    import_plugins = tuple(
        plugin_of(options, "glancelike.import_plugins", name, ImportPlugin, name, {})
        for name in options.get("image_import_opts", "image_import_plugins")
    )
    tasks = options.section("task")
    staging_dir = _datadir(conf, "staging")
    staging = plugin_of(options, "glancelike.stores", conf["staging_backend"], Store, STAGING, staging_dir)
    keystone_limits = None
    if conf["use_keystone_limits"]:
        settings = options.of_plugin(KeystoneLimits, KeystoneLimits.group)
        keystone_limits = PluginConfig("keystone", KeystoneLimits, settings)
    signing = options.of_part(signatures.OPTIONS, signatures.further_options)
    notifying = options.of_part(notifications.OPTIONS, notifications.further_options)
    options.refuse_unknown()
    limits = _limits(options)
    policy_file = options.get("oslo_policy", "policy_file")
    return Config(
        bind_host=conf["bind_host"],
        bind_port=conf["bind_port"],
        workers=conf["workers"],
        threads=conf["threads"],
        debug=conf["debug"],
        reap_interval=conf["reap_interval"],
        cache=_cache(conf),
        cache_prefetcher_interval=conf["cache_prefetcher_interval"],
        auth=auth,
        registry=registry,
        stores=stores,
        default_store=options.get("glance_store", "default_backend"),
        store_options={
            name: MountOptions(
                options.get(name, "store_description"),
                weight=options.get(name, "weight"),
                read_only=options.get(name, "read_only"),
                type=store.name,
            )
            for name, store in stores.items()
        },
        staging=staging,
        policy_file=Path(policy_file) if policy_file else None,
        limits=limits,
        web=settings_of(options.of_part(WEB)),
        signatures=signing,
        notifications=notifying,
        keystone_limits=keystone_limits,
        import_plugins=import_plugins,
        task_workers=tasks["task_workers"],
        task_poll_interval=tasks["task_poll_interval"],
    )


def _limits(options: OptionSet) -> Settings:
    """Return the limits and defaults of the service; raise ConfigError."""
    conf, formats, tasks = (options.section(name) for name in (DEFAULT, "image_format", "task"))
    limits = Settings(
        **{opt.dest: conf[opt.dest] for opt in (*LIMITS, *DELETES, *LOCATIONS)},
        **{opt.dest: conf[opt.dest] for opt in COPIES if opt.dest != "replica_stores"},
        replica_stores=tuple(conf["replica_stores"]),
        **_properties(conf),
        **options.section("quota"),
        user_storage_quota=conf["user_storage_quota"],
        require_image_format_match=formats["require_image_format_match"],
        disk_formats=tuple(formats["disk_formats"]),
        container_formats=tuple(formats["container_formats"]),
        task_time_to_live=tasks["task_time_to_live"],
        enabled_import_methods=tuple(conf["enabled_import_methods"]),
        import_work_directory=tasks["work_dir"],
        url_rules=rules_of(options.section("import_filtering_opts")),
        fetch_limits=limits_of(options.section("outbound")),
        glance_download_properties=tuple(options.get("glance_download_properties", "extra_properties")),
    )
    check_algorithm(limits.hashing_algorithm)
    return limits


def _properties(conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of custom properties; raise ConfigError for a bad file."""
    found: dict[str, Any] = {}
    if conf[protections.OPTION]:
        form = protections.Format(conf["property_protection_rule_format"])
        found["protections"] = protections.load(Path(conf[protections.OPTION]), form)
    if conf[custom_schema.OPTION]:
        found["custom_schema"] = custom_schema.load(Path(conf[custom_schema.OPTION]), BASE_FIELDS)
    return found


def _policy(config: Config) -> Policy:
    """Make the policy; raise ConfigError when property protections name a rule that isn't there."""
    policy = Policy(config.policy_file)
    for rule in sorted(config.limits.protections.policies()):
        if not policy.knows(rule):
            raise ConfigError(f"{protections.OPTION}: there is no policy rule {rule!r}")
    return policy


def _cache(conf: Mapping[str, Any]) -> CacheConfig | None:
    if not conf["image_cache_dir"]:
        return None
    return CacheConfig(
        Path(conf["image_cache_dir"]).absolute(),
        conf["image_cache_max_size"],
        conf["image_cache_stall_time"],
        conf["worker_self_reference_url"] or f"http://{socket.gethostname()}:{conf['bind_port']}",
    )


def _store(options: OptionSet, name: str, driver: str, defaults: Mapping[str, Any]) -> PluginConfig:
    """Load a store's driver and read its section; raise BrokenPlugin for one that can't be asked."""
    options.register(name, EACH_STORE)
    try:
        store = plugin_of(options, "glancelike.stores", driver, Store, name, defaults)
        if not isinstance(getattr(store.plugin, "capabilities", None), Cap):
            raise TypeError("capabilities isn't a Cap")
        return store
    except (ConfigError, OptionError):
        raise
    except Exception as error:
        # Its options, say, are none of oslo.config's.
        raise BrokenPlugin(f"glancelike.stores {driver!r}: {type(error).__name__}: {error}") from error


def _datadir(conf: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return where a file store is by default."""
    return {"filesystem_store_datadir": str(Path(conf["state_path"]).absolute() / name)}


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """List every option by section, for oslo.config's generator.

    The sections of stores are named after the driver here; in a config file
    they carry the store's id.
    """
    listed = [(group, list(opts)) for group, opts in FIXED.items()]
    for name in plugins.available("glancelike.auth"):
        plugin = plugins.load("glancelike.auth", name, Auth)
        listed.append((plugin.group or DEFAULT, list(plugin.options)))
    listed.append((KeystoneLimits.group, list(KeystoneLimits.options)))
    for name in ("sql", "remote"):
        registry = plugins.load("glancelike.registries", name, Registry)
        listed.append((registry.group or DATABASE, list(registry.options)))
    for name in plugins.available("glancelike.import_plugins"):
        each = plugins.load("glancelike.import_plugins", name, ImportPlugin)
        listed.append((each.group or name, list(each.options)))
    for name in plugins.available("glancelike.stores"):
        driver = plugins.load("glancelike.stores", name, Store)
        listed.append((name, [*EACH_STORE, *driver.options]))
    return listed


def sample() -> str:
    """Return a sample config file with every option commented out."""
    return sample_of("glancelike")
