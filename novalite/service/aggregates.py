"""What may be done with host aggregates."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from novalite.db import Database
from novalite.errors import InvalidInput, NotFound
from novalite.groupings import Aggregate
from novalite.images import Images
from novalite.model import Caller
from novalite.policy import NOBODYS, Policy
from novalite.rpc import Bus
from novalite.service.checks import MAX_CHARS, check_name

RULES = "os_compute_api:os-aggregates:"
IMAGES = "compute:aggregates:images"
_KEY = re.compile(r"[a-zA-Z0-9\-_:. ]{1,255}")


class Aggregates:
    """The use cases of aggregates; thread-safe."""

    def __init__(self, database: Database, bus: Bus, images: Images, policy: Policy) -> None:
        self._aggregates = database.aggregates
        self._hosts = database.hosts
        self._bus = bus
        self._images = images
        self._policy = policy

    def list(self, caller: Caller) -> tuple[Aggregate, ...]:
        """Return all aggregates; raise Forbidden."""
        self._policy.check(caller, f"{RULES}index", NOBODYS)
        return self._aggregates.list()

    def show(self, caller: Caller, aggregate_id: int) -> Aggregate:
        """Return one aggregate; raise Forbidden or NotFound."""
        self._policy.check(caller, f"{RULES}show", NOBODYS)
        return self._aggregates.get(aggregate_id)

    def named(self, caller: Caller, told: str) -> Aggregate:
        """Return the aggregate of a name, or else of an id; raise Forbidden or NotFound."""
        by_name = {each.name: each for each in self.list(caller)}
        if told in by_name:
            return by_name[told]
        if not told.isdecimal():
            raise NotFound(f"aggregate {told} not found")
        return self.show(caller, int(told))

    def create(self, caller: Caller, name: str, zone: str | None = None) -> Aggregate:
        """Make an aggregate without hosts; raise Forbidden, InvalidInput or AggregateExists."""
        self._policy.check(caller, f"{RULES}create", NOBODYS)
        check_name("name", name)
        check_zone(zone)
        return self._aggregates.insert(Aggregate(name, zone))

    def update(self, caller: Caller, aggregate_id: int, *, name: str | None, zone: str | None) -> Aggregate:
        """Give an aggregate another name or zone, None leaving it.

        Raises Forbidden, NotFound, AggregateExists, and InvalidInput when the
        zone can't be that of its hosts.
        """
        self._policy.check(caller, f"{RULES}update", NOBODYS)
        if name is not None:
            check_name("name", name)
        check_zone(zone)
        return self._aggregates.update(aggregate_id, name=name, zone=zone)

    def set_metadata(
        self, caller: Caller, aggregate_id: int, metadata: Mapping[str, str | None]
    ) -> Aggregate:
        """Set metadata, and remove what is None; ``availability_zone`` is the zone.

        Raises Forbidden, NotFound or InvalidInput.
        """
        self._policy.check(caller, f"{RULES}set_metadata", NOBODYS)
        for key, value in metadata.items():
            if not _KEY.fullmatch(key) or (value is not None and len(value) > MAX_CHARS):
                raise InvalidInput(f"metadata item {key[:MAX_CHARS]!r} has a key or a value that can't be")
        check_zone(metadata.get("availability_zone"))
        return self._aggregates.set_metadata(aggregate_id, metadata)

    def delete(self, caller: Caller, aggregate_id: int) -> None:
        """Remove an aggregate; raise Forbidden, NotFound, and InvalidInput while it has hosts."""
        self._policy.check(caller, f"{RULES}delete", NOBODYS)
        self._aggregates.delete(aggregate_id)

    def add_host(self, caller: Caller, aggregate_id: int, host: str) -> Aggregate:
        """Put a host into an aggregate; raise Forbidden, NotFound or Conflict."""
        self._policy.check(caller, f"{RULES}add_host", NOBODYS)
        return self._aggregates.add_host(aggregate_id, host)

    def remove_host(self, caller: Caller, aggregate_id: int, host: str) -> Aggregate:
        """Take a host out of an aggregate; raise Forbidden, NotFound or Conflict."""
        self._policy.check(caller, f"{RULES}remove_host", NOBODYS)
        return self._aggregates.remove_host(aggregate_id, host)

    def precache(self, caller: Caller, aggregate_id: int, image_ids: Collection[str]) -> None:
        """Have the hosts of an aggregate that are up fetch images before a server needs them.

        Nobody is told when that is done. Raises Forbidden, NotFound,
        InvalidInput, and ImageMissing for an image that isn't there.
        """
        self._policy.check(caller, IMAGES, NOBODYS)
        self._precache(caller, self._aggregates.get(aggregate_id).hosts, image_ids)

    def precache_on(
        self, caller: Caller, hosts: Collection[str], image_ids: Collection[str]
    ) -> tuple[str, ...]:
        """Have hosts fetch images before a server needs them; return those told, which are up and enabled.

        Raises Forbidden, NotFound for a host that isn't there, and what ``precache`` raises.
        """
        self._policy.check(caller, IMAGES, NOBODYS)
        return self._precache(caller, hosts, image_ids)

    def _precache(
        self, caller: Caller, hosts: Collection[str], image_ids: Collection[str]
    ) -> tuple[str, ...]:
        if len(set(image_ids)) < len(image_ids):
            raise InvalidInput("Duplicate images in request")
        known = {host.name: host for host in self._hosts.briefly(hosts)}
        if unknown := sorted(set(hosts) - known.keys()):
            raise NotFound(f"host {', '.join(unknown)} not found")
        for image_id in image_ids:
            self._images.show(image_id, caller)
        told = tuple(name for name, host in sorted(known.items()) if host.up and host.enabled)
        for host in told:
            for image_id in image_ids:
                self._bus.precache(host, image_id)
        return told


def check_zone(zone: str | None) -> None:
    """Raise InvalidInput unless a zone could be asked for as ``zone:host``."""
    if zone is None:
        return
    check_name("availability_zone", zone)
    if ":" in zone:
        raise InvalidInput(f"availability_zone {zone!r} must not have a colon")
