"""The one place that imports oslo.policy, and keeps it from loading what most starts never use.

Of a start that does nothing two thirds would be these:

- It asks stevedore for further kinds of checks when the first rule is made. stevedore looks at every
  installed distribution where its cache can't be used, and loads what it finds: ``requests``, for the
  ``http:`` checks. Here each is loaded when a rule has one.
- ``oslo_utils.strutils`` compiles 420 regular expressions to mask passwords in logs. It is loaded when
  something masks one: oslo.policy does at level DEBUG.

Should a later oslo.policy look elsewhere, then all of this is loaded, and nothing else changes.
"""

from __future__ import annotations

import importlib
import sys
import threading
from functools import partial
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

from glancelike import plugins

STRUTILS = "oslo_utils.strutils"


class Later(ModuleType):
    """Stands for a module until somebody asks for what is in it."""

    _lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system and debuggers ask every module
            raise AttributeError(name)
        with self._lock:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
            module = importlib.import_module(self.__name__)
        return getattr(module, name)


if STRUTILS not in sys.modules:
    # On its package as well: that is where ``from oslo_utils import strutils`` looks.
    importlib.import_module("oslo_utils").strutils = sys.modules[STRUTILS] = Later(STRUTILS)  # type: ignore[attr-defined]

from oslo_policy import _checks, opts, policy  # noqa: E402 - after what stands for strutils


def _extension(entry: EntryPoint, kind: str, match: str) -> Any:
    return entry.load()(kind, match)


if _checks.extension_checks is None:
    _checks.extension_checks = {
        entry.name: partial(_extension, entry) for entry in plugins.installed("oslo.policy.rule_checks")
    }

__all__ = ["opts", "policy"]
