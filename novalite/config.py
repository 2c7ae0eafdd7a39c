"""The configuration: read once, checked, frozen, and handed down.

This is the only reader of configuration files and the environment. The
``ConfigOpts`` is made here and never the global ``cfg.CONF``, so two nodes
with different settings fit into one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from oslo_config import cfg

from novalite import config_options, plugins
from novalite.errors import ConfigError
from novalite.scheduler.base import Driver, Hook
from novalite.virt.base import VirtDriver

__all__ = ["Settings", "load", "options"]


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Who may use the API, and where it listens."""

    listen: str
    listen_port: int
    workers: int
    threads: int
    auth_strategy: str
    auth_settings: Mapping[str, Any]
    max_limit: int


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    connection: str = field(repr=False)
    auto_upgrade: bool


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """The driver and the hooks, loaded, each hook with its options' values."""

    driver: type[Driver]
    hooks: tuple[tuple[type[Hook], Mapping[str, Any]], ...]
    max_attempts: int


@dataclass(frozen=True, slots=True)
class GlanceSettings:
    endpoint: str
    username: str | None
    password: str | None = field(repr=False)
    cafile: str | None
    insecure: bool
    timeout: float
    num_retries: int


@dataclass(frozen=True, slots=True)
class ImageCacheSettings:
    directory: Path
    remove_unused: bool
    minimum_age: float
    interval: float


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class QuotaSettings:
    instances: int
    cores: int
    ram: int
    key_pairs: int
    metadata_items: int


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
    rpc_response_timeout: float
    report_interval: float
    service_down_time: float
    redrive_interval: float
    lease_seconds: float
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
    network: NetworkSettings
    quota: QuotaSettings


def load(
    argv: Sequence[str] = (),
    *,
    config_files: Sequence[str] | None = None,
    overrides: Mapping[tuple[str, str], Any] | None = None,
) -> Settings:
    """Read the configuration.

    ``argv`` may hold ``--config-file`` and ``--config-dir``; without either
    ``config_files`` are read, or where that is None, those in oslo.config's
    usual places. ``overrides`` maps (section, option) to values that win
    over all files. Raises ConfigError naming what is wrong and where.
    """
    conf = cfg.ConfigOpts()
    registered = {group: list(opts) for group, opts in config_options.GROUPS.items()}
    for group, opts in registered.items():
        conf.register_opts(opts, group=_named(group))
    overrides = dict(overrides or {})
    try:
        conf(
            args=list(argv),
            project="novalite",
            default_config_files=None if config_files is None else list(config_files),
        )
        _override(conf, overrides, registered)
        virt = plugins.load(plugins.VIRT, conf.compute_driver, VirtDriver)
        driver = plugins.load(
            plugins.SCHEDULER_DRIVERS,
            conf.scheduler.driver,
            Driver,
        )
        hooks = [plugins.load(plugins.SCHEDULER_HOOKS, name, Hook) for name in conf.scheduler.hooks]
        loaded: list[type[VirtDriver] | type[Hook]] = [virt, *hooks]
        for plugin in loaded:
            for group, opts in _plugin_options(plugin).items():
                conf.register_opts(opts, group=_named(group))
                registered.setdefault(group, []).extend(opts)
        _override(conf, overrides, registered)
        if overrides:
            raise ConfigError(f"unknown option: {', '.join(f'[{g}] {o}' for g, o in sorted(overrides))}")
        _refuse_unknown(conf, registered)
        return _settings(_Values(conf, registered), virt, driver, hooks)
    except cfg.ConfigFileParseError as error:
        raise ConfigError(f"{error.config_file}: {error.msg}") from error
    except (cfg.Error, ValueError) as error:
        raise ConfigError(str(error)) from error


def options(
    virt: Iterable[str] = ("libvirt", "fake"), hooks: Iterable[str] = ("capacity", "image_properties")
) -> dict[str, list[cfg.Opt]]:
    """Map each section to its options, with those of the plugins named."""
    found = {group: list(opts) for group, opts in config_options.GROUPS.items()}
    named: list[type[VirtDriver] | type[Hook]] = [
        *(plugins.load(plugins.VIRT, name, VirtDriver) for name in virt),
        *(plugins.load(plugins.SCHEDULER_HOOKS, name, Hook) for name in hooks),
    ]
    for plugin in named:
        for group, opts in _plugin_options(plugin).items():
            found.setdefault(group, []).extend(opts)
    return found


def _plugin_options(plugin: type[VirtDriver] | type[Hook]) -> dict[str, list[cfg.Opt]]:
    """Sort a plugin's options by section.

    They are in the section of the plugin's name unless it names another;
    one that [DEFAULT] has already (``state_path``) is that very option.
    """
    common = {opt.dest for opt in config_options.DEFAULT}
    own = [opt for opt in plugin.options if opt.dest not in common]
    return {getattr(plugin, "group", None) or plugin.name: own} if own else {}


def _named(group: str) -> str | None:
    """Name a section as oslo.config wants it, for which [DEFAULT] is None."""
    return None if group == "DEFAULT" else group


def _override(
    conf: cfg.ConfigOpts, overrides: dict[tuple[str, str], Any], registered: Mapping[str, list[cfg.Opt]]
) -> None:
    for group, name in list(overrides):
        if any(opt.dest == name for opt in registered.get(group, ())):
            value = overrides.pop((group, name))
            conf.set_override(name, value, group=_named(group))


def _refuse_unknown(conf: cfg.ConfigOpts, registered: Mapping[str, list[cfg.Opt]]) -> None:
    known = {group: {opt.dest for opt in opts} for group, opts in registered.items()}
    # Whatever the messaging library reads is its own business, in its own sections.
    for path in [*conf.config_file, *_in_directories(conf.config_dir)]:
        sections: dict[str, dict[str, Any]] = {}
        cfg.ConfigParser(path, sections).parse()
        for section, entries in sections.items():
            if section.startswith("oslo_messaging"):
                continue
            for name in entries:
                if name.replace("-", "_") not in known.get(section, ()):
                    raise ConfigError(f"{path}: unknown option [{section}] {name}")


def _in_directories(directories: Iterable[str] | None) -> list[str]:
    return [str(path) for directory in directories or () for path in sorted(Path(directory).glob("*.conf"))]


class _Values:
    """Reads values; a bad one raises ConfigError naming section and option."""

    def __init__(self, conf: cfg.ConfigOpts, registered: Mapping[str, list[cfg.Opt]]) -> None:
        self._conf = conf
        self._registered = registered

    def get(self, group: str, name: str) -> Any:
        try:
            return self._conf[name] if group == "DEFAULT" else self._conf[group][name]
        except (cfg.Error, ValueError) as error:
            raise ConfigError(f"[{group}] {name}: {error}") from error

    def group(self, group: str) -> dict[str, Any]:
        return {opt.dest: self.get(group, opt.dest) for opt in self._registered[group]}

    def of_plugin(self, plugin: type[VirtDriver] | type[Hook]) -> Mapping[str, Any]:
        own = _plugin_options(plugin)
        values = {opt.dest: self.get(group, opt.dest) for group, opts in own.items() for opt in opts}
        common = {opt.dest: self.get("DEFAULT", opt.dest) for opt in plugin.options if opt.dest not in values}
        return MappingProxyType({**common, **values})


def _settings(
    values: _Values, virt: type[VirtDriver], driver: type[Driver], hooks: Sequence[type[Hook]]
) -> Settings:
    default = values.group("DEFAULT")
    api = values.group("api")
    database = values.group("database")
    glance = values.group("glance")
    cache = values.group("image_cache")
    return Settings(
        host=default["host"],
        my_ip=default["my_ip"],
        zone=default["default_availability_zone"],
        state_path=Path(default["state_path"]),
        instances_path=Path(default["instances_path"]),
        virt_driver=virt,
        virt_settings=values.of_plugin(virt),
        transport_url=default["transport_url"],
        rpc_response_timeout=default["rpc_response_timeout"],
        report_interval=default["report_interval"],
        service_down_time=default["service_down_time"],
        redrive_interval=default["redrive_interval"],
        lease_seconds=default["lease_seconds"],
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
            auth_strategy=api.pop("auth_strategy"),
            max_limit=api.pop("max_limit"),
            auth_settings=MappingProxyType(api),
        ),
        database=DatabaseSettings(**database),
        scheduler=SchedulerSettings(
            driver,
            tuple((hook, values.of_plugin(hook)) for hook in hooks),
            values.get("scheduler", "max_attempts"),
        ),
        glance=GlanceSettings(endpoint=glance.pop("endpoint_override").rstrip("/"), **glance),
        image_cache=ImageCacheSettings(
            directory=Path(cache["directory"]),
            remove_unused=cache["remove_unused_base_images"],
            minimum_age=cache["remove_unused_original_minimum_age_seconds"],
            interval=cache["manager_interval"],
        ),
        network=NetworkSettings(**values.group("network")),
        quota=QuotaSettings(**values.group("quota")),
    )
