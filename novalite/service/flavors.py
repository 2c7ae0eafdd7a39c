"""What may be done with flavors."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import replace

from novalite.db import Database
from novalite.db.catalog import FlavorRecords
from novalite.errors import Conflict, FlavorNotFound, InvalidInput, NotFound
from novalite.model import Caller, Flavor, Page
from novalite.service.checks import check_metadata, check_name, demand_admin
from novalite.service.orders import demand_admin_for

_ID = re.compile(r"[0-9A-Za-z._ -]{1,255}")
_SPEC = re.compile(r"[\w.:\- ]{1,255}", re.ASCII)
_MOST = 0x7FFFFFFF


class Flavors:
    """The use cases of flavors; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._flavors = database.flavors

    def list(
        self,
        caller: Caller,
        *,
        limit: int = 1000,
        marker: str | None = None,
        min_disk: int | None = None,
        min_ram: int | None = None,
        public: bool | None = True,
        name: str | None = None,
        sort: str = "id",
        descending: bool = False,
    ) -> Page[Flavor]:
        """Return one page; administrators may ask for those that aren't public.

        ``public`` None means both; ``name`` is a part or a regular expression.
        Raises InvalidInput.
        """
        if limit < 0:
            raise InvalidInput(f"limit must not be negative: {limit}")
        return self._flavors.list(
            public=public if caller.admin else True,
            project=None if caller.admin else caller.project,
            min_disk=min_disk or 0,
            min_ram=min_ram or 0,
            name=name,
            sort=sort,
            descending=descending,
            limit=limit,
            marker=marker,
        )

    def show(self, caller: Caller, flavor_id: str) -> Flavor:
        """Return one flavor; raise FlavorNotFound."""
        return visible(self._flavors, flavor_id, caller)

    def create(self, caller: Caller, flavor: Flavor) -> Flavor:
        """Add a flavor; an id of "" or "auto" becomes a new UUID.

        Raises Forbidden, InvalidInput or FlavorExists.
        """
        demand_admin(caller, "create flavors")
        if flavor.id in ("", "auto"):
            flavor = replace(flavor, id=str(uuid.uuid4()))
        check_name("name", flavor.name)
        if not _ID.fullmatch(flavor.id) or flavor.id != flavor.id.strip():
            raise InvalidInput("a flavor's id has letters, digits, spaces, and the characters . - _ only")
        for what, value, least in (
            ("vcpus", flavor.vcpus, 1),
            ("ram", flavor.memory_mb, 1),
            ("disk", flavor.disk_gb, 0),
            ("swap", flavor.swap_mb, 0),
        ):
            if not least <= value <= _MOST:
                raise InvalidInput(f"{what} must be between {least} and {_MOST}, not {value}")
        check_metadata(flavor.extra_specs)
        check_description(flavor.description)
        self._flavors.insert(flavor)
        return flavor

    def describe(self, caller: Caller, flavor_id: str, description: str | None) -> Flavor:
        """Set a flavor's description; raise Forbidden, InvalidInput or FlavorNotFound."""
        demand_admin_for(caller, "os_compute_api:os-flavor-manage:update")
        check_description(description)
        return self._flavors.describe(flavor_id, description)

    def delete(self, caller: Caller, flavor_id: str) -> None:
        """Remove a flavor; its servers stay as they are.

        Raises Forbidden or FlavorNotFound.
        """
        demand_admin(caller, "delete flavors")
        self._flavors.delete(flavor_id)

    def set_specs(self, caller: Caller, flavor_id: str, specs: Mapping[str, str]) -> Flavor:
        """Add extra specs; raise Forbidden, InvalidInput or FlavorNotFound."""
        demand_admin(caller, "change flavors")
        check_metadata(specs)
        for key in specs:
            if not _SPEC.fullmatch(key):
                raise InvalidInput(
                    f"Key Names can only contain alphanumeric characters, periods, dashes, underscores, "
                    f"colons and spaces, not {key!r}"
                )
        return self._flavors.change_specs(flavor_id, lambda there: there.update(specs))

    def delete_spec(self, caller: Caller, flavor_id: str, key: str) -> None:
        """Remove an extra spec; raise Forbidden, NotFound or FlavorNotFound."""
        demand_admin(caller, "change flavors")

        def remove(there: dict[str, str]) -> None:
            if key not in there:
                raise NotFound(f"Flavor {flavor_id} has no extra specs with key {key}.")
            del there[key]

        self._flavors.change_specs(flavor_id, remove)

    def access(self, caller: Caller, flavor_id: str) -> tuple[str, ...]:
        """Return who may use a flavor that isn't public; raise Forbidden, NotFound or FlavorNotFound."""
        demand_admin(caller, "see who may use flavors")
        if self._flavors.get(flavor_id).public:
            raise NotFound("Access list not available for public flavors.")
        return self._flavors.projects(flavor_id)

    def give_access(self, caller: Caller, flavor_id: str, project: str) -> tuple[str, ...]:
        """Let a project use a flavor; raise Forbidden, Conflict or FlavorNotFound."""
        demand_admin(caller, "give flavors to projects")
        self._flavors.get(flavor_id)
        if not self._flavors.give_access(flavor_id, project):
            raise Conflict(
                f"Flavor access already exists for flavor {flavor_id} and project {project} combination."
            )
        return self._flavors.projects(flavor_id)

    def take_access(self, caller: Caller, flavor_id: str, project: str) -> tuple[str, ...]:
        """Take a flavor from a project; raise Forbidden, NotFound or FlavorNotFound."""
        demand_admin(caller, "take flavors from projects")
        self._flavors.get(flavor_id)
        if not self._flavors.take_access(flavor_id, project):
            raise NotFound(f"Flavor access not found for {flavor_id} / {project} combination.")
        return self._flavors.projects(flavor_id)


def check_description(text: str | None) -> None:
    """Raise InvalidInput for a text that can't be shown."""
    if text is not None and any(not char.isprintable() and not char.isspace() for char in text):
        raise InvalidInput("description must not have control characters")


def visible(flavors: FlavorRecords, flavor_id: str, caller: Caller) -> Flavor:
    """Return a flavor that the caller may see and use; raise FlavorNotFound."""
    flavor = flavors.get(flavor_id)
    if not (flavor.public or caller.admin or (caller.project or "") in flavors.projects(flavor_id)):
        raise FlavorNotFound(f"Flavor {flavor.id} could not be found.")
    return flavor
