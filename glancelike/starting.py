"""What a program does to start fast: no work that most starts have no use for.

Python's cyclic garbage collector goes through all that is imported again and again,
a hundred and fifty times, and twice more at the exit: a third of the CPU of a short
command. Nothing of it is garbage. It also writes to every object it looks at, so that
workers share less memory with the process they were forked from.

And some libraries compile hundreds of regular expressions when they are imported, for
functions that are called seldom or never. ``Later`` stands for them meanwhile; in our
own processes only, since a program that imports the library may have other plans with them.
"""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

# What oslo.config imports for a type of option that we don't have, oslo.policy to read a policy
# file, and to mask passwords in what it logs at level DEBUG.
SELDOM = ("rfc3986", "yaml", "oslo_utils.strutils")


class Later(ModuleType):
    """Stands for a module until somebody asks for what is in it; thread-safe.

    Unlike that of importlib's LazyLoader, whose module another thread may
    find half made, and which every further ``import`` loads.
    """

    _lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        # The import system and debuggers ask every module for such names, but for one:
        # that is asked for what lies in a package.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        with self._lock:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
            module = importlib.import_module(self.__name__)
        return getattr(module, name)


def put_off(name: str) -> None:
    """Let a module be imported when somebody asks for what is in it, unless it is already."""
    if name not in sys.modules:
        sys.modules[name] = later = Later(name)
        package, _, last = name.rpartition(".")
        if package:
            # That is where ``from package import last`` looks.
            setattr(importlib.import_module(package), last, later)


@contextmanager
def starting() -> Iterator[None]:
    """Run a program, its start without a collector, and its end too."""
    gc.disable()
    for name in SELDOM:
        put_off(name)
    try:
        yield
    finally:
        gc.freeze()


def settle() -> None:
    """Say that a start is over: what there is is never looked at again, the rest as ever.

    Does nothing in a process that wasn't started by ``starting``.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
