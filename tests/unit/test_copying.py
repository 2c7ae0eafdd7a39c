"""Copies between stores: by the stores themselves, in one pass, and moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glancelike.errors import (
    BlobInUse,
    Conflict,
    DataMismatch,
    ImageNotFound,
    NotFound,
    StoreUnavailable,
    UnknownStore,
    Unsupported,
)
from glancelike.model import TaskStatus
from glancelike.service import ImportRequest
from glancelike.stores.base import BlobInfo
from glancelike.vfs import MountOptions
from tests.copies_fixtures import (
    ADMIN,
    DATA,
    Breakable,
    Serve,
    active,
    content,
    fresh,
    keys,
    stores_of,
)
from tests.copies_fixtures import serve as serve  # a fixture


def copy(service: Any, image: Any, *stores: str) -> TaskStatus:
    service.import_image(ADMIN, image.id, ImportRequest("copy-image", stores=stores))
    service.run_tasks()
    done: TaskStatus = service.image_tasks(ADMIN, image.id)[0].status
    return done


def test_stores_with_a_backend_in_common_copy_by_themselves(serve: Serve) -> None:
    a, b = Breakable({}), Breakable({})
    service = serve(drivers={"a": a, "b": b})
    image = active(service)
    assert copy(service, image, "b") is TaskStatus.SUCCESS
    assert (a.read_count, b.made) == (0, 1)
    assert stores_of(service, image) == ["a", "b"]
    a.away = True
    assert content(service, image) == DATA


def test_a_copy_is_read_back_where_that_is_wanted(serve: Serve) -> None:
    class Rotten(Breakable):
        """Copies, but not what was there."""

        def copy(self, source_key: str, target_key: str, *, source: Any = None) -> BlobInfo:
            self.made += 1
            return self._publish(target_key, bytes(len(DATA)))

    b = Rotten({})
    service = serve(drivers={"a": Rotten({}), "b": b}, copy_read_back=True)
    image = active(service)
    assert copy(service, image, "b") is TaskStatus.SUCCESS
    assert b.made == 1
    key = fresh(service, image).locations[1].key
    assert keys(service, "b") == {key}
    assert b"".join(b.read(key)) == DATA


def test_a_copy_of_the_wrong_size_doesnt_count(serve: Serve) -> None:
    class Short(Breakable):
        def copy(self, source_key: str, target_key: str, *, source: Any = None) -> BlobInfo:
            return self._publish(target_key, DATA[:-1])

    b = Short({})
    service = serve(drivers={"a": Short({}), "b": b})
    image = active(service)
    assert copy(service, image, "b") is TaskStatus.SUCCESS
    assert keys(service, "b") == {fresh(service, image).locations[1].key}
    assert b"".join(b.read(fresh(service, image).locations[1].key)) == DATA


def test_stores_of_other_kinds_and_directories_get_the_bytes_in_one_pass(serve: Serve) -> None:
    a, c = Breakable({}), Breakable({})
    service = serve("d", "e", drivers={"a": a, "c": c}, default_store="a")
    image = active(service)
    assert copy(service, image, "d", "e") is TaskStatus.SUCCESS
    assert sorted(stores_of(service, image)) == ["a", "d", "e"]
    assert c.made == 0
    a.away = True
    assert content(service, image) == DATA


def test_a_bad_source_is_passed_over_for_a_good_one(serve: Serve, tmp_path: Path) -> None:
    service = serve("a", "b", "c")
    image = active(service)
    assert copy(service, image, "b") is TaskStatus.SUCCESS
    (tmp_path / "a" / fresh(service, image).locations[0].key).write_bytes(bytes(len(DATA)))
    assert copy(service, image, "c") is TaskStatus.SUCCESS
    (made,) = keys(service, "c")
    assert (tmp_path / "c" / made).read_bytes() == DATA


def test_a_copy_of_bad_data_is_none(serve: Serve, tmp_path: Path) -> None:
    service = serve("a", "b")
    image = active(service)
    (tmp_path / "a" / image.locations[0].key).write_bytes(bytes(len(DATA)))
    assert copy(service, image, "b") is TaskStatus.FAILURE
    assert stores_of(service, image) == ["a"]
    assert keys(service, "b") == set()
    with pytest.raises(DataMismatch):
        service.move_image(image.id, source="a", target="b")
    assert keys(service, "a") == {image.locations[0].key}


@pytest.mark.parametrize("kind", ["directories", "backends"])
def test_a_move_leaves_nothing_behind(serve: Serve, kind: str) -> None:
    service = (
        serve("a", "b") if kind == "directories" else serve(drivers={"a": Breakable({}), "b": Breakable({})})
    )
    image = active(service)
    used = service._context.registry.usage("p-alice").total
    moved = service.move_image(image.id, source="a", target="b")
    assert stores_of(service, image) == ["b"]
    assert keys(service, "a") == set()
    assert keys(service, "b") == {moved.locations[0].key}
    assert content(service, image) == DATA
    assert service._context.registry.usage("p-alice").total == used


def test_a_move_to_where_a_copy_is_only_drops_the_old_one(serve: Serve) -> None:
    service = serve("a", "b")
    image = active(service)
    copy(service, image, "b")
    before = keys(service, "b")
    service.move_image(image.id, source="a", target="b")
    assert (stores_of(service, image), keys(service, "a"), keys(service, "b")) == (["b"], set(), before)


def test_what_cant_be_moved(serve: Serve) -> None:
    away = Breakable({})
    service = serve(
        "a",
        "b",
        drivers={"kept": Breakable({}), "away": away},
        store_options={"b": MountOptions(read_only=True)},
    )
    image = active(service)
    away.away = True
    for source, target, error in (
        ("a", "b", Unsupported),
        ("a", "nowhere", UnknownStore),
        ("b", "a", NotFound),
        ("a", "away", StoreUnavailable),
    ):
        with pytest.raises(error):
            service.move_image(image.id, source=source, target=target)
    queued = service.create_image(ADMIN, {})
    with pytest.raises(Conflict):
        service.move_image(queued.id, source="a", target="b")
    with pytest.raises(ImageNotFound):
        service.move_image("6f21b8a9-5b2c-4a5a-9d4e-2f9f4a7b6c3d", source="a", target="b")
    assert stores_of(service, image) == ["a"]
    assert content(service, image) == DATA


def test_an_image_that_is_deleted_in_a_move_leaves_nothing(serve: Serve) -> None:
    class Deleting(Breakable):
        def write(self, key: str, source: Any, *, size: int | None) -> Any:
            info = super().write(key, source, size=size)
            service.delete_image(ADMIN, image.id)
            return info

    service = serve("a", drivers={"b": Deleting({})})
    image = active(service)
    with pytest.raises(ImageNotFound):
        service.move_image(image.id, source="a", target="b")
    assert keys(service, "a") == keys(service, "b") == set()


def test_what_its_store_doesnt_let_go_stays_on_record(serve: Serve) -> None:
    class InUse(Breakable):
        def delete(self, key: str) -> None:
            raise BlobInUse("cloned")

    service = serve("b", drivers={"a": InUse({})}, default_store="a")
    image = active(service)
    with pytest.raises(BlobInUse):
        service.move_image(image.id, source="a", target="b")
    assert stores_of(service, image) == ["b", "a"]


def test_two_moves_of_one_image_at_a_time_are_one_too_many(serve: Serve) -> None:
    class Meanwhile(Breakable):
        def write(self, key: str, source: Any, *, size: int | None) -> Any:
            with pytest.raises(Conflict):
                service.move_image(image.id, source="a", target="c")
            return super().write(key, source, size=size)

        def list(self, prefix: str = "") -> Iterator[BlobInfo]:
            return super().list(prefix)

    service = serve("a", "c", drivers={"b": Meanwhile({})})
    image = active(service)
    service.move_image(image.id, source="a", target="b")
    assert stores_of(service, image) == ["b"]
