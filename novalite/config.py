"""The configuration: read once, checked, frozen, and handed down.

This is the only reader of configuration files and the environment. The
``ConfigOpts`` is made here and never the global ``cfg.CONF``, so two nodes
with different settings fit into one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from oslo_config import cfg

from glancelike.errors import GlancelikeError
from glancelike.keystone_tokens import options_of
from glancelike.web.auth import Auth
from glancelike.web.options import DEFAULT, OptionError, OptionSet, sample_of
from novalite import config_options, plugins
from novalite.errors import ConfigError
from novalite.model import MIB
from novalite.scheduler.base import Driver, Hook
from novalite.virt.base import VirtDriver

MESSAGING = "oslo_messaging"
DEFAULT_POLICY_FILE = next(opt.default for opt in config_options.POLICY)
Overrides = Mapping[tuple[str, str], Any]

__all__ = ["Settings", "list_opts", "load", "sample"]


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Who may use the API, and where it listens."""

    listen: str
    listen_port: int
    workers: int
    threads: int
    auth: type[Auth]
    auth_settings: Mapping[str, Any]
    max_limit: int


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """``options`` are those of ``glancelike.sql``."""

    connection: str = field(repr=False)
    auto_upgrade: bool
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """The driver and the hooks, loaded, each hook with its options' values."""

    driver: type[Driver]
    hooks: tuple[tuple[type[Hook], Mapping[str, Any]], ...]
    max_attempts: int


@dataclass(frozen=True, slots=True)
class GlanceSettings:
    """The image service. With an ``auth_type`` ``auth`` are that plugin's options, for tokens of our own."""

    endpoint: str
    username: str | None
    password: str | None = field(repr=False)
    cafile: str | None
    insecure: bool
    timeout: float
    num_retries: int
    auth_type: str | None = None
    auth: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def basic(self) -> tuple[str, str] | None:
        """User name and password for HTTP Basic authentication."""
        return (self.username, self.password or "") if self.username and not self.auth_type else None


@dataclass(frozen=True, slots=True)
class LazySettings:
    """How guests boot from images that aren't here. Bytes, seconds, bytes a second; 0 is no limit."""

    enabled: bool
    minimum: int
    read_timeout: float
    fill_delay: float
    fill_rate: float
    boot_trace: bool
    missing_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class ImageCacheSettings:
    """Base images of this host. ``max_size`` is bytes, 0 no limit."""

    directory: Path
    remove_unused: bool
    minimum_age: float
    interval: float
    max_size: int
    local_stores: Mapping[str, Path]
    lazy: LazySettings


@dataclass(frozen=True, slots=True)
class MigrationSettings:
    """How disks are carried between hosts. ``timeout`` is seconds."""

    listen: str
    port: int
    cert: str | None
    key: str | None
    cafile: str | None
    timeout: float


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class MetadataSettings:
    """The metadata service; with a ``shared_secret`` proxies are believed that sign with it."""

    listen: str
    listen_port: int
    workers: int
    require_token: bool
    shared_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """Serial consoles; ``base_url`` is None where they aren't served. Seconds."""

    base_url: str | None
    listen: str
    listen_port: int
    allowed_origins: frozenset[str]
    token_ttl: int


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """The operator's rules; an ``optional`` file needn't be there."""

    file: Path | None
    optional: bool


@dataclass(frozen=True, slots=True)
class QuotaSettings:
    instances: int
    cores: int
    ram: int
    key_pairs: int
    metadata_items: int
    server_groups: int
    server_group_members: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a node is told. Times are seconds."""

    host: str
    my_ip: str
    zone: str
    state_path: Path
    instances_path: Path
    virt_driver: type[VirtDriver]
    virt_settings: Mapping[str, Any]
    transport_url: str = field(repr=False)
    messaging: Mapping[str, Mapping[str, str]] = field(repr=False)  # oslo.messaging's own sections
    rpc_response_timeout: float
    report_interval: float
    service_down_time: float
    redrive_interval: float
    lease_seconds: float
    shelved_offload: bool
    resize_to_same_host: bool
    sync_power_state_interval: float
    max_concurrent_builds: int
    reserved_cpus: int
    reserved_memory_mb: int
    reserved_disk_mb: int
    force_config_drive: bool
    debug: bool
    api: ApiSettings
    database: DatabaseSettings
    scheduler: SchedulerSettings
    glance: GlanceSettings
    image_cache: ImageCacheSettings
    migration: MigrationSettings
    network: NetworkSettings
    metadata: MetadataSettings
    console: ConsoleSettings
    policy: PolicySettings
    quota: QuotaSettings


def load(
    argv: Sequence[str] = (),
    *,
    config_files: Sequence[str] | None = None,
    overrides: Overrides | None = None,
) -> Settings:
    """Read the configuration.

    ``argv`` may hold ``--config-file`` and ``--config-dir``; without either
    ``config_files`` are read, or where that is None, those in oslo.config's
    usual places. ``overrides`` maps (section, option) to values that win
    over all files. Raises ConfigError naming what is wrong and where.
    """
    try:
        values = OptionSet(config_options.GROUPS)
        values.parse(argv, project="novalite", files=config_files)
        # Plugins bring options, and an override may say which plugins.
        left = _override(values, dict(overrides or {}))
        virt = plugins.load(plugins.VIRT, values.get(DEFAULT, "compute_driver"), VirtDriver)
        driver = plugins.load(plugins.SCHEDULER_DRIVERS, values.get("scheduler", "driver"), Driver)
        names = values.get("scheduler", "hooks")
        hooks = [plugins.load(plugins.SCHEDULER_HOOKS, name, Hook) for name in names]
        loaded: list[type[VirtDriver] | type[Hook]] = [virt, *hooks]
        for plugin in loaded:
            for group, opts in _plugin_options(plugin).items():
                values.register(group, opts)
        _register_tokens(values)
        auth = plugins.load(plugins.AUTH, values.get("api", "auth_strategy"), Auth)
        auth_settings = _of_auth(values, auth)
        for group, name in sorted(_override(values, left)):
            raise ConfigError(f"unknown option {name} in [{group}]")
        # What the messaging library reads, in its own sections, is checked where it is read.
        values.refuse_unknown(but=MESSAGING)
        return _settings(values, virt, driver, hooks, (auth, auth_settings))
    except OptionError as error:
        raise ConfigError(str(error)) from error


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """List every option by section, those of our own plugins included.

    For oslo.config's generator, which makes the sample file.
    """
    found = {group: list(opts) for group, opts in config_options.GROUPS.items()}
    installed: list[type[VirtDriver] | type[Hook]] = [
        *(plugins.load(plugins.VIRT, name, VirtDriver) for name in ("fake", "libvirt")),
        *(
            plugins.load(plugins.SCHEDULER_HOOKS, name, Hook)
            for name in ("capacity", "image_properties", "image_locality")
        ),
    ]
    for plugin in installed:
        for group, opts in _plugin_options(plugin).items():
            found.setdefault(group, []).extend(opts)
    for name in plugins.available(plugins.AUTH):
        auth = plugins.load(plugins.AUTH, name, Auth)
        if auth.group:
            found[auth.group] = list(auth.options)
    return list(found.items())


def _plugin_options(plugin: type[VirtDriver] | type[Hook]) -> dict[str, list[cfg.Opt]]:
    """Sort a plugin's options by section.

    They are in the section of the plugin's name unless it names another;
    one that [DEFAULT] has already (``state_path``) is that very option.
    """
    common = {opt.dest for opt in config_options.DEFAULT}
    own = [opt for opt in plugin.options if opt.dest not in common]
    return {getattr(plugin, "group", None) or plugin.name: own} if own else {}


def _override(values: OptionSet, wanted: Overrides) -> Overrides:
    """Override what is registered by now; return the rest."""
    known = {key: value for key, value in wanted.items() if values.has(*key)}
    for (group, name), value in known.items():
        values.override(group, name, value)
    return {key: value for key, value in wanted.items() if key not in known}


def _of_plugin(values: OptionSet, plugin: type[VirtDriver] | type[Hook]) -> Mapping[str, Any]:
    own = _plugin_options(plugin)
    found = {opt.dest: values.get(group, opt.dest) for group, opts in own.items() for opt in opts}
    common = {opt.dest: values.get(DEFAULT, opt.dest) for opt in plugin.options if opt.dest not in found}
    return MappingProxyType({**common, **found})


def _of_auth(values: OptionSet, auth: type[Auth]) -> dict[str, Any]:
    """Read an auth plugin's settings: from its own section, or from [api], which has the others'."""
    if auth.group:
        return values.of_plugin(auth, auth.group)
    return {opt.dest: values.get("api", opt.dest) for opt in auth.options}


def _settings(
    values: OptionSet,
    virt: type[VirtDriver],
    driver: type[Driver],
    hooks: Sequence[type[Hook]],
    auth: tuple[type[Auth], Mapping[str, Any]],
) -> Settings:
    default = values.section(DEFAULT)
    api = values.section("api")
    database = values.section("database")
    cache = values.section("image_cache")
    serial = values.section("serial_console")
    return Settings(
        host=default["host"],
        my_ip=default["my_ip"],
        zone=default["default_availability_zone"],
        state_path=Path(default["state_path"]),
        instances_path=Path(default["instances_path"]),
        virt_driver=virt,
        virt_settings=_of_plugin(values, virt),
        transport_url=default["transport_url"],
        messaging=MappingProxyType(values.told(MESSAGING)),
        rpc_response_timeout=default["rpc_response_timeout"],
        report_interval=default["report_interval"],
        service_down_time=default["service_down_time"],
        redrive_interval=default["redrive_interval"],
        lease_seconds=default["lease_seconds"],
        shelved_offload=default["shelved_offload_time"] == 0,
        resize_to_same_host=default["allow_resize_to_same_host"],
        sync_power_state_interval=default["sync_power_state_interval"],
        max_concurrent_builds=default["max_concurrent_builds"],
        reserved_cpus=default["reserved_host_cpus"],
        reserved_memory_mb=default["reserved_host_memory_mb"],
        reserved_disk_mb=default["reserved_host_disk_mb"],
        force_config_drive=default["force_config_drive"],
        debug=default["debug"],
        api=ApiSettings(
            listen=default["osapi_compute_listen"],
            listen_port=default["osapi_compute_listen_port"],
            workers=default["osapi_compute_workers"],
            threads=default["threads"],
            auth=auth[0],
            auth_settings=MappingProxyType(auth[1]),
            max_limit=api["max_limit"],
        ),
        database=DatabaseSettings(
            database.pop("connection"), database.pop("auto_upgrade"), MappingProxyType(database)
        ),
        scheduler=SchedulerSettings(
            driver,
            tuple((hook, _of_plugin(values, hook)) for hook in hooks),
            values.get("scheduler", "max_attempts"),
        ),
        glance=_glance(values),
        image_cache=ImageCacheSettings(
            directory=Path(cache["directory"]),
            remove_unused=cache["remove_unused_base_images"],
            minimum_age=cache["remove_unused_original_minimum_age_seconds"],
            interval=cache["manager_interval"],
            max_size=cache["max_size_mb"] * MIB,
            local_stores=MappingProxyType({name: Path(each) for name, each in cache["local_stores"].items()}),
            lazy=LazySettings(
                enabled=cache["lazy_boot"],
                minimum=cache["lazy_boot_minimum_mb"] * MIB,
                read_timeout=cache["lazy_read_timeout"],
                fill_delay=cache["lazy_fill_delay"],
                fill_rate=cache["lazy_fill_rate_mb"] * MIB,
                boot_trace=cache["boot_trace"],
                missing_timeout=cache["lazy_missing_timeout"],
            ),
        ),
        migration=MigrationSettings(**values.section("migration")),
        network=NetworkSettings(**values.section("network")),
        metadata=MetadataSettings(
            listen=default["metadata_listen"],
            listen_port=default["metadata_listen_port"],
            workers=default["metadata_workers"],
            require_token=values.get("metadata", "require_token"),
            shared_secret=_shared_secret(values),
        ),
        console=ConsoleSettings(
            base_url=serial["base_url"] if serial["enabled"] else None,
            listen=serial["serialproxy_host"],
            listen_port=serial["serialproxy_port"],
            allowed_origins=frozenset(each.lower() for each in values.get("console", "allowed_origins")),
            token_ttl=values.get("consoleauth", "token_ttl"),
        ),
        policy=_policy(values),
        quota=QuotaSettings(**values.section("quota")),
    )


def _policy(values: OptionSet) -> PolicySettings:
    """Find the policy file: beside the configuration files, where a relative path is meant from."""
    told = values.get("oslo_policy", "policy_file")
    if told == DEFAULT_POLICY_FILE:
        return PolicySettings(values.beside(told), optional=True)
    return PolicySettings((values.beside(told) or Path(told)) if told else None, optional=False)


def _register_tokens(values: OptionSet) -> None:
    """Have [glance] take the options of the plugin that its ``auth_type`` names."""
    auth_type = values.get("glance", "auth_type")
    if auth_type:
        try:
            options = options_of(auth_type, "glance")
        except GlancelikeError as error:
            raise ConfigError(str(error)) from error
        # Some are for HTTP Basic as well.
        values.register("glance", [opt for opt in options if not values.has("glance", opt.dest)])


def _glance(values: OptionSet) -> GlanceSettings:
    told = values.section("glance")
    own = {opt.dest for opt in config_options.GLANCE} - {"endpoint_override"}
    auth: dict[str, Any] = {}
    if told["auth_type"]:
        names = {opt.dest for opt in options_of(told["auth_type"], "glance")}
        auth = {name: value for name, value in told.items() if name in names}
    return GlanceSettings(
        endpoint=told["endpoint_override"].rstrip("/"), auth=auth, **{name: told[name] for name in own}
    )


def _shared_secret(values: OptionSet) -> str:
    """Return what metadata proxies sign with, empty where they aren't believed."""
    told = values.section("neutron")
    secret = str(told["metadata_proxy_shared_secret"])
    if told["service_metadata_proxy"] and not secret:
        raise ConfigError(
            "[neutron] service_metadata_proxy needs metadata_proxy_shared_secret: without one anybody "
            "could say which server asks"
        )
    return secret if told["service_metadata_proxy"] else ""


def sample() -> str:
    """Return a sample config file with every option commented out."""
    return sample_of("novalite")
