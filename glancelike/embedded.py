"""The library's way in: an ImageService from URIs, without a config file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glancelike import plugins
from glancelike.cache import ImageCache
from glancelike.errors import ConfigError
from glancelike.policy import Policy
from glancelike.registry.base import Registry
from glancelike.service import ImageService, Settings
from glancelike.stores.base import Store
from glancelike.transfer import check_algorithm
from glancelike.vfs import MountOptions, MountTable


def open_service(
    registry: str | Registry,
    *,
    stores: Mapping[str, str | Store],
    default_store: str | None = None,
    staging: str | Store | None = None,
    store_options: Mapping[str, MountOptions] | None = None,
    cache: ImageCache | None = None,
    upgrade: bool = True,
    **settings: Any,
) -> ImageService:
    """Return an ImageService over a registry and stores, opened.

    ``registry`` is a URI (``sqlite:///images.db``, ``memory://``) or a
    backend; ``stores`` maps ids to URIs (``file:///srv/images``) or drivers,
    the first being the default. ``staging`` is where data waits for its
    import: by default a directory inside the default store's, where that is
    ``file://``, else memory. ``store_options`` say how stores are mounted:
    description, weight, read-only. ``cache`` keeps what lies in remote stores on
    the local disk. ``upgrade`` brings the schema up to date.
    ``settings`` are fields of ``service.Settings``. Use it as a context
    manager, or call ``close``.

    Raises ConfigError, RegistryError or StoreError; then nothing is open.
    """
    try:
        limits = Settings(**settings)
    except TypeError as error:
        raise ConfigError(f"unknown setting: {error}") from error
    check_algorithm(limits.hashing_algorithm)
    backend = registry if isinstance(registry, Registry) else _registry(registry)
    drivers = {name: _store(store) for name, store in stores.items()}
    if staging is None:
        staging = _staging(stores.get(default_store or next(iter(stores), "")))
    mounts = MountTable(drivers, default=default_store, options=store_options, staging=_store(staging))
    if upgrade:
        backend.upgrade()
    service = ImageService(backend, mounts, Policy(), limits, cache=cache)
    service.open()
    return service


def _registry(uri: str) -> Registry:
    backend, settings = plugins.for_uri("glancelike.registries", uri, Registry)
    return backend(settings)


def _store(given: str | Store) -> Store:
    if isinstance(given, Store):
        return given
    driver, settings = plugins.for_uri("glancelike.stores", given, Store)
    return driver(settings)


def _staging(default: str | Store | None) -> str | Store:
    """Choose where data waits for its import, by the default store."""
    if isinstance(default, Store):
        # Another one of the same: looking up a plugin takes longer.
        return type(default)({}) if "memory" in default.schemes else "memory://"
    if default is not None and default.startswith("file://"):
        # No key begins with a dot, so the store passes the directory over.
        return f"{default.partition('?')[0].rstrip('/')}/.staging"
    return "memory://"
