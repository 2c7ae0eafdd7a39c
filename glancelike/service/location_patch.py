"""Locations that a patch of an image adds, replaces or removes.

https://docs.openstack.org/api-ref/image/v2/#update-image. Newer clients use
``service.location_import`` instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from glancelike import lifecycle
from glancelike.errors import Conflict, Forbidden, InvalidInput, LimitExceeded
from glancelike.model import Caller, Change, ChangeOp, Image, Location, Status
from glancelike.service.context import Context
from glancelike.service.locations import check_digest, check_formats, resolve, size_at, url_of
from glancelike.service.staging import IMPORT_TASK

LONGEST_URL = 255
MD5_HEX = 32
# Members of validation_data, and the image's fields they are of.
VALIDATED = {"checksum": "checksum", "os_hash_algo": "hash_algo", "os_hash_value": "hash_value"}
VERBS = {ChangeOp.ADD: "add", ChangeOp.REPLACE: "replace", ChangeOp.REMOVE: "remove"}


@dataclass(frozen=True, slots=True)
class Named:
    """A location as a caller wrote it."""

    url: str
    metadata: Mapping[str, str]
    validation: Mapping[str, str] = field(default_factory=dict)


def _read(value: Any) -> Named:
    """Check what a caller wrote for one location."""
    if not isinstance(value, Mapping) or "url" not in value or "metadata" not in value:
        raise InvalidInput("A location must be an object with 'url' and 'metadata'")
    url, metadata, validation = value["url"], value["metadata"], value.get("validation_data", {})
    if not isinstance(url, str) or not 0 < len(url) <= LONGEST_URL:
        raise InvalidInput(f"A location's url must be a string of up to {LONGEST_URL} characters")
    if not _texts(metadata):
        raise InvalidInput("A location's metadata must be an object of strings")
    if not (_texts(validation) and set(validation) <= set(VALIDATED)):
        raise InvalidInput(f"A location's validation_data may hold {', '.join(VALIDATED)}, all strings")
    if validation and not {"os_hash_algo", "os_hash_value"} <= set(validation):
        raise InvalidInput("A location's validation_data must hold os_hash_algo and os_hash_value")
    if len(validation.get("checksum", "0" * MD5_HEX)) != MD5_HEX:
        raise InvalidInput(f"A location's checksum must have {MD5_HEX} characters")
    # Which store a location is in, its URL says.
    return Named(url, {name: text for name, text in metadata.items() if name != "store"}, validation)


def _texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())


def _digests(image: Image, named: Sequence[Named], algorithm: str) -> dict[str, str]:
    """Return what validation_data adds to the image's fields; raise Conflict."""
    given: dict[str, str] = {}
    for each in named:
        for name, value in each.validation.items():
            if given.setdefault(name, value) != value:
                raise Conflict(f"Conflicting values for {name}")
    new = {}
    for name, value in given.items():
        current = getattr(image, VALIDATED[name])
        if current and current != value:
            raise Conflict(f"{name} is already set with a different value")
        if not current:
            new[name] = value
    if not new:
        return {}
    if image.status is not Status.QUEUED:
        raise Conflict(
            f"New value(s) for {', '.join(new)} may only be provided when image status is 'queued'"
        )
    if given["os_hash_algo"] != algorithm:
        raise Conflict(f"os_hash_algo must be {algorithm}, not {given['os_hash_algo']}")
    try:
        check_digest("os_hash_value", algorithm, given["os_hash_value"])
        if "checksum" in given:
            check_digest("checksum", "md5", given["checksum"])
    except InvalidInput as error:
        raise Conflict(str(error)) from None
    return {VALIDATED[name]: value for name, value in new.items()}


class LocationPatch:
    """What a patch does to an image's locations.

    All that needs a look at the stores is done first, when it is made; then
    ``apply`` is pure, for it may be called again on a newer record.
    ``growth`` is what the image will take more of its project's quota.
    """

    def __init__(self, context: Context, caller: Caller, image_id: str, changes: Sequence[Change]) -> None:
        self._context = context
        self._caller = caller
        self._found: dict[str, tuple[Location, int]] = {}
        self.growth = 0
        self.owner: str | None = None
        mine = [change for change in changes if self.covers(change)]
        if not mine:
            return
        image = context.get(caller, image_id)
        self.owner = image.owner
        known = set(self._urls(image))
        for change in mine:
            named = self._checked(image, change)
            if change.op is ChangeOp.REPLACE and known:
                continue  # no URL may change, so there is nothing new to look at
            for each in named:
                if each.url not in self._found:
                    location = resolve(context, image_id, each.url)
                    self._found[each.url] = location, size_at(context, location)
                self.growth += self._found[each.url][1]

    @staticmethod
    def covers(change: Change) -> bool:
        """Tell whether a change is one of locations."""
        return change.path[0] == "locations"

    def apply(self, image: Image, change: Change) -> Image:
        """Apply one change; raise InvalidInput, Conflict, Forbidden, LimitExceeded."""
        named = self._checked(image, change)
        if change.op is ChangeOp.REMOVE:
            return self._remove(image, change.path[1])
        if change.op is ChangeOp.REPLACE:
            return self._replace(image, named)
        return self._add(image, change.path[1], named[0])

    def _checked(self, image: Image, change: Change) -> list[Named]:
        """Check all but the stores; return the locations that the change names."""
        depth = 1 if change.op is ChangeOp.REPLACE else 2
        if len(change.path) != depth:
            raise InvalidInput(f"Invalid JSON pointer for this resource: '/{'/'.join(change.path)}'")
        if change.op is ChangeOp.REPLACE:
            if not isinstance(change.value, list):
                raise InvalidInput("Locations must be a list")
            if not change.value:
                raise Forbidden("Cannot set locations to empty list.")
            named = [_read(each) for each in change.value]
        else:
            named = [_read(change.value)] if change.op is ChangeOp.ADD else []
        removing = change.op is ChangeOp.REMOVE
        self._context.policy.check(
            self._caller, "delete_image_location" if removing else "set_image_location", image
        )
        verb = VERBS[change.op]
        if not self._context.settings.show_multiple_locations:
            raise Forbidden(f"It's not allowed to {verb} locations if locations are invisible.")
        if image.status not in ({Status.ACTIVE} if removing else {Status.ACTIVE, Status.QUEUED}):
            raise Conflict(f"It's not allowed to {verb} locations if image status is {image.status}.")
        if image.status is Status.QUEUED and IMPORT_TASK in image.properties:
            raise Conflict(f"Image {image.id} waits for an operation that is still in progress")
        return named

    def _add(self, image: Image, position: str, named: Named) -> Image:
        digests = _digests(image, [named], self._context.settings.hashing_algorithm)
        ordered = list(self._context.mounts.ordered(image.locations))
        at = _position(position, end=len(ordered))
        if at is None:
            raise InvalidInput("Invalid position for adding a location.")
        ordered.insert(at, self._location(named))
        return self._with(image, ordered, [named], digests)

    def _replace(self, image: Image, named: Sequence[Named]) -> Image:
        digests = _digests(image, named, self._context.settings.hashing_algorithm)
        current = self._urls(image)
        if not current:
            return self._with(image, [self._location(each) for each in named], named, digests)
        if sorted(each.url for each in named) != sorted(current):
            raise InvalidInput("The URLs of an image's locations can't be replaced, only their metadata.")
        return replace(
            image, locations=tuple(replace(current[each.url], metadata=each.metadata) for each in named)
        )

    def _remove(self, image: Image, position: str) -> Image:
        if len(image.locations) == 1:
            raise Forbidden("Cannot remove last location in the image.")
        ordered = list(self._context.mounts.ordered(image.locations))
        at = _position(position, end=len(ordered) - 1)
        if at is None or at >= len(ordered):
            raise InvalidInput("Invalid position for removing a location.")
        del ordered[at]
        return replace(image, locations=tuple(ordered))

    def _with(
        self, image: Image, locations: Sequence[Location], named: Sequence[Named], digests: Mapping[str, str]
    ) -> Image:
        """Return the image with new locations, active from now on."""
        if max(Counter((each.store, each.key) for each in locations).values()) > 1:
            raise InvalidInput("The same location can't be named twice.")
        most = self._context.settings.image_location_quota
        if 0 <= most < len(locations):
            raise LimitExceeded(
                f"The limit has been exceeded on the number of allowed image locations. "
                f"Attempted: {len(locations)}, Maximum: {most}"
            )
        sizes = {self._found[each.url][1] for each in named}
        if image.size is not None and image.locations:
            sizes.add(image.size)
        if len(sizes) > 1:
            raise InvalidInput("Invalid location: the data there has another size")
        if image.status is Status.QUEUED:
            check_formats(image)
            return lifecycle.move(
                image, Status.ACTIVE, locations=tuple(locations), size=sizes.pop(), **digests
            )
        return replace(image, locations=tuple(locations))

    def _location(self, named: Named) -> Location:
        if named.url not in self._found:
            raise Conflict("The image's locations have changed meanwhile: try again")
        return replace(self._found[named.url][0], metadata=named.metadata)

    def _urls(self, image: Image) -> dict[str, Location]:
        return {url_of(self._context, location): location for location in image.locations}


def _position(text: str, *, end: int) -> int | None:
    """Return the index that a JSON pointer's last part means, ``-`` being the end."""
    if text == "-":
        return end
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None
