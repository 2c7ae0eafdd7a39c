"""Records of another registry, as ``db import-glance`` adds them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from glancelike.errors import ImageExists, ImageNotFound, InvalidInput, RegistryError
from glancelike.model import Image, Location, Member, MemberStatus, Status, utcnow
from glancelike.registry.base import ADMIN
from glancelike.registry.memory import MemoryRegistry
from glancelike.registry.parts import Adopted
from glancelike.registry.sql import SqlRegistry

MADE = datetime(2014, 5, 6, 7, 8, 9, tzinfo=UTC)
MEMBERS = (
    Member("a", "p1", MemberStatus.REJECTED, MADE, MADE),
    Member("a", "p2", MemberStatus.PENDING, MADE, MADE + timedelta(days=1)),
)
IMAGE = Image(
    "a",
    status=Status.DEACTIVATED,
    hidden=True,
    tags=frozenset({"t", "T"}),
    properties={"os": "bsd", "long": "x" * 300},
    locations=(Location("s", "a", {"x": "y"}), Location("z", "b")),
    created_at=MADE,
    updated_at=MADE + timedelta(days=2),
)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[SqlRegistry]:
    made = SqlRegistry({"connection": f"sqlite:///{tmp_path}/images.db", "sqlite_synchronous": False})
    made.upgrade()
    made.open()
    yield made
    made.close()


def test_as_they_are(registry: SqlRegistry) -> None:
    assert registry.adopt([Adopted(IMAGE, MEMBERS), Adopted(Image("b"))]) == {"a", "b"}
    assert registry.get("a", ADMIN) == IMAGE
    assert registry.list_members("a") == MEMBERS
    assert registry.adopt([]) == frozenset()


def test_ids_in_use_are_left_out(registry: SqlRegistry) -> None:
    here = registry.create(Image("a", name="here"))
    registry.create(Image("gone"))
    registry.delete("gone", expect=1)
    assert registry.adopt([Adopted(IMAGE, MEMBERS), Adopted(Image("gone")), Adopted(Image("new"))]) == {"new"}
    assert registry.get("a", ADMIN) == here
    assert registry.list_members("a") == ()


def test_deleted_ones_stay_deleted(registry: SqlRegistry) -> None:
    assert registry.adopt([Adopted(IMAGE, MEMBERS, deleted_at=MADE)]) == {"a"}
    with pytest.raises(ImageNotFound):
        registry.get("a", ADMIN)
    with pytest.raises(ImageExists):
        registry.create(Image("a"))
    assert registry.list_members("a") == ()
    assert registry.purge(utcnow()).images == 1


def test_all_or_none(registry: SqlRegistry) -> None:
    with pytest.raises(InvalidInput, match="min_disk"):
        registry.adopt([Adopted(Image("b")), Adopted(Image("c", min_disk=-1))])
    with pytest.raises(ImageNotFound):
        registry.get("b", ADMIN)


def test_at_once(registry: SqlRegistry) -> None:
    records = [Adopted(Image(f"{number}")) for number in range(200)]
    added: list[frozenset[str]] = []
    threads = [threading.Thread(target=lambda: added.append(registry.adopt(records))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, added)) == [0, 0, 0, 200]


def test_a_registry_that_cannot() -> None:
    with pytest.raises(RegistryError, match="can't take over"):
        MemoryRegistry({}).adopt([Adopted(IMAGE)])
