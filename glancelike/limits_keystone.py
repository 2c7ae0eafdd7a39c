"""Limits that Keystone keeps for each project: ``use_keystone_limits``.

oslo.limit asks for them (https://docs.openstack.org/oslo.limit); what a
project uses of them, and that it never uses more, is ours to know.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from oslo_config import cfg

from glancelike.errors import ConfigError, PluginError, Unreachable
from glancelike.plugins import Plugin

GROUP = "oslo_limit"
ANSWER_SECONDS = 10  # a Keystone that says nothing for so long is away
REMEMBERED = 4096  # projects
# oslo.limit reads its settings from a global of its own while it connects.
CONNECTING = threading.Lock()


class KeystoneLimits(Plugin):
    """Read a project's unified limits from Keystone, once in ``cache_time`` seconds.

    ``resources`` maps the names of limits to what they are called here and
    the units in one of theirs. A resource that isn't registered in Keystone
    may not be used at all, as with any service that uses oslo.limit.
    """

    group = GROUP
    options = (
        cfg.StrOpt(
            "auth_type",
            default="password",
            deprecated_name="auth_plugin",
            help="How this server proves itself to Keystone to read limits: a plugin of keystoneauth, "
            "whose options are taken here as well, and those of oslo.limit: endpoint_id above all.",
        ),
        cfg.FloatOpt(
            "cache_time",
            min=0.0,
            default=5.0,
            help="Seconds for which limits are remembered. A limit that was raised counts at once all "
            "the same, since nothing is refused before they have been read anew.",
        ),
    )

    def __init__(
        self,
        settings: Mapping[str, Any] = MappingProxyType({}),
        resources: Mapping[str, tuple[str, int]] = MappingProxyType({}),
    ) -> None:
        super().__init__(settings)
        self._resources = resources
        self._limits: dict[str | None, tuple[float, dict[str, int]]] = {}
        self._enforcer: Any = None

    @classmethod
    def further_options(cls, settings: Mapping[str, Any]) -> tuple[cfg.Opt, ...]:
        """Return the options of oslo.limit and of the chosen auth plugin.

        Raises PluginError when a library is missing, ConfigError for an
        ``auth_type`` that isn't installed.
        """
        own = {option.dest for option in cls.options}
        return tuple(option for option in _all_options(settings["auth_type"]) if option.dest not in own)

    def limits(self, project: str, *, fresh: bool = False) -> Mapping[str, int]:
        """Return the project's limits; below 0 there is none.

        Raises Unreachable when Keystone is, ConfigError when it doesn't
        know this service's endpoint.
        """
        registered, own = self._known(None, fresh), self._known(project, fresh)
        found = {}
        for resource, (name, unit) in self._resources.items():
            limit = own.get(resource, registered.get(resource, 0))
            found[name] = limit * unit if limit >= 0 else -1
        return found

    def _known(self, project: str | None, fresh: bool) -> dict[str, int]:
        """Return a project's own limits; None stands for those of all others."""
        until, found = self._limits.get(project, (0.0, {}))
        if fresh or until <= time.monotonic():
            found = self._ask(project)
            if len(self._limits) >= REMEMBERED:
                self._limits.clear()
            self._limits[project] = (time.monotonic() + self.settings["cache_time"], found)
        return found

    def _ask(self, project: str | None) -> dict[str, int]:
        from keystoneauth1.exceptions import ClientException
        from openstack.exceptions import SDKException
        from oslo_limit.exception import SessionInitError

        try:
            if self._enforcer is None:
                self._enforcer = self._connected()
            # Everything at once: for names it would ask once for each.
            asked: list[tuple[str, int]] = (
                self._enforcer.get_registered_limits(None)
                if project is None
                else self._enforcer.get_project_limits(project, None)
            )
        except (ClientException, SDKException, SessionInitError) as error:
            self._enforcer = None
            raise Unreachable(f"Limits can't be read from Keystone: {error}") from error
        except ValueError as error:
            raise ConfigError(f"[{GROUP}]: {error}") from error
        return dict(asked)

    def _connected(self) -> Any:
        """Make an Enforcer that has our settings, and none of anybody else's in this process."""
        from oslo_limit import limit

        conf = self._conf()
        with CONNECTING:
            before = limit.CONF, limit._SDK_CONNECTION
            limit.CONF, limit._SDK_CONNECTION = conf, None
            try:
                return limit.Enforcer(lambda _project, _names: {}, cache=False)
            finally:
                limit.CONF, limit._SDK_CONNECTION = before

    def _conf(self) -> cfg.ConfigOpts:
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[], default_config_dirs=[])
        options = _all_options(self.settings["auth_type"])
        conf.register_opts(options, group=GROUP)
        for option in options:
            if self.settings.get(option.dest) is not None:
                conf.set_override(option.dest, self.settings[option.dest], group=GROUP)
        return conf


def _all_options(auth_type: str) -> list[cfg.Opt]:
    try:
        from keystoneauth1 import loading
        from keystoneauth1.exceptions import NoMatchingPlugin
        from oslo_limit.opts import list_opts
    except ImportError as error:
        raise PluginError(f"use_keystone_limits: {error}; pip install glancelike[keystone]") from error
    try:
        loader: Any = loading.get_plugin_loader(auth_type)
    except NoMatchingPlugin as error:
        raise ConfigError(f"[{GROUP}] auth_type: {error}") from error
    listed = [*loading.get_auth_common_conf_options(), *loading.get_auth_plugin_conf_options(loader)]
    listed += [option for _group, options in list_opts() for option in options]
    # Several auth plugins are listed, which have options of the same names.
    by_name: dict[str, cfg.Opt] = {}
    for option in listed:
        by_name.setdefault(option.dest, option)
    cfg.set_defaults(list(by_name.values()), timeout=ANSWER_SECONDS)
    return list(by_name.values())
