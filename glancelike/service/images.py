"""Use cases of image records: create, show, list, update, delete, tags."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from glancelike import lifecycle
from glancelike.errors import (
    Forbidden,
    ImageNotFound,
    ImageProtected,
    InvalidInput,
    InvalidTransition,
    StaleImage,
    TagNotFound,
)
from glancelike.model import (
    FILTER_FIELDS,
    SORT_FIELDS,
    Caller,
    Change,
    Filter,
    Image,
    Op,
    Page,
    Query,
    Status,
    Viewer,
    Visibility,
    utcnow,
)
from glancelike.service import data, fields
from glancelike.service.context import AMEND_ATTEMPTS, Context


def create(context: Context, caller: Caller, values: Mapping[str, Any]) -> Image:
    """Make a queued image."""
    given = dict(values)
    image_id = fields.image_id(given.pop("id")) if given.get("id") is not None else str(uuid.uuid4())
    given.pop("id", None)
    now = utcnow()
    image = Image(id=image_id, owner=caller.project, created_at=now, updated_at=now)
    for name, value in given.items():
        image = fields.assign(image, name, value, context.settings)
    context.policy.check(caller, "add_image", image)
    _check(context, caller, None, image)
    return context.registry.create(image)


def show(context: Context, caller: Caller, image_id: str) -> Image:
    """Return one image."""
    image = context.get(caller, image_id)
    context.policy.check(caller, "get_image", image)
    return image


def find(context: Context, caller: Caller, name_or_id: str) -> Image:
    """Return the image with this id, else the only one with this name."""
    try:
        return show(context, caller, fields.image_id(name_or_id))
    except (InvalidInput, ImageNotFound):
        query = Query(filters=(Filter("name", Op.EQ, name_or_id),), hidden=None, limit=2)
        found = list_page(context, caller, query).images
    if not found:
        raise ImageNotFound(f"No image has the name or id {name_or_id}")
    if len(found) > 1:
        raise InvalidInput(f"More than one image has the name {name_or_id}: use an id")
    return found[0]


def list_page(context: Context, caller: Caller, query: Query) -> Page:
    """Return one page, no longer than api_limit_max."""
    context.policy.check(caller, "get_images")
    for key in query.sort:
        if key.field not in SORT_FIELDS:
            raise InvalidInput(
                f"Invalid sort key {key.field}: expected one of {', '.join(sorted(SORT_FIELDS))}"
            )
    for each in query.filters:
        if not each.is_property and each.field not in FILTER_FIELDS:
            raise InvalidInput(f"Invalid filter {each.field}")
    if query.limit < 0:
        raise InvalidInput("limit must not be negative")
    limit = min(query.limit, context.settings.api_limit_max)
    return context.registry.list(replace(query, limit=limit), Viewer(caller.project, caller.admin))


def update(context: Context, caller: Caller, image_id: str, changes: Sequence[Change]) -> Image:
    """Apply all changes to the image, or none."""

    def change(image: Image) -> Image | None:
        context.policy.check(caller, "modify_image", image)
        changed = image
        for each in changes:
            changed = fields.apply(changed, each, context.settings)
        if changed == image:
            return None
        _check(context, caller, image, changed)
        return changed

    return context.amend(image_id, change, Viewer(caller.project, caller.admin))


def _check(context: Context, caller: Caller, before: Image | None, after: Image) -> None:
    """Check what depends on several fields, and what needs a right of its own."""
    fields.check_compatible(after)
    fields.check_limits(after, context.settings)
    if before is not None and before.owner != after.owner and not caller.admin:
        raise Forbidden("Only an admin may give an image to another owner.")
    if before is None or before.visibility is not after.visibility:
        if after.visibility is Visibility.PUBLIC:
            context.policy.check(caller, "publicize_image", after)
        elif after.visibility is Visibility.COMMUNITY:
            context.policy.check(caller, "communitize_image", after)


def delete(context: Context, caller: Caller, image_id: str) -> None:
    """Delete the record first, then the bytes it named."""
    for _attempt in range(AMEND_ATTEMPTS):
        image = context.get(caller, image_id)
        context.policy.check(caller, "delete_image", image)
        if image.protected:
            raise ImageProtected(f"Image {image_id} is protected and cannot be deleted.")
        lifecycle.check(image, Status.DELETED)
        try:
            context.registry.delete(image_id, expect=image.version)
        except StaleImage:
            continue
        for location in image.locations:
            data.discard(context, location)
        return
    raise InvalidTransition(f"Image {image_id} is being changed by too many at once: try again")


def add_tag(context: Context, caller: Caller, image_id: str, tag: str) -> None:
    """Add a tag to the image."""
    checked = fields.tag(tag)

    def change(image: Image) -> Image | None:
        context.policy.check(caller, "modify_image", image)
        if checked in image.tags:
            return None
        tagged = replace(image, tags=image.tags | {checked})
        fields.check_limits(tagged, context.settings)
        return tagged

    context.amend(image_id, change, Viewer(caller.project, caller.admin))


def remove_tag(context: Context, caller: Caller, image_id: str, tag: str) -> None:
    """Remove a tag from the image."""

    def change(image: Image) -> Image:
        context.policy.check(caller, "modify_image", image)
        if tag not in image.tags:
            raise TagNotFound(f"Image {image_id} has no tag {tag}")
        return replace(image, tags=image.tags - {tag})

    context.amend(image_id, change, Viewer(caller.project, caller.admin))
