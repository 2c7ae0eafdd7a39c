"""Use cases of stores: what there is, and taking an image out of one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from glancelike.errors import (
    BlobInUse,
    Conflict,
    Forbidden,
    ImageNotFound,
    NotFound,
    StoreError,
    UnknownStore,
)
from glancelike.model import Caller, Image, Location, Status, StoreInfo, Viewer
from glancelike.service.context import Context
from glancelike.service.ingest import delete_blob
from glancelike.vfs import Mount

LOG = logging.getLogger(__name__)


def listing(context: Context, caller: Caller) -> tuple[StoreInfo, ...]:
    """Return the mounted stores, as anybody may know them."""
    return tuple(_info(context, mount) for mount in context.mounts)


def details(context: Context, caller: Caller) -> tuple[StoreInfo, ...]:
    """Return the mounted stores with their types and properties."""
    context.policy.check(caller, "stores_info_detail")
    return tuple(
        replace(
            _info(context, mount),
            type=mount.type,
            properties=_properties(mount),
            unavailable=mount.reason,
        )
        for mount in context.mounts
    )


def _properties(mount: Mount) -> Mapping[str, Any]:
    try:
        return mount.store.public_properties()
    except StoreError as error:
        # A store that never opened may not know; the others are listed all the same.
        LOG.warning("no properties: %s", error)
        return {}


def _info(context: Context, mount: Mount) -> StoreInfo:
    return StoreInfo(
        mount.id,
        mount.description,
        default=mount.id == context.mounts.default,
        read_only=mount.read_only,
        weight=mount.weight,
    )


def remove_copy(context: Context, caller: Caller, store: str, image_id: str) -> None:
    """Take an active image out of a store: the record first, then the bytes."""
    try:
        context.mounts.listed(store)
    except UnknownStore:
        raise Conflict(f"The selected store {store} is not available on this node.") from None
    dropped: Location | None = None

    def change(image: Image) -> Image:
        nonlocal dropped
        context.policy.check(caller, "get_image_location", image)
        context.policy.check(caller, "delete_image_location", image)
        dropped = _removable(image, store)
        return replace(image, locations=tuple(each for each in image.locations if each != dropped))

    context.amend(image_id, change, Viewer(caller.project, caller.admin))
    assert dropped is not None  # noqa: S101 - change has set it
    try:
        delete_blob(context, dropped)
    except BlobInUse:
        _put_back(context, image_id, dropped)
        raise
    except StoreError as error:
        LOG.warning("data left in store for gc: %s", error)


def _removable(image: Image, store: str) -> Location:
    """Return the image's first location in the store; raise if it has to stay."""
    if image.status is not Status.ACTIVE:
        raise Conflict(f"Image {image.id} is {image.status}: only an active one can be taken out of a store")
    if len(image.locations) == 1:
        raise Forbidden(
            f"Image {image.id} is in one store only and can't be taken out of it: delete the image instead"
        )
    for location in image.locations:
        if location.store == store:
            return location
    raise NotFound(f"Image {image.id} is not stored in store {store}.")


def _put_back(context: Context, image_id: str, location: Location) -> None:
    """Name a blob again that its store doesn't let go."""
    try:
        context.amend(image_id, lambda image: replace(image, locations=(*image.locations, location)))
    except ImageNotFound:
        LOG.warning("image %s was deleted, but its data in store %s is in use", image_id, location.store)
