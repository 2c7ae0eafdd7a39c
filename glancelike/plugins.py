"""The one place that knows stevedore: load plugins by configured name.

Only names that the configuration gives are looked at, so the configuration
is the allow-list, and a driver's own imports cost nothing until it is used.
Classes are loaded, never instances: what a driver's truth value or
constructor does is its own business.
"""

from __future__ import annotations

import inspect
import sys
from abc import ABC
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from glancelike.errors import BrokenPlugin, ConfigError, PluginError


class Plugin(ABC):  # noqa: B024 - each contract adds its own abstract methods
    """What store drivers and registry backends share.

    ``options`` are oslo.config options (name, type, default, help, secret):
    configuration, documentation and the command line follow from them.
    ``settings`` maps their names to values; a missing name means its
    default, so that a plugin can be made without oslo.config. The
    constructor does no I/O: ``open`` does, after the server has forked.

    ``group`` is the section of the configuration that the options are in,
    where that is another than the contract's usual one.
    """

    schemes: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[tuple[Any, ...]] = ()
    group: ClassVar[str | None] = None

    @classmethod
    def further_options(cls, settings: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return options that there are only with these values of ``options``.

        They are in the same section, and in no sample file.
        """
        return ()

    def __init__(self, settings: Mapping[str, Any]) -> None:
        known = {opt.dest: opt.default for opt in self.options}
        further = self.further_options({**known, **settings})
        known |= {opt.dest: opt.default for opt in further}
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise ConfigError(f"{type(self).__name__}: unknown option {', '.join(unknown)}")
        self.settings: Mapping[str, Any] = {**known, **settings}

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        """Turn a short URI such as ``file:///srv/images`` into settings.

        Raises ConfigError when the plugin has no such form.
        """
        raise ConfigError(f"{cls.__name__} can't be configured by a URI: {uri}")

    def open(self) -> None:  # noqa: B027 - optional to override
        """Connect and check, early and clearly."""

    def close(self) -> None:  # noqa: B027 - optional to override
        """Release everything."""


C = TypeVar("C")
P = TypeVar("P", bound=Plugin)


def load(namespace: str, name: str, contract: type[C]) -> type[C]:
    """Return the plugin class called ``name``, checked against its contract.

    Raises PluginError, which says what is missing and what there is; a
    BrokenPlugin where the plugin is there and its own code is at fault.
    """
    from stevedore import named

    class Manager(named.NamedExtensionManager[Any]):
        def list_entry_points(self) -> list[EntryPoint]:
            # stevedore remembers entry points on disk, and so doesn't see
            # what was installed or removed since.
            return list(installed(self.namespace))

    failures: list[BaseException] = []
    found: list[Any] = []
    try:
        manager = Manager(
            namespace,
            [name],
            invoke_on_load=False,
            on_missing_entrypoints_callback=lambda _names: None,
            on_load_failure_callback=lambda _manager, _entry, error: failures.append(error),
        )
        found += [extension.plugin for extension in manager.extensions]
    except (AssertionError, SystemExit) as error:
        # What stevedore lets through, a module may raise as well as anything else.
        failures.append(error)
    if failures:
        why = str(failures[0]) or type(failures[0]).__name__
        raise BrokenPlugin(f"{namespace} {name!r} can't be loaded: {why}") from failures[0]
    if not found:
        offered = ", ".join(available(namespace)) or "none"
        raise PluginError(
            f"{namespace} {name!r} isn't installed (installed: {offered}); "
            f"install the distribution that provides it"
        )
    if len(found) > 1:
        raise PluginError(f"{namespace} {name!r} is provided {len(found)} times: uninstall all but one")
    return check(namespace, name, found[0], contract)


def check(namespace: str, name: str, plugin: object, contract: type[C]) -> type[C]:
    """Return the plugin if it is a complete class of the contract."""
    if not (isinstance(plugin, type) and issubclass(plugin, contract)):
        raise BrokenPlugin(
            f"{namespace} {name!r}: {plugin!r} isn't a subclass of {contract.__module__}.{contract.__name__}"
        )
    if inspect.isabstract(plugin):
        missing = ", ".join(sorted(getattr(plugin, "__abstractmethods__", ())))
        raise BrokenPlugin(f"{namespace} {name!r}: {plugin.__name__} lacks {missing}")
    return plugin


def available(namespace: str) -> list[str]:
    """List the names installed under a namespace, without importing them."""
    return sorted({entry.name for entry in installed(namespace)})


def installed(namespace: str) -> EntryPoints:
    """Return what is installed under a namespace, not imported."""
    found: EntryPoints = _entry_points(tuple(sys.path)).select(group=namespace)
    return found


@lru_cache(maxsize=4)
def _entry_points(_path: tuple[str, ...]) -> Any:
    """Read all entry points, once for a process: it takes some 30 ms."""
    return entry_points()


def for_uri(namespace: str, uri: str, contract: type[P]) -> tuple[type[P], dict[str, Any]]:
    """Find the plugin for a URI and turn the URI into its settings.

    The scheme (up to a ``+``, as in ``postgresql+psycopg``) is looked up
    among the plugins' names first, then among the schemes they declare.
    """
    scheme = urlsplit(uri).scheme
    if not scheme:
        raise ConfigError(f"{uri!r} has no scheme: expected something like file:///srv/images")
    names = available(namespace)
    wanted = scheme.partition("+")[0]
    ordered = sorted(names, key=lambda name: name != wanted)
    for name in ordered:
        plugin = load(namespace, name, contract)
        if wanted == name or wanted in plugin.schemes:
            return plugin, plugin.settings_from_uri(uri)
    raise PluginError(f"no {namespace} plugin for {scheme}:// is installed (installed: {', '.join(names)})")
