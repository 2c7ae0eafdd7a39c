"""glancelike: an image service that is a library first.

``open_service`` is the way in for programs::

    import glancelike

    with glancelike.open_service("sqlite:///images.db", stores={"fast": "file:///srv/images"}) as images:
        ...

Importing this package is light: SQLAlchemy, Falcon and the drivers load
when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glancelike import errors
    from glancelike.embedded import open_service
    from glancelike.model import Caller, Change, ChangeOp, Filter, Image, Op, Query, SortKey
    from glancelike.service import ImageService

_HOME = {
    "open_service": "glancelike.embedded",
    "ImageService": "glancelike.service",
    "Caller": "glancelike.model",
    "Change": "glancelike.model",
    "ChangeOp": "glancelike.model",
    "Filter": "glancelike.model",
    "Image": "glancelike.model",
    "Op": "glancelike.model",
    "Query": "glancelike.model",
    "SortKey": "glancelike.model",
}

__all__ = [
    "Caller",
    "Change",
    "ChangeOp",
    "Filter",
    "Image",
    "ImageService",
    "Op",
    "Query",
    "SortKey",
    "errors",
    "open_service",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "errors":
        return import_module("glancelike.errors")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
