"""Property protections at work: what a caller may see and do of an image's properties.

A property that a caller may not read is as good as absent: it is shown
nowhere, matches no filter, and can neither be replaced nor removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from glancelike.errors import Conflict, ReadOnlyProperty
from glancelike.model import Caller, Change, ChangeOp, Filter, Image
from glancelike.protections import Use
from glancelike.service.context import Context
from glancelike.service.fields import BASE_FIELDS


def may(context: Context, caller: Caller, use: Use, name: str) -> bool:
    """Tell whether the caller may do this to the property."""
    return context.settings.protections.allows(
        name,
        use,
        caller.roles | caller.service_roles,
        lambda rule: context.policy.fulfils(caller, rule),
    )


def readable(context: Context, caller: Caller, image: Image) -> Image:
    """Return the image with those properties only that the caller may read."""
    return all_readable(context, caller, (image,))[0]


def all_readable(context: Context, caller: Caller, images: tuple[Image, ...]) -> tuple[Image, ...]:
    """Return the images with those properties only that the caller may read."""
    if not context.settings.protections:
        return images
    names = {name for image in images for name in image.properties}
    shown = {name for name in names if may(context, caller, Use.READ, name)}
    return tuple(
        replace(image, properties={name: text for name, text in image.properties.items() if name in shown})
        for image in images
    )


def searchable(context: Context, caller: Caller, filters: Iterable[Filter]) -> bool:
    """Tell whether the caller may read all properties that are filtered by.

    If not, nothing matches: a filter mustn't find out what isn't shown.
    """
    return all(may(context, caller, Use.READ, each.field) for each in filters if each.is_property)


def check_create(context: Context, caller: Caller, image: Image) -> None:
    """Raise ReadOnlyProperty unless the caller may create all properties of a new image."""
    for name in image.properties:
        _check(context, caller, Use.CREATE, name)


def check_change(context: Context, caller: Caller, image: Image, change: Change) -> None:
    """Check one step of a patch, to be applied to ``image``.

    Raises ReadOnlyProperty, and Conflict for what to the caller isn't there.
    """
    name = change.path[0]
    if not context.settings.protections or name in BASE_FIELDS or len(change.path) > 1:
        return
    if name not in image.properties:
        if change.op is ChangeOp.ADD:
            _check(context, caller, Use.CREATE, name)
        return
    if change.op is not ChangeOp.ADD and not may(context, caller, Use.READ, name):
        raise Conflict(f"Property {name} does not exist.")
    _check(context, caller, Use.DELETE if change.op is ChangeOp.REMOVE else Use.UPDATE, name)


def _check(context: Context, caller: Caller, use: Use, name: str) -> None:
    if not may(context, caller, use, name):
        raise ReadOnlyProperty(f"Attribute '{name}' is reserved.")
