"""The library's way in: an ImageService from URIs, without a config file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glancelike import plugins
from glancelike.errors import ConfigError
from glancelike.policy import Policy
from glancelike.registry.base import Registry
from glancelike.service import ImageService, Settings
from glancelike.stores.base import Store
from glancelike.transfer import check_algorithm
from glancelike.vfs import MountTable


def open_service(
    registry: str | Registry,
    *,
    stores: Mapping[str, str | Store],
    default_store: str | None = None,
    upgrade: bool = True,
    **settings: Any,
) -> ImageService:
    """Return an ImageService over a registry and stores, opened.

    ``registry`` is a URI (``sqlite:///images.db``, ``memory://``) or a
    backend; ``stores`` maps ids to URIs (``file:///srv/images``) or drivers,
    the first being the default. ``upgrade`` brings the schema up to date.
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
    drivers = {name: store if isinstance(store, Store) else _store(store) for name, store in stores.items()}
    if upgrade:
        backend.upgrade()
    service = ImageService(backend, MountTable(drivers, default=default_store), Policy(), limits)
    service.open()
    return service


def _registry(uri: str) -> Registry:
    backend, settings = plugins.for_uri("glancelike.registries", uri, Registry)
    return backend(settings)


def _store(uri: str) -> Store:
    driver, settings = plugins.for_uri("glancelike.stores", uri, Store)
    return driver(settings)
