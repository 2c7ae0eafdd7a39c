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
    InvalidInput,
    TagNotFound,
)
from glancelike.model import (
    FILTER_FIELDS,
    SORT_FIELDS,
    Amounts,
    Caller,
    Change,
    Filter,
    Image,
    Location,
    Op,
    Page,
    Query,
    Status,
    Viewer,
    Visibility,
    utcnow,
)
from glancelike.notifications import image_payload
from glancelike.policy import facts_of
from glancelike.service import fields, properties
from glancelike.service.context import Context
from glancelike.service.location_patch import LocationPatch
from glancelike.service.locations import drop_unnamed


def create(context: Context, caller: Caller, values: Mapping[str, Any]) -> Image:
    """Make a queued image."""
    given = dict(values)
    image_id = fields.image_id(given.pop("id")) if given.get("id") is not None else str(uuid.uuid4())
    given.pop("id", None)
    now = utcnow()
    image = Image(id=image_id, owner=caller.project, created_at=now, updated_at=now)
    for name, value in given.items():
        image = fields.assign(image, name, value, context.settings)
    if image.owner != caller.project and not context.policy.allows(caller, "add_image", facts_of(image)):
        raise Forbidden(f"You are not permitted to create images owned by '{image.owner}'.")
    context.policy.check(caller, "add_image", facts_of(image))
    _check(context, caller, None, image)
    properties.check_create(context, caller, image)
    with context.quotas.admitted(image.owner, Amounts(images=1), name=f"create:{image_id}") as one:
        made = context.registry.create(image, settles=one.settles)
    context.notify("image.create", image_payload(made))
    return properties.readable(context, caller, made)


def show(context: Context, caller: Caller, image_id: str) -> Image:
    """Return one image."""
    image = context.get(caller, image_id)
    context.policy.check(caller, "get_image", image)
    return properties.readable(context, caller, image)


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
    """Return one page, no longer than api_limit_max.

    It is shorter where an operator's own ``get_image`` keeps some of its
    images from the caller.
    """
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
    if not properties.searchable(context, caller, query.filters):
        return Page(())
    page = context.registry.list(replace(query, limit=limit), Viewer(caller.project, caller.admin))
    shown = context.policy.allowed(caller, "get_image", page.images)
    return replace(page, images=properties.all_readable(context, caller, shown))


def update(context: Context, caller: Caller, image_id: str, changes: Sequence[Change]) -> Image:
    """Apply all changes to the image, or none."""

    places = LocationPatch(context, caller, image_id, changes)
    before: tuple[Location, ...] = ()

    def change(image: Image) -> Image | None:
        nonlocal before
        before = image.locations
        # Changes of locations have policies of their own.
        if not changes or not all(map(places.covers, changes)):
            context.policy.check(caller, "modify_image", image)
        changed = image
        for each in changes:
            if places.covers(each):
                changed = places.apply(changed, each)
            else:
                properties.check_change(context, caller, changed, each)
                changed = fields.apply(changed, each, context.settings)
        if changed == image:
            return None
        _check(context, caller, image, changed)
        return changed

    room = context.quotas.admitted(places.owner, Amounts(total=places.growth), name=f"locations:{image_id}")
    with room as reserved:
        viewer = Viewer(caller.project, caller.admin)
        image = context.amend(image_id, change, viewer, settles=reserved.settles)
    drop_unnamed(context, before, image.locations)
    return _told(context, caller, image)


def _told(context: Context, caller: Caller, image: Image) -> Image:
    context.notify("image.update", image_payload(image))
    return properties.readable(context, caller, image)


def _check(context: Context, caller: Caller, before: Image | None, after: Image) -> None:
    """Check what depends on several fields, and what needs a right of its own."""
    fields.check_limits(before, after, context.settings)
    if before is not None and before.owner != after.owner and not caller.admin:
        raise Forbidden("Owner can't be updated by non admin: only an admin may give an image away.")
    if before is None or before.visibility is not after.visibility:
        target = before or facts_of(after)
        if after.visibility is Visibility.PUBLIC:
            context.policy.check(caller, "publicize_image", target)
        elif after.visibility is Visibility.COMMUNITY:
            context.policy.check(caller, "communitize_image", target)


def deactivate(context: Context, caller: Caller, image_id: str) -> Image:
    """Take an active image out of use: only an admin can download it then."""
    return _switch(context, caller, image_id, "deactivate", Status.ACTIVE, Status.DEACTIVATED)


def reactivate(context: Context, caller: Caller, image_id: str) -> Image:
    """Put a deactivated image into use again."""
    return _switch(context, caller, image_id, "reactivate", Status.DEACTIVATED, Status.ACTIVE)


def _switch(
    context: Context, caller: Caller, image_id: str, action: str, before: Status, after: Status
) -> Image:
    def change(image: Image) -> Image | None:
        context.policy.check(caller, action, image)
        if image.status is after:
            return None
        if image.status is not before:
            raise Forbidden(f"Not allowed to {action} image in status '{image.status}'")
        return lifecycle.move(image, after)

    return _told(context, caller, context.amend(image_id, change, Viewer(caller.project, caller.admin)))


def add_tag(context: Context, caller: Caller, image_id: str, tag: str) -> None:
    """Add a tag to the image."""
    checked = fields.tag(tag)

    def change(image: Image) -> Image | None:
        context.policy.check(caller, "modify_image", image)
        if checked in image.tags:
            return None
        tagged = replace(image, tags=image.tags | {checked})
        fields.check_limits(image, tagged, context.settings)
        return tagged

    _told(context, caller, context.amend(image_id, change, Viewer(caller.project, caller.admin)))


def remove_tag(context: Context, caller: Caller, image_id: str, tag: str) -> None:
    """Remove a tag from the image."""

    def change(image: Image) -> Image:
        context.policy.check(caller, "modify_image", image)
        if tag not in image.tags:
            raise TagNotFound(f"Image {image_id} has no tag {tag}")
        return replace(image, tags=image.tags - {tag})

    _told(context, caller, context.amend(image_id, change, Viewer(caller.project, caller.admin)))
