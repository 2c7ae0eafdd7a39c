"""The scheduler's view of the hosts: always true, and read again only as far as it has changed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from novalite.db import Database
from novalite.groupings import Aggregate
from novalite.model import ComputeHost, Flavor, ImageInfo, Server, Usage
from novalite.scheduler.view import HostView

FLAVOR = Flavor("f", "flavor", vcpus=1, memory_mb=100, disk_gb=1)
OFFER = ComputeHost("", "nova", "fake", "1", "fake", "x86_64", vcpus=4, memory_mb=1000, disk_gb=10)
COUNT = 20


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'n.db'}", down_after=60)
    database.open(upgrade=True)
    for number in range(COUNT):
        database.hosts.register(replace(OFFER, name=f"h{number:02}"))
    yield database
    database.close()


def waiting(database: Database) -> Server:
    """Return a server that a scheduler has in hand."""
    server = Server(str(uuid.uuid4()), name="vm", project="p", user="u", flavor=FLAVOR, image=ImageInfo("i"))
    database.servers.insert([server], quota=Usage(-1, -1, -1), minimum=1)
    held = database.work.begin(server.id, host=None, holder="s", seconds=30)
    assert held is not None
    return held


@contextmanager
def asked() -> Iterator[list[str]]:
    """Give the statements that are sent meanwhile."""
    found: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        if statement != "BEGIN":
            found.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def true(view: HostView, database: Database) -> bool:
    """Tell whether a view is what the database says, but for the times of heartbeats."""
    seen = {name: replace(each.host, heartbeat_at=OFFER.heartbeat_at) for name, each in view.read().items()}
    told = {host.name: replace(host, heartbeat_at=OFFER.heartbeat_at) for host in database.hosts.list()}
    assert all(each.state.instances == len(each.host.server_ids) for each in view.read().values())
    return seen == told


def test_all_that_changes_is_seen(database: Database) -> None:
    view = HostView(database.hosts)
    assert true(view, database)
    database.hosts.register(replace(OFFER, name="h03", vcpus=8))
    database.hosts.register(replace(OFFER, name="new"))
    assert true(view, database)
    database.hosts.set_enabled("h04", enabled=False, reason="r")
    assert true(view, database)
    database.hosts.set_forced_down("h05", forced_down=True)
    assert not view.read()["h05"].host.up
    assert true(view, database)
    database.hosts.set_forced_down("h05", forced_down=False)
    assert true(view, database)
    server = waiting(database)
    placed = database.hosts.claim(server, view.read()["h06"].host)
    assert placed is not None
    assert true(view, database), "as another scheduler has it"
    database.servers.delete_unplaced(placed)
    assert true(view, database)
    zone = database.aggregates.insert(Aggregate("a", "zone"))
    database.aggregates.add_host(zone.id, "h08")
    assert view.read()["h08"].state.zone == "zone"
    assert true(view, database)
    database.aggregates.update(zone.id, zone="another")
    assert true(view, database)


def test_a_host_that_goes_and_comes_back_is_seen(database: Database) -> None:
    view = HostView(database.hosts)
    before = view.read()["h03"].host
    database.hosts.delete("h03")
    assert "h03" not in view.read()
    assert true(view, database)
    database.hosts.register(replace(OFFER, name="h03", vcpus=8))
    assert true(view, database)
    for _ in range(4):  # each begins with a generation of its own, a lower one, too
        database.hosts.delete("h03")
        database.hosts.register(replace(OFFER, name="h03"))
        assert true(view, database)
    assert database.hosts.claim(waiting(database), before) is None


def test_a_host_whose_heart_stops_and_beats_again(database: Database) -> None:
    view = HostView(database.hosts)
    view.read()
    silent = Database(str(database._engine.url), down_after=0)
    silent.open()
    view._hosts = silent.hosts
    assert not any(each.host.up for each in view.read().values())
    view._hosts = database.hosts
    assert true(view, database)
    silent.close()


def test_ones_own_claims_are_known_without_asking(database: Database) -> None:
    view = HostView(database.hosts)
    view.read()
    for _ in range(3):
        server = waiting(database)
        host = view.read()["h07"].host
        assert database.hosts.claim(server, host) is not None
        view.claimed(host, server.flavor, server.id)
        with asked() as statements:
            assert view.read()["h07"].host.generation == host.generation + 1
        assert not any("allocations" in each for each in statements), "no claim was read"
    assert true(view, database)
    assert view.read()["h07"].host.vcpus_used == 3


def test_what_is_read_again_is_what_has_changed(database: Database) -> None:
    view = HostView(database.hosts)
    view.read()
    for host in ("h01", "h02"):
        database.hosts.set_enabled(host, enabled=False, reason=None)
    with asked() as statements:
        view.read()
    reads = [each for each in statements if "allocations" in each]
    assert len(reads) == 1
    with asked() as statements:
        view.read()
    assert len(statements) == 2, "who is down, and whether anything has changed"


def test_which_images_hosts_have_is_read_when_it_has_changed(database: Database) -> None:
    view, many = HostView(database.hosts), [str(uuid.uuid4()) for _ in range(1000)]
    database.hosts.register(replace(OFFER, name="h01"), many)
    database.hosts.register(replace(OFFER, name="h02"), many[::-1])
    one, two = (view.read()[name].state.images for name in ("h01", "h02"))
    assert one == frozenset(many)
    assert one is two, "kept once"
    assert not view.read()["h03"].state.images
    before = view.read()["h01"].host
    database.hosts.register(replace(OFFER, name="h01"), many)
    assert view.read()["h01"].host.generation == before.generation, "nothing has changed"
    with asked() as statements:
        database.hosts.set_enabled("h01", enabled=False, reason=None)
        assert view.read()["h01"].state.images == one
        assert database.hosts.list()
        database.hosts.register(replace(OFFER, name="h02"), many)
    assert not any("host_images" in each for each in statements), "it is long, and known"
    database.hosts.register(replace(OFFER, name="h02"), ["another"])
    assert view.read()["h02"].state.images == {"another"}
    for name, has in (("h01", ()), ("h02", ("more", "another"))):
        database.hosts.register(replace(OFFER, name=name), has)
    assert [view.read()[name].state.images for name in ("h01", "h02")] == [frozenset(), {"more", "another"}]
    assert len(view._images) == 1, "what no host has any more is forgotten"
    assert true(view, database)
    database.hosts.delete("h02")
    assert "h02" not in view.read()


def test_a_view_that_is_older_is_not_taken(database: Database) -> None:
    view = HostView(database.hosts)
    old = view.read()["h08"].host
    view._know([replace(old, generation=old.generation + 5)])
    view.claimed(old, FLAVOR, "a")
    assert view._seen["h08"].host.generation == old.generation + 5
