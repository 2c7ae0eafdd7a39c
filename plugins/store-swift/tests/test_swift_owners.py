"""Images in the accounts of their owners: swift_store_multi_tenant."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import pytest
from glancelike_store_swift import SwiftStore
from glancelike_store_swift.layout import OneEach, new_id
from glancelike_store_swift.objects import Objects
from swift_servers import ACCOUNT, MIB, SmallSwift, multi_tenant, settings

import glancelike
from glancelike.errors import StoreDenied
from glancelike.model import utcnow
from glancelike.stores.base import Store
from glancelike.testing import StoreConformance
from glancelike.testing.sources import WatchedSource, payload


class TestSwiftStoreByOwner(StoreConformance):
    """The whole kit on blobs of an owner; those of nobody are as in the other store."""

    variants = ("bare",)
    spawnable = True
    many_keys = 50  # listing asks for each of them
    flat_size = 80 * MIB  # more than may be held

    def backend(self) -> str:
        return f"Swift {version('swift')}, multi-tenant"

    @pytest.fixture(autouse=True)
    def _server(self, swift: SmallSwift) -> None:
        self.swift = swift

    def name_key(self, name: str) -> str:
        return name.replace("-", "/", 1)  # of the owner "kit", and no longer than it was

    def make_store(self) -> Store:
        return SwiftStore(multi_tenant(self.swift.auth_url))

    def make_peer(self) -> Store:
        return SwiftStore(multi_tenant(self.swift.auth_url, "others"))


OWNER = ACCOUNT.removeprefix("AUTH_")
DATA = payload(7 * MIB + 5)
LATER = timedelta(minutes=1)


@contextmanager
def opened(how: dict[str, Any]) -> Iterator[SwiftStore]:
    store = SwiftStore(how)
    store.open()
    with closing(store):
        yield store


@pytest.fixture(name="theirs")
def theirs_fixture(swift: SmallSwift) -> Iterator[Objects]:
    """Give the owner's account as its own user sees it."""
    with opened(settings(swift.auth_url, "private")) as store:
        yield store._objects
        assert list(store._objects.containers("owned")) == []


@pytest.fixture(name="store")
def store_fixture(swift: SmallSwift, theirs: Objects) -> Iterator[SwiftStore]:
    """Give a store by owner; nothing may be left of it anywhere at the end."""
    with opened(multi_tenant(swift.auth_url, "owned")) as store:
        yield store
        for info in store.list():
            store.delete(info.key)
        store.sweep(utcnow() + LATER)
        assert left(store) == []


def left(store: SwiftStore) -> list[str]:
    return [entry.name for entry in store._objects.list(store.settings["swift_store_container"])]


def fill(store: SwiftStore, key: str, data: bytes = DATA) -> None:
    store.write(key, WatchedSource(data), size=len(data))


def test_an_image_lies_in_a_container_of_its_owner(store: SwiftStore, theirs: Objects) -> None:
    fill(store, f"{OWNER}/image-1")
    fill(store, f"{OWNER}/image-2", b"small")
    assert list(theirs.containers("owned")) == ["owned_image-1", "owned_image-2"]
    assert [entry.name for entry in theirs.list("owned_image-2")] == ["image-2"]
    names = [entry.name for entry in theirs.list("owned_image-1")]
    assert [name for name in names if not name.startswith(".segments/")] == ["image-1"]
    assert left(store) == [f".elsewhere/{OWNER}/image-{number}" for number in (1, 2)]
    store.delete(f"{OWNER}/image-1")
    assert list(theirs.containers("owned")) == ["owned_image-2"]
    assert left(store) == [f".elsewhere/{OWNER}/image-2"]


def test_what_has_no_owner_lies_where_it_always_did(swift: SmallSwift, store: SwiftStore) -> None:
    how = multi_tenant(swift.auth_url, "owned")
    with opened({**how, "swift_store_multi_tenant": False}) as plain:
        fill(plain, "before")
        assert b"".join(store.read("before")) == DATA
        fill(store, "after")
        assert sorted(info.key for info in plain.list()) == ["after", "before"]
        assert plain.keys_by_owner is False
    assert store.copy("before", f"{OWNER}/copied").size == len(DATA)
    assert b"".join(store.read(f"{OWNER}/copied")) == DATA
    # The service's own account may be an owner's, too.
    mine = store._objects.account.removeprefix("AUTH_")
    fill(store, f"{mine}/before", b"another blob")
    assert b"".join(store.read("before")) == DATA
    assert b"".join(store.read(f"{mine}/before")) == b"another blob"


def test_images_of_two_projects(swift: SmallSwift, store: SwiftStore, theirs: Objects) -> None:
    mounted = SwiftStore(multi_tenant(swift.auth_url, "owned"))
    callers = [glancelike.Caller("u", project, frozenset({"member"})) for project in (OWNER, "second")]
    with glancelike.open_service("memory://", stores={"objects": mounted}) as images:
        made = []
        for me in callers:
            image = images.create_image(me, {"disk_format": "raw", "container_format": "bare"})
            made.append(images.upload(me, image.id, io.BytesIO(DATA)))
        for me, image in zip(callers, made, strict=True):
            assert image.locations[0].key.startswith(f"{me.project}/{image.id}-")
            assert b"".join(images.read(me, image.id).chunks()) == DATA
        [container] = theirs.containers("owned")
        assert container.startswith(f"owned_{made[0].id}-")
        orphan = f"second/{made[1].id}-0123456789ab"
        fill(store, orphan, b"nobody names it")
        assert [found.key for found in images.gc(grace_seconds=-5)] == [orphan]
        images.delete_image(callers[0], made[0].id)
        assert list(theirs.containers("owned")) == []
        images.delete_image(callers[1], made[1].id)
    assert left(store) == []


def test_a_dead_writers_container_is_swept(store: SwiftStore, theirs: Objects) -> None:
    fill(store, f"{OWNER}/alive")
    place, name = store._place(f"{OWNER}/dead")
    group = place.layout.group(name, new_id())
    # What a writer does first; then it is killed.
    place.containers.ready(name)
    place.containers.hold(group.container, group.hold)
    theirs.put(group.container, group.segment(0), b"segment")
    assert [info.key for info in store.list()] == [f"{OWNER}/alive"]
    assert store.sweep(utcnow() - LATER) == 0
    assert list(theirs.containers("owned")) == ["owned_alive", "owned_dead"]
    assert store.sweep(utcnow() + LATER) == 1
    assert list(theirs.containers("owned")) == ["owned_alive"]
    assert left(store) == [f".elsewhere/{OWNER}/alive"]
    assert b"".join(store.read(f"{OWNER}/alive")) == DATA


def test_a_container_that_is_written_to_stays(store: SwiftStore, theirs: Objects) -> None:
    place, name = store._place(f"{OWNER}/busy")
    group = place.layout.group(name, new_id())
    line = f".elsewhere/{OWNER}/busy"
    place.containers.ready(name)
    theirs.delete_container(group.container)  # as one who has just found it empty does
    with place.containers.held(group):
        place.containers.forget(name)
        assert list(theirs.containers("owned")) == ["owned_busy"]
        assert left(store) == [line]
    # Somebody else's line goes, and a writer comes in just before that.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(place.containers._index, "remove", lambda _key: store._objects.delete("owned", line))
        patched.setattr(place.objects, "delete_container", lambda _container: True)
        place.containers.hold(group.container, group.hold)
        place.containers.forget(name)
    assert left(store) == [line]


def test_failed_writes_leave_neither_container_nor_line(store: SwiftStore, theirs: Objects) -> None:
    boom = OSError("the source broke")

    def fail(at: int) -> None:
        if at >= 5 * MIB:
            raise boom

    for size in (len(DATA), None):
        with pytest.raises(OSError, match="the source broke"):
            store.write(f"{OWNER}/failed", WatchedSource(DATA, hook=fail, steps=[MIB]), size=size)
        assert list(theirs.containers("owned")) == []
        assert left(store) == []


def test_swift_holds_no_reseller_to_an_owners_quota(store: SwiftStore) -> None:
    """What the manual says: were this to fail one day, an owner's quota would be a full store."""
    account = store._place(f"{OWNER}/x")[0].objects
    account.client.call("POST", "", headers={"X-Account-Meta-Quota-Bytes": str(MIB)})
    try:
        fill(store, f"{OWNER}/large")
    finally:
        account.client.call("POST", "", headers={"X-Account-Meta-Quota-Bytes": ""})
    assert store.usage().free is None


def test_images_that_glance_put_into_their_owners_accounts(store: SwiftStore, theirs: Objects) -> None:
    image = "6f3a1e4e-3d9b-4c3f-9d0a-6c5c4b6b8b11"
    theirs.put_container(f"owned_{image}")
    theirs.put(f"owned_{image}", image, b"Glance's")
    key = f"{OWNER}/{image}"
    assert b"".join(store.read(key)) == b"Glance's"
    store.delete(key)


def test_who_may_not_act_in_other_accounts(swift: SmallSwift) -> None:
    how = {**settings(swift.auth_url, "owned"), "swift_store_multi_tenant": True}
    with pytest.raises(StoreDenied, match="ResellerAdmin"):
        SwiftStore(how).open()


def test_long_keys_have_containers() -> None:
    layout = OneEach("images", 0)
    keys = ["a/b", "a_b", "x" * 249, "x" * 250, "x" * 249 + "/y"]
    names = [layout.container_of(key) for key in keys]
    assert len(set(names)) == len(keys)
    assert all("/" not in name and len(name) <= 256 for name in names)
    assert layout.container_of("id") == "images_id"
