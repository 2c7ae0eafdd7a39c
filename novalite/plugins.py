"""Where novalite's plugins are registered, and loading them by configured name.

The loader is glancelike's, which is the one place that knows stevedore: only
names that the configuration gives are looked at, and classes are loaded,
never instances.
"""

from __future__ import annotations

from typing import TypeVar

from glancelike import plugins
from glancelike.errors import PluginError
from novalite.errors import ConfigError

VIRT = "novalite.virt"
SCHEDULER_DRIVERS = "novalite.scheduler.drivers"
SCHEDULER_HOOKS = "novalite.scheduler.hooks"
AUTH = "glancelike.auth"

C = TypeVar("C")


def load(namespace: str, name: str, contract: type[C]) -> type[C]:
    """Return the plugin class called ``name``, checked against its contract.

    Raises ConfigError, which says what is missing and what there is.
    """
    try:
        return plugins.load(namespace, name, contract)
    except PluginError as error:
        raise ConfigError(str(error)) from error


def available(namespace: str) -> list[str]:
    """List the names installed under a namespace, without importing them."""
    return plugins.available(namespace)
