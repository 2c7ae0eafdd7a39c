"""The configuration of ``glancelike-registry``: options, and their frozen values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oslo_config import cfg

from glancelike import plugins
from glancelike.config_options import STATE
from glancelike.config_plugins import DATABASE, PluginConfig, registry_of
from glancelike.errors import ConfigError
from glancelike.registry.base import Registry
from glancelike.registry.secret import OPTIONS as SECRET
from glancelike.registry.secret import secrets_of
from glancelike.web.auth import is_loopback
from glancelike.web.options import DEFAULT, OptionError, OptionSet, sample_of

OPTIONS = (
    cfg.HostAddressOpt(
        "bind_host",
        default="127.0.0.1",
        help="Address to listen on. Any other than loopback needs registry_secret_file.",
    ),
    cfg.PortOpt("bind_port", default=9191, help="Port to listen on."),
    cfg.IntOpt("workers", min=1, default=1, help="Processes that serve requests."),
    cfg.IntOpt(
        "threads", min=1, default=16, help="Threads of each worker: calls that it carries out at once."
    ),
    cfg.StrOpt(
        "certfile",
        help="The server's certificate in PEM, with those that lead to its authority: with it callers use "
        "https. SIGHUP has it read again.",
    ),
    cfg.StrOpt("keyfile", help="The certificate's key; in certfile by default."),
    cfg.StrOpt(
        "state_path", default=STATE, help="Directory of the SQLite database, where connection names no other."
    ),
    cfg.BoolOpt("debug", default=False, help="Log debug messages."),
    cfg.StrOpt(
        "registry",
        default="sql",
        help="Registry backend to serve: the name of a plugin of glancelike.registries.",
    ),
    *SECRET,
)
FIXED = {DEFAULT: OPTIONS}
PROG = "glancelike-registry"
COMMANDS = f"""`{PROG} upgrade` with the same options makes or alters the tables, and ends.
`{PROG} sample` prints a sample configuration."""


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """Everything that a registry server's configuration says, checked."""

    bind_host: str
    bind_port: int
    workers: int
    threads: int
    debug: bool
    certfile: Path | None
    keyfile: Path | None
    secret: Mapping[str, Any]  # options, so that each worker reads the file anew
    registry: PluginConfig


def load(argv: Sequence[str] = ()) -> RegistryConfig:
    """Read the command line and the config files.

    Raises ConfigError, also where the server would be open to other hosts
    without a secret.
    """
    try:
        options = OptionSet(FIXED)
        # Not glancelike's own project: its glancelike.conf is the Image API's.
        options.parse(argv, project=PROG, prog=PROG, epilog=COMMANDS)
        return _read(options)
    except OptionError as error:
        raise ConfigError(str(error)) from error


def _read(options: OptionSet) -> RegistryConfig:
    conf = options.section(DEFAULT)
    registry = registry_of(options, conf["registry"], conf["state_path"])
    options.refuse_unknown()
    secret = {opt.dest: conf[opt.dest] for opt in SECRET}
    if not secrets_of(secret) and not is_loopback(conf["bind_host"]):
        raise ConfigError(
            f"bind_host {conf['bind_host']} isn't loopback: whoever reaches this server could do everything. "
            "Set registry_secret_file"
        )
    if conf["keyfile"] and not conf["certfile"]:
        raise ConfigError("keyfile is set, but no certfile")
    return RegistryConfig(
        conf["bind_host"],
        conf["bind_port"],
        conf["workers"],
        conf["threads"],
        conf["debug"],
        _file(conf, "certfile"),
        _file(conf, "keyfile"),
        secret,
        registry,
    )


def _file(conf: dict[str, str | None], name: str) -> Path | None:
    value = conf[name]
    return Path(value) if value else None


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """List every option by section, for oslo.config's generator."""
    sql = plugins.load("glancelike.registries", "sql", Registry)
    return [(DEFAULT, list(OPTIONS)), (DATABASE, list(sql.options))]


def sample() -> str:
    """Return a sample config file with every option commented out."""
    return sample_of("glancelike.registry")
