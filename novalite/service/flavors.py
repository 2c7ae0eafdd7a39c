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
from novalite.policy import NOBODYS, Policy
from novalite.service.checks import check_metadata, check_name

MANAGE = "os_compute_api:os-flavor-manage:"
ACCESS = "os_compute_api:os-flavor-access"
SPECS = "os_compute_api:os-flavor-extra-specs:"
_ID = re.compile(r"[0-9A-Za-z._ -]{1,255}")
_SPEC = re.compile(r"[\w.:\- ]{1,255}", re.ASCII)
_MOST = 0x7FFFFFFF


class Flavors:
    """The use cases of flavors; thread-safe."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._flavors = database.flavors
        self._policy = policy

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
        admin = self._policy.is_admin(caller)
        return self._flavors.list(
            public=public if admin else True,
            project=None if admin else caller.project,
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
        return visible(self._flavors, self._policy, flavor_id, caller)

    def tells_specs(self, caller: Caller) -> bool:
        """Tell whether flavors are shown to the caller with their extra specs."""
        return self._policy.allows(caller, f"{SPECS}index")

    def specs(self, caller: Caller, flavor_id: str) -> Mapping[str, str]:
        """Return a flavor's extra specs; raise Forbidden or FlavorNotFound."""
        self._policy.check(caller, f"{SPECS}index")
        return self.show(caller, flavor_id).extra_specs

    def spec(self, caller: Caller, flavor_id: str, key: str) -> str:
        """Return one of a flavor's extra specs; raise Forbidden, NotFound or FlavorNotFound."""
        self._policy.check(caller, f"{SPECS}show")
        specs = self.show(caller, flavor_id).extra_specs
        if key not in specs:
            raise NotFound(f"Flavor {flavor_id} has no extra specs with key {key}.")
        return specs[key]

    def create(self, caller: Caller, flavor: Flavor) -> Flavor:
        """Add a flavor; an id of "" or "auto" becomes a new UUID.

        Raises Forbidden, InvalidInput or FlavorExists.
        """
        self._policy.check(caller, f"{MANAGE}create", NOBODYS)
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
            ("OS-FLV-EXT-DATA:ephemeral", flavor.ephemeral_gb, 0),
        ):
            if not least <= value <= _MOST:
                raise InvalidInput(f"{what} must be between {least} and {_MOST}, not {value}")
        check_metadata(flavor.extra_specs)
        check_description(flavor.description)
        self._flavors.insert(flavor)
        return flavor

    def describe(self, caller: Caller, flavor_id: str, description: str | None) -> Flavor:
        """Set a flavor's description; raise Forbidden, InvalidInput or FlavorNotFound."""
        self._policy.check(caller, f"{MANAGE}update", NOBODYS)
        check_description(description)
        return self._flavors.describe(flavor_id, description)

    def delete(self, caller: Caller, flavor_id: str) -> None:
        """Remove a flavor; its servers stay as they are.

        Raises Forbidden or FlavorNotFound.
        """
        self._policy.check(caller, f"{MANAGE}delete", NOBODYS)
        self._flavors.delete(flavor_id)

    def add_specs(self, caller: Caller, flavor_id: str, specs: Mapping[str, str]) -> Flavor:
        """Add extra specs; raise Forbidden, InvalidInput or FlavorNotFound."""
        self._policy.check(caller, f"{SPECS}create", NOBODYS)
        return self._set_specs(flavor_id, specs)

    def set_spec(self, caller: Caller, flavor_id: str, key: str, value: str) -> Flavor:
        """Set one extra spec; raise Forbidden, InvalidInput or FlavorNotFound."""
        self._policy.check(caller, f"{SPECS}update", NOBODYS)
        return self._set_specs(flavor_id, {key: value})

    def _set_specs(self, flavor_id: str, specs: Mapping[str, str]) -> Flavor:
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
        self._policy.check(caller, f"{SPECS}delete", NOBODYS)

        def remove(there: dict[str, str]) -> None:
            if key not in there:
                raise NotFound(f"Flavor {flavor_id} has no extra specs with key {key}.")
            del there[key]

        self._flavors.change_specs(flavor_id, remove)

    def access(self, caller: Caller, flavor_id: str) -> tuple[str, ...]:
        """Return who may use a flavor that isn't public; raise Forbidden, NotFound or FlavorNotFound."""
        self._policy.check(caller, ACCESS)
        if self._flavors.get(flavor_id).public:
            raise NotFound("Access list not available for public flavors.")
        return self._flavors.projects(flavor_id)

    def give_access(
        self, caller: Caller, flavor_id: str, project: str, *, public: bool = True
    ) -> tuple[str, ...]:
        """Let a project use a flavor, which without ``public`` mustn't be everybody's.

        Raises Forbidden, Conflict or FlavorNotFound.
        """
        self._policy.check(caller, f"{ACCESS}:add_tenant_access", NOBODYS)
        if self._flavors.get(flavor_id).public and not public:
            raise Conflict("Can not add access to a public flavor.")
        if not self._flavors.give_access(flavor_id, project):
            raise Conflict(
                f"Flavor access already exists for flavor {flavor_id} and project {project} combination."
            )
        return self._flavors.projects(flavor_id)

    def take_access(self, caller: Caller, flavor_id: str, project: str) -> tuple[str, ...]:
        """Take a flavor from a project; raise Forbidden, NotFound or FlavorNotFound."""
        self._policy.check(caller, f"{ACCESS}:remove_tenant_access", NOBODYS)
        self._flavors.get(flavor_id)
        if not self._flavors.take_access(flavor_id, project):
            raise NotFound(f"Flavor access not found for {flavor_id} / {project} combination.")
        return self._flavors.projects(flavor_id)


def check_description(text: str | None) -> None:
    """Raise InvalidInput for a text that can't be shown."""
    if text is not None and any(not char.isprintable() and not char.isspace() for char in text):
        raise InvalidInput("description must not have control characters")


def visible(flavors: FlavorRecords, policy: Policy, flavor_id: str, caller: Caller) -> Flavor:
    """Return a flavor that the caller may see and use; raise FlavorNotFound.

    They are everybody's, or given to projects, and administrators see all.
    """
    flavor = flavors.get(flavor_id)
    if not (
        flavor.public or policy.is_admin(caller) or (caller.project or "") in flavors.projects(flavor_id)
    ):
        raise FlavorNotFound(f"Flavor {flavor.id} could not be found.")
    return flavor
