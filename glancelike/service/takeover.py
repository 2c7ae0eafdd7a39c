"""Take over what a Glance's database says: images and metadata definitions.

The bytes stay where they are: stores are asked which of their blobs a
location names. Pages of images are added as a whole, and an image that is
here already is left alone, so a takeover that was cut short is simply run
again. Keys of Glance's are none that ``gc`` looks at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from glancelike.errors import InvalidInput
from glancelike.model import Filter, Image, Location, Member, Namespace, Op, Query, Status, utcnow
from glancelike.registry.base import Registry
from glancelike.registry.parts import Adopted
from glancelike.registry.values import checked_image, checked_member, member_of
from glancelike.service import metadef_forms as forms
from glancelike.service.deletion import PENDING
from glancelike.service.fields import RESERVED_PREFIX
from glancelike.service.glance_locations import Decryption, place
from glancelike.service.metadef_loading import Mode, load
from glancelike.vfs import MountTable

if TYPE_CHECKING:
    from glancelike.registry.sql.glance import GlanceImage, GlanceNamespace

# Glance's data was on its way, and won't come any more.
UNDERWAY = frozenset({Status.SAVING, Status.UPLOADING, Status.IMPORTING})
WITH_DATA = frozenset({Status.ACTIVE, Status.DEACTIVATED, Status.PENDING_DELETE})
DATES = ("created_at", "updated_at")
# What tells that an image here isn't what it is there.
COMPARED = (
    "status", "name", "owner", "visibility", "protected", "hidden", "disk_format", "container_format",
    "min_disk", "min_ram", "size", "checksum", "hash_algo", "hash_value", "tags", "properties",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an image or a namespace: ``taken``, ``kept`` (only the id), ``there`` or ``skipped``.

    ``note`` says why it was skipped, in what it differs from the one that
    is there, or what of it was left behind.
    """

    id: str
    verdict: str
    note: str = ""


class Takeover:
    """Takes over into one registry, whose images lie in the mounted stores.

    Unless ``look`` is off, each blob is looked for, and its size compared.
    A ``dry_run`` writes nothing.
    """

    def __init__(
        self,
        registry: Registry,
        mounts: MountTable,
        *,
        decryption: Decryption,
        look: bool = True,
        dry_run: bool = False,
    ) -> None:
        self._registry = registry
        self._mounts = mounts
        self._decryption = decryption
        self._look = look
        self._dry_run = dry_run

    def images(self, pages: Iterable[Sequence[GlanceImage]]) -> Iterator[Outcome]:
        """Take images over, page by page; tell of each."""
        for page in pages:
            there = self._there([found.row["id"] for found in page])
            adopted: dict[str, Adopted] = {}
            notes: dict[str, str] = {}
            outcomes = []
            for found in page:
                image_id = found.row["id"]
                try:
                    if image_id in there:
                        outcomes.append(Outcome(image_id, "there", self._difference(found, there[image_id])))
                    else:
                        adopted[image_id], notes[image_id] = self._adopted(found)
                except (InvalidInput, ValueError) as error:
                    outcomes.append(Outcome(image_id, "skipped", str(error)))
            added = frozenset(adopted) if self._dry_run else self._registry.adopt(list(adopted.values()))
            yield from outcomes
            for image_id, each in adopted.items():
                verdict = "taken" if each.deleted_at is None else "kept"
                yield Outcome(image_id, verdict if image_id in added else "there", notes[image_id])

    def _there(self, ids: Sequence[str]) -> Mapping[str, Image]:
        query = Query(
            filters=(Filter("id", Op.IN, tuple(ids)),),
            visibility="all",
            member_status="all",
            hidden=None,
            limit=len(ids),
        )
        return {image.id: image for image in self._registry.list(query, PENDING).images}

    def _difference(self, found: GlanceImage, here: Image) -> str:
        if found.row["deleted"] and found.row["status"] != Status.PENDING_DELETE:
            return "it was deleted there"
        there, _note = _image(found, ())
        differing = [name for name in COMPARED if getattr(there, name) != getattr(here, name)]
        return f"differs in {', '.join(differing)}" if differing else ""

    def _adopted(self, found: GlanceImage) -> tuple[Adopted, str]:
        """Return what is taken over of an image, and what is to be said of it; raise InvalidInput."""
        row = found.row
        if row["deleted"] and row["status"] != Status.PENDING_DELETE:
            image = Image(row["id"], created_at=row["created_at"])
            return Adopted(checked_image(image), deleted_at=row["deleted_at"] or utcnow()), ""
        locations, faults = self._locations(found)
        image, note = _image(found, locations)
        if image.status in WITH_DATA and not image.locations:
            raise InvalidInput("; ".join(faults) or "it has no location")
        members = tuple(checked_member(_member(each)) for each in found.members)
        return Adopted(checked_image(image), members), "; ".join(filter(None, (note, *faults)))

    def _locations(self, found: GlanceImage) -> tuple[tuple[Location, ...], list[str]]:
        """Return the locations that stores here have, and what is wrong with the others."""
        if found.row["status"] not in WITH_DATA:
            return (), []
        size = found.row["size"] if self._look else None
        places: dict[tuple[str, str], Location] = {}
        faults = []
        for each in found.locations:
            try:
                location = place(self._mounts, self._decryption.url(each.url), each.metadata, size)
            except InvalidInput as error:
                faults.append(str(error))
            else:
                places.setdefault((location.store, location.key), location)
        return tuple(places.values()), faults

    def namespaces(self, found: Iterable[GlanceNamespace]) -> Iterator[Outcome]:
        """Take namespaces of metadata definitions over, one by one; tell of each."""
        for each in found:
            name = each.row["namespace"]
            try:
                namespace = _namespace(each)
                if self._dry_run:
                    yield Outcome(name, "taken")
                    continue
                for _name, said in load(self._registry, [namespace], Mode.KEEP):
                    yield Outcome(name, "taken" if said == "added" else "there")
            except (InvalidInput, ValueError) as error:
                yield Outcome(name, "skipped", str(error))


def _image(found: GlanceImage, locations: Sequence[Location]) -> tuple[Image, str]:
    """Return an image as it is to be here, and what of it is left behind."""
    row, note = found.row, ""
    status = member_of(Status, "status", row["status"])
    image = Image(
        id=row["id"],
        status=status,
        name=row["name"],
        owner=row["owner"],
        visibility=row["visibility"],
        protected=bool(row["protected"]),
        hidden=bool(row["os_hidden"]),
        disk_format=row["disk_format"],
        container_format=row["container_format"],
        min_disk=row["min_disk"] or 0,
        min_ram=row["min_ram"] or 0,
        size=row["size"],
        virtual_size=row["virtual_size"],
        checksum=row["checksum"],
        hash_algo=row["os_hash_algo"],
        hash_value=row["os_hash_value"],
        tags=found.tags,
        # What the service notes there of its tasks, none of which is taken over.
        properties={
            name: value for name, value in found.properties.items() if not name.startswith(RESERVED_PREFIX)
        },
        locations=tuple(locations),
        created_at=row["created_at"],
        updated_at=row["updated_at"] or row["created_at"],
    )
    if status in UNDERWAY:
        note = f"it was {status}: its data hasn't come, it is queued"
        status = Status.QUEUED
    if status is Status.QUEUED:
        image = replace(image, status=status, size=None, virtual_size=None, checksum=None)
        image = replace(image, hash_algo=None, hash_value=None)
        if found.locations:
            note = note or "it is queued, yet has data in a store, which nobody names any more"
    if status is Status.PENDING_DELETE:
        # Since when it is to be scrubbed.
        image = replace(image, updated_at=row["deleted_at"] or image.updated_at)
    return checked_image(image), note


def _member(row: Mapping[str, Any]) -> Member:
    updated_at = row["updated_at"] or row["created_at"]
    return Member(row["image_id"], row["member"], row["status"], row["created_at"], updated_at)


def _namespace(found: GlanceNamespace) -> Namespace:
    row = found.row
    return Namespace(
        name=row["namespace"],
        display_name=row["display_name"],
        description=row["description"],
        visibility=row["visibility"] or "private",
        protected=bool(row["protected"]),
        owner=row["owner"],
        resource_types={
            each["name"]: _dated(forms.RESOURCE_TYPES, each, _set(each, "prefix", "properties_target"))
            for each in found.resource_types
        },
        properties={
            each["name"]: forms.definition(forms.PROPERTIES, _property(each["json_schema"]))
            for each in found.properties
        },
        objects={each["name"]: _dated(forms.OBJECTS, each, _object(each)) for each in found.objects},
        tags={each["name"]: _dated(forms.TAGS, each, {}) for each in found.tags},
        created_at=row["created_at"],
        updated_at=row["updated_at"] or row["created_at"],
    )


def _object(row: Mapping[str, Any]) -> dict[str, Any]:
    required = [name for name in (row["required"] or "").split(",") if name]
    properties = {name: _property(each) for name, each in (row["json_schema"] or {}).items()}
    return {**_set(row, "description"), "required": required, "properties": properties}


def _property(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a property's definition as Glance shows it: a default that is a number as text."""
    default = schema.get("default")
    return {**schema, "default": str(default)} if isinstance(default, int | float) else schema


def _set(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names if row[name] is not None}


def _dated(kind: forms.Kind, row: Mapping[str, Any], values: Mapping[str, Any]) -> forms.Definition:
    # Some of what Glance has loaded from files was never updated, and says so.
    times = {name: row[name].strftime(forms.TIME) for name in DATES if row[name]}
    own = {key: each for key, each in forms.definition(kind, values).items() if key not in DATES}
    return {**own, **times}
