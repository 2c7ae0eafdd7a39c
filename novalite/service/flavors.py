"""What may be done with flavors."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace

from novalite.db import Database
from novalite.errors import FlavorNotFound, InvalidInput
from novalite.model import Caller, Flavor, Page
from novalite.service.checks import check_metadata, check_name, demand_admin

_ID = re.compile(r"[0-9A-Za-z._ -]{1,255}")
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
        sort: str = "id",
        descending: bool = False,
    ) -> Page[Flavor]:
        """Return one page; administrators may ask for those that aren't public.

        ``public`` None means both. Raises InvalidInput.
        """
        if limit < 0:
            raise InvalidInput(f"limit must not be negative: {limit}")
        return self._flavors.list(
            public=public if caller.admin else True,
            min_disk=min_disk or 0,
            min_ram=min_ram or 0,
            sort=sort,
            descending=descending,
            limit=limit,
            marker=marker,
        )

    def show(self, caller: Caller, flavor_id: str) -> Flavor:
        """Return one flavor; raise FlavorNotFound."""
        return visible(self._flavors.get(flavor_id), caller)

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
        ):
            if not least <= value <= _MOST:
                raise InvalidInput(f"{what} must be between {least} and {_MOST}, not {value}")
        check_metadata(flavor.extra_specs)
        self._flavors.insert(flavor)
        return flavor

    def delete(self, caller: Caller, flavor_id: str) -> None:
        """Remove a flavor; its servers stay as they are.

        Raises Forbidden or FlavorNotFound.
        """
        demand_admin(caller, "delete flavors")
        self._flavors.delete(flavor_id)


def visible(flavor: Flavor, caller: Caller) -> Flavor:
    """Return a flavor that the caller may see; raise FlavorNotFound."""
    if not (flavor.public or caller.admin):
        raise FlavorNotFound(f"flavor {flavor.id} not found")
    return flavor
