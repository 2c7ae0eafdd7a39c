"""Ceph's bindings, which pip can't install, and what their errors mean.

``rados`` and ``rbd`` come with the distribution's packages, built for its
Python. A virtual environment doesn't see them; opening up all of the
system's packages for the sake of two would change what else is imported,
so just these two are loaded from where they lie.
"""

from __future__ import annotations

import errno
import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple

from glancelike.errors import (
    BlobExists,
    BlobInUse,
    BlobNotFound,
    ConfigError,
    StoreDenied,
    StoreError,
    StoreFault,
    StoreFull,
    StoreUnavailable,
)

FOLDERS = (Path("/usr/lib/python3/dist-packages"),)
_LOADING = threading.Lock()

_BY_ERRNO: dict[int, type[StoreError]] = {
    errno.ENOENT: BlobNotFound,
    errno.EEXIST: BlobExists,
    **dict.fromkeys((errno.EBUSY, errno.ENOTEMPTY), BlobInUse),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), StoreFull),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), StoreDenied),
    **dict.fromkeys(
        (
            errno.ETIMEDOUT,
            errno.ENOTCONN,
            errno.ECONNREFUSED,
            errno.ECONNRESET,
            errno.EHOSTUNREACH,
            errno.ENETUNREACH,
            errno.EAGAIN,
            errno.EINTR,
            errno.ECANCELED,
            errno.ESHUTDOWN,  # this client was put on the blocklist
        ),
        StoreUnavailable,
    ),
}


class Ceph(NamedTuple):
    """The two modules."""

    rados: Any
    rbd: Any

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Return what the modules raise."""
        return (self.rados.Error, self.rbd.Error)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn Ceph's errors into the StoreErrors that they mean."""
        try:
            yield
        except self.errors as error:
            raise meaning(error) from error


def load() -> Ceph:
    """Import ``rados`` and ``rbd``, from outside a virtual environment if need be.

    Raises ConfigError that says what to install.
    """
    with _LOADING:
        # rbd itself imports rados, so rados comes first.
        return Ceph(_module("rados"), _module("rbd"))


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise _missing(name, str(error)) from error
    except ImportError as error:
        raise _missing(name, str(error)) from error
    for folder in FOLDERS:
        for suffix in EXTENSION_SUFFIXES:
            path = folder / f"{name}{suffix}"
            if path.exists():
                return _loaded(name, path)
    others = [path.name for folder in FOLDERS for path in folder.glob(f"{name}.*.so")]
    raise _missing(name, f"found only {', '.join(others)}" if others else "not found")


def _loaded(name: str, path: Path) -> Any:
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _missing(name, f"{path} is no module")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        del sys.modules[name]
        raise _missing(name, str(error)) from error
    return module


def _missing(name: str, why: str) -> ConfigError:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return ConfigError(
        f"the rbd store needs Ceph's Python module {name!r}, built for Python {version} ({why}): "
        f"install the packages python3-rados and python3-rbd"
    )


def meaning(error: Exception) -> StoreError:
    """Return the StoreError that stands for an error of the bindings."""
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return by_number(number, str(error))
    return StoreFault(f"{type(error).__name__}: {error}")


def by_number(number: int, said: str) -> StoreError:
    """Return the StoreError that stands for an error number, whatever its sign."""
    return _BY_ERRNO.get(abs(number), StoreFault)(said)
