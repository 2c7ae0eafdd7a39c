"""The message queue's transport, made of a URL and the operator's options for the library.

The one module that knows oslo.messaging; ``rpc`` says what is sent.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from oslo_config import cfg

from novalite import inprocess
from novalite.errors import ConfigError

# It imports eventlet, and doesn't use it. Half of that would be a resolver of names.
os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")
with warnings.catch_warnings():
    # eventlet warns that it is going away.
    warnings.simplefilter("ignore")
    import oslo_messaging as messaging
    from oslo_messaging._metrics import client as metrics
    from oslo_messaging._tracing import client as tracing

# It warns that queues in memory are experimental, each time one is made.
logging.getLogger("oslo.messaging._drivers.impl_rabbit").addFilter(
    lambda record: "experimental feature" not in str(record.msg)
)
__all__ = ["NO_OPTIONS", "Options", "make", "messaging"]

Options = Mapping[str, Mapping[str, str]]
NO_OPTIONS: Options = MappingProxyType({})


def make(url: str, told: Options = NO_OPTIONS) -> Any:
    """Return a transport, which connects when it is used; raise ConfigError.

    ``told`` are the library's options as text, by section
    (``oslo_messaging_rabbit``: TLS, quorum queues, heartbeats).
    """
    if "://" not in url:
        raise ConfigError(f"transport_url {url!r} isn't a URL")
    conf = _conf(told)
    if url.startswith(inprocess.URL):
        url = "kombu+inprocess://localhost/?heartbeat_timeout_threshold=0"
    try:
        return messaging.get_rpc_transport(conf, url=url, allowed_remote_exmods=["novalite.errors"])
    except (messaging.InvalidTransportURL, messaging.DriverLoadFailure, ValueError, RuntimeError) as error:
        shown = str(error).replace(url, "the URL")  # it has a password
        raise ConfigError(f"transport_url: {shown}") from error


def _conf(told: Options) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf(args=[], project="novalite", default_config_files=[], default_config_dirs=[])
    # The library looks for these two in whatever ConfigOpts it is given,
    # but registers them with the global one only.
    conf.register_opts(tracing.oslo_messaging_tracing, group="oslo_messaging_tracing")
    conf.register_opts(metrics.oslo_messaging_metrics, group="oslo_messaging_metrics")
    if not any(told.values()):
        return conf
    from oslo_messaging import opts

    known = {group: list(listed) for group, listed in opts.list_opts()}
    for section, values in told.items():
        if values and section not in known:
            raise ConfigError(f"nothing reads the section [{section}]")
        conf.register_opts(known[section], group=section)
        names = {name: opt.dest for opt in known[section] for name in _names(opt)}
        for name, text in values.items():
            if name not in names:
                raise ConfigError(f"unknown option {name} in [{section}]")
            try:
                conf.set_override(names[name], text, group=section)
            except ValueError as error:
                raise ConfigError(f"[{section}] {name}: {error}") from error
    return conf


def _names(opt: cfg.Opt) -> set[str]:
    old = (each.name for each in opt.deprecated_opts if each.name)
    return {opt.dest, *(name.replace("-", "_") for name in old)}
