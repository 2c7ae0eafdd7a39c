"""Locations of an image's data: shown as URLs, and named by callers.

A location is a mounted store's id and a key. As a URL it is what the store's
driver says, where that lets callers name blobs (``Cap.URLS``), else
``<scheme>://<store id>/<key>``: never a path of a host or a credential. A
caller can name nothing in a store of the other kind, so no file of a host.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from glancelike.errors import (
    Forbidden,
    ImageNotFound,
    ImageTooLarge,
    InvalidInput,
    InvalidKey,
    StoreError,
    UnknownStore,
)
from glancelike.model import Caller, Image, Location
from glancelike.service.context import Context
from glancelike.service.ingest import discard, image_of
from glancelike.stores.base import Cap
from glancelike.vfs import STAGING

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """Where an image's data lies, as its caller may know it.

    ``locations`` is None where locations aren't shown at all.
    """

    stores: tuple[str, ...] = ()
    direct_url: str | None = None
    locations: tuple[Mapping[str, Any], ...] | None = None


def places(context: Context, caller: Caller, image: Image) -> Places:
    """Return what the caller may know of the image's locations, in reading order."""
    ordered = context.mounts.ordered(image.locations)
    stores = tuple(dict.fromkeys(location.store for location in ordered))
    if not stores and image.staged is not None and image.staged.store != STAGING:
        stores = (image.staged.store,)
    settings = context.settings
    if not (settings.show_multiple_locations or settings.show_image_direct_url):
        return Places(stores)
    shown = ordered if _may_read(context, caller, image) else ()
    return Places(
        stores,
        url_of(context, shown[0]) if settings.show_image_direct_url and shown else None,
        tuple(described(context, each) for each in shown) if settings.show_multiple_locations else None,
    )


def _may_read(context: Context, caller: Caller, image: Image) -> bool:
    try:
        context.policy.check(caller, "get_image_location", image)
    except (Forbidden, ImageNotFound):
        return False
    return True


def described(context: Context, location: Location) -> dict[str, Any]:
    """Return a location as the Image API writes it."""
    return {
        "url": url_of(context, location),
        "metadata": {**location.metadata, "store": location.store},
    }


def url_of(context: Context, location: Location) -> str:
    """Return the URL that a location is shown as."""
    scheme = "store"
    try:
        store = context.mounts[location.store].store
        if Cap.URLS in store.capabilities:
            return store.url_of(location.key)
        scheme = next(iter(store.driver.schemes), scheme)
    except (UnknownStore, StoreError):
        LOG.debug("no URL of %s in store %s", location.key, location.store)
    return f"{scheme}://{location.store}/{quote(location.key)}"


def resolve(context: Context, image_id: str, url: str, *, schemes: Iterable[str] | None = None) -> Location:
    """Return the location that a URL names, in a store that lets callers do so.

    ``schemes`` limits it to such stores. A blob that this service, or a Glance
    before it, wrote for another image can't be named: its data is none of the caller's business.
    Raises InvalidInput, ForbiddenUrl.
    """
    try:
        scheme, authority, *_ = urlsplit(url)
    except ValueError as error:
        raise InvalidInput(f"Invalid location: {error}") from None
    if "@" in authority:
        raise InvalidInput("Invalid location: its URL must not hold a user name or a password")
    fault: InvalidInput | None = None
    for mount in context.mounts:
        if Cap.URLS not in mount.store.capabilities or scheme not in mount.store.driver.schemes:
            continue
        if schemes is not None and not set(schemes) & set(mount.store.driver.schemes):
            continue
        try:
            key = mount.store.key_of(url)
        except InvalidInput as error:
            fault = fault or error
            continue
        except InvalidKey as error:
            fault = fault or InvalidInput(f"Invalid location: {error}")
            continue
        if image_of(mount.store, key, of_glance=True) not in (None, image_id):
            raise InvalidInput("Invalid location: it is another image's data")
        return Location(mount.id, key)
    raise fault or InvalidInput(f"Invalid location: no store here is read by URLs of the scheme {scheme!r}")


def size_at(context: Context, location: Location) -> int:
    """Return the size of the data at a location; raise InvalidInput or ImageTooLarge.

    Why it can't be read is told to the log alone: a caller is not to learn
    what answers where.
    """
    try:
        size = context.mounts[location.store].store.stat(location.key).size
    except StoreError as error:
        LOG.info("location refused: %s", error)
        raise InvalidInput("Invalid location: no data can be read there") from None
    if not size:
        raise InvalidInput("Invalid location: there is no data")
    if size > context.settings.image_size_cap:
        raise ImageTooLarge(f"Image is larger than image_size_cap, {context.settings.image_size_cap} bytes")
    return size


def check_formats(image: Image) -> None:
    """Raise InvalidInput unless the image may become active."""
    if not (image.disk_format and image.container_format):
        raise InvalidInput("Properties disk_format, container_format must be set prior to adding a location.")


def check_digest(name: str, algorithm: str, value: str) -> None:
    """Raise InvalidInput unless ``value`` looks like a digest of the algorithm."""
    # Not bytes.fromhex: it takes blanks and line breaks, and this goes into headers.
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})*", value):
        raise InvalidInput(f"{name} ({value}) is not a valid hexadecimal value")
    wanted = hashlib.new(algorithm, usedforsecurity=False).digest_size
    if len(value) != 2 * wanted:
        raise InvalidInput(
            f"{name} ({value}) is not the correct size for {algorithm} (should be {wanted} bytes)"
        )


def drop_unnamed(context: Context, before: Sequence[Location], after: Sequence[Location]) -> None:
    """Delete the bytes of locations that the record names no more."""
    kept = {(location.store, location.key) for location in after}
    for location in before:
        if (location.store, location.key) not in kept:
            discard(context, location)
