"""Plugins by configuration: their name, their class and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from glancelike import plugins
from glancelike.registry.base import Registry
from glancelike.web.options import OptionSet

DATABASE = "database"
P = TypeVar("P", bound=plugins.Plugin)


@dataclass(frozen=True, slots=True)
class PluginConfig:
    """A plugin's name, its class and its settings."""

    name: str
    plugin: type[plugins.Plugin]
    settings: Mapping[str, Any]

    def make(self, contract: type[P]) -> P:
        """Make the plugin, not yet opened; raise what its constructor does."""
        made = self.plugin(self.settings)
        assert isinstance(made, contract)  # noqa: S101 - plugins.load has checked it
        return made


def plugin_of(
    options: OptionSet,
    namespace: str,
    name: str,
    contract: type[Any],
    group: str,
    defaults: Mapping[str, Any],
) -> PluginConfig:
    """Load a plugin, register its options, in ``group`` as a rule, and read them.

    ``defaults`` fill in what the configuration leaves open, where the plugin
    has such an option.
    """
    plugin = plugins.load(namespace, name, contract)
    values = options.of_plugin(plugin, group)
    # An option for several (datadirs) stands for that of one (datadir), too.
    settings = {
        dest: defaults.get(dest) if value is None and not values.get(f"{dest}s") else value
        for dest, value in values.items()
    }
    return PluginConfig(name, plugin, settings)


def registry_of(options: OptionSet, name: str, state: str) -> PluginConfig:
    """Read the options of a registry backend; an SQLite database in ``state`` is the default."""
    database = {"connection": f"sqlite:///{Path(state).absolute() / 'glancelike.db'}"}
    return plugin_of(options, "glancelike.registries", name, Registry, DATABASE, database)
