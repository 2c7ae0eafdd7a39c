"""Bit rot is found, told, and repaired from a good copy."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

from glancelike.errors import DataMismatch, ImageNotFound, UnknownStore
from glancelike.model import Image, TaskQuery, TaskStatus, TaskType
from glancelike.service import ImageService, rounds
from glancelike.service.verification import Finding, Pace
from glancelike.vfs import MountOptions
from tests.copies_fixtures import (
    ADMIN,
    DATA,
    Breakable,
    Serve,
    active,
    content,
    fresh,
    heard,
    keys,
    stores_of,
)
from tests.copies_fixtures import serve as serve  # a fixture


def two_copies(service: ImageService, data: bytes = DATA) -> Image:
    image = active(service, data)
    service.run_tasks()
    return fresh(service, image)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, 1000)


def extend(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def verdicts(found: Any) -> dict[str, str]:
    return {each.location.store: str(each.verdict) for each in found}


def test_good_copies_are_good(serve: Serve) -> None:
    service = serve("a", "b", replicas=2)
    image = two_copies(service)
    found = list(service.verify())
    assert [(each.image_id, each.fine) for each in found] == [(image.id, True)] * 2
    assert len(list(service.verify(store="b"))) == 1
    assert len(list(service.verify(image_id=image.id))) == 2


@pytest.mark.parametrize(
    ("harm", "verdict"),
    [(flip, "bad"), (truncate, "bad"), (extend, "bad"), (Path.unlink, "missing")],
)
@pytest.mark.parametrize("store", ["a", "b"])
def test_a_harmed_copy_is_told_and_repaired(
    serve: Serve, tmp_path: Path, harm: Any, verdict: str, store: str
) -> None:
    service = serve("a", "b", replicas=2)
    image = two_copies(service)
    old = {location.store: location.key for location in image.locations}
    harm(tmp_path / store / old[store])
    found = list(service.verify())
    assert verdicts(found) == {"a": "good", "b": "good", store: verdict}
    assert fresh(service, image) == image  # only told
    with heard(service) as told:
        found = list(service.verify(repair=True))
    assert all(each.fine for each in found)
    expected = {"id": image.id, "store": store, "verdict": verdict, "repaired": True, "lost": False}
    assert told == [("image.verify", expected, False)]
    now = {location.store: location.key for location in fresh(service, image).locations}
    assert list(now) == ["a", "b"]
    assert {name for name in now if now[name] != old[name]} == {store}
    assert keys(service, store) == {now[store]}  # the bad blob is gone
    assert (tmp_path / store / now[store]).read_bytes() == DATA
    assert all(each.verdict == "good" for each in service.verify())


def test_of_two_bad_copies_nothing_is_deleted(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = serve("a", "b", replicas=2)
    image = two_copies(service)
    paths = [tmp_path / location.store / location.key for location in image.locations]
    flip(paths[0])
    paths[1].unlink()
    with heard(service) as told, caplog.at_level(logging.ERROR):
        found = list(service.verify(repair=True))
    assert [(each.verdict, each.lost, each.fine) for each in found] == [
        ("bad", True, False),
        ("missing", True, False),
    ]
    assert [(event, payload["lost"], error) for event, payload, error in told] == [
        ("image.verify", True, True)
    ] * 2
    assert caplog.text.count("no good copy is left") == 2
    assert fresh(service, image) == image
    assert paths[0].exists()


def test_a_store_that_is_away_has_no_bad_copies(serve: Serve) -> None:
    b = Breakable({})
    service = serve("a", drivers={"b": b}, replicas=2)
    image = two_copies(service)
    b.away = True
    with heard(service) as told:
        found = list(service.verify(repair=True))
    assert verdicts(found) == {"a": "good", "b": "away"}
    assert told == []
    assert fresh(service, image) == image


def test_while_the_good_copy_is_away_the_bad_one_stays(serve: Serve, tmp_path: Path) -> None:
    b = Breakable({})
    service = serve("a", drivers={"b": b}, replicas=2)
    image = two_copies(service)
    path = tmp_path / "a" / image.locations[0].key
    flip(path)
    b.away = True
    found = list(service.verify(repair=True))
    assert [(each.verdict, each.lost, each.repaired) for each in found] == [
        ("bad", False, False),
        ("away", False, False),
    ]
    assert path.exists()
    b.away = False
    assert all(each.fine for each in service.verify(repair=True))
    assert content(service, image) == DATA


def test_what_is_read_wrong_once_is_read_again(serve: Serve) -> None:
    class Hiccup(Breakable):
        def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Any:
            blocks = list(super().read(key, offset=offset, length=length))
            return iter([bytes(len(b"".join(blocks)))] if self.read_count == 1 else blocks)

    service = serve(drivers={"a": Hiccup({})})
    active(service)
    assert [each.verdict for each in service.verify()] == ["good"]


def test_a_disk_that_cant_be_read_is_a_bad_copy(serve: Serve) -> None:
    class Sector(Breakable):
        def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Any:
            yield next(iter(super().read(key, offset=offset, length=length)))[:1000]
            if key == self.bad:
                raise OSError(5, "Input/output error")

        bad = ""

    b = Sector({})
    service = serve("a", drivers={"b": b}, replicas=2)
    image = two_copies(service, bytes(1000))
    b.bad = image.locations[1].key
    found = list(service.verify(repair=True))
    assert verdicts(found) == {"a": "good", "b": "bad"}
    assert found[1].repaired
    assert keys(service, "b") == {fresh(service, image).locations[1].key}


def test_a_copy_in_a_store_that_may_not_be_written_is_only_told(serve: Serve, tmp_path: Path) -> None:
    service = serve("a", "b", replicas=2)
    image = two_copies(service)
    path = tmp_path / "b" / image.locations[1].key
    flip(path)
    other = serve("a", "b", store_options={"b": MountOptions(read_only=True)})
    other._context.registry = service._context.registry
    found = list(other.verify(repair=True))
    assert verdicts(found) == {"a": "good", "b": "bad"}
    assert "read-only" in found[1].reason
    assert not found[1].fine
    assert path.exists()


def test_an_image_deleted_meanwhile_isnt_missed(serve: Serve) -> None:
    class Gone(Breakable):
        def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Any:
            service.delete_image(ADMIN, image.id)
            return super().read(key, offset=offset, length=length)

    service = serve(drivers={"a": Gone({})})
    image = active(service)
    assert list(service.verify(repair=True)) == []


def test_an_image_deleted_in_its_repair_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    class Deleting(Breakable):
        armed = False

        def write(self, key: str, source: Any, *, size: int | None) -> Any:
            info = super().write(key, source, size=size)
            if self.armed:
                service.delete_image(ADMIN, image.id)
            return info

    b = Deleting({})
    service = serve("a", drivers={"b": b}, replicas=2)
    image = two_copies(service)
    b.delete(image.locations[1].key)
    b.armed = True
    found = list(service.verify(repair=True))
    assert [each.repaired for each in found] == [False, False]
    assert keys(service, "a") == keys(service, "b") == set()


def test_a_bad_blob_that_cant_be_deleted_is_left_to_gc(serve: Serve, tmp_path: Path) -> None:
    class Stubborn(Breakable):
        def delete(self, key: str) -> None:
            self._check()
            if self.stubborn:
                raise ConnectionResetError("not now")
            super().delete(key)

        stubborn = False

    b = Stubborn({})
    service = serve("a", drivers={"b": b}, replicas=2)
    image = two_copies(service)
    old = image.locations[1].key
    info, data = b._blobs[old]
    b._blobs[old] = info, bytes(len(data))
    b.stubborn = True
    assert all(each.fine for each in service.verify(repair=True))
    assert old in keys(service, "b")
    b.stubborn = False
    assert [orphan.key for orphan in service.gc(grace_seconds=-5)] == [old]
    assert content(service, image) == DATA


def test_a_repair_doesnt_take_the_stores_word_for_a_copy(serve: Serve) -> None:
    class Liar(Breakable):
        def copy(self, source_key: str, target_key: str, *, source: Any = None) -> Any:
            return self._publish(target_key, bytes(len(DATA)))

    b = Liar({})
    service = serve(drivers={"a": Liar({}), "b": b}, replicas=2)
    image = two_copies(service)
    assert [str(each.verdict) for each in service.verify()] == ["good", "bad"]
    assert all(each.fine for each in service.verify(repair=True))
    assert keys(service, "b") == {fresh(service, image).locations[1].key}


def test_without_a_digest_the_size_is_compared(serve: Serve, tmp_path: Path) -> None:
    service = serve("a")
    image = active(service)
    service._context.amend(image.id, lambda old: type(old)(**{**_fields(old), "hash_value": None}))
    path = tmp_path / "a" / image.locations[0].key
    flip(path)
    assert [each.verdict for each in service.verify()] == ["good"]
    truncate(path)
    assert [each.verdict for each in service.verify()] == ["bad"]


def _fields(image: Image) -> dict[str, Any]:
    return {name: getattr(image, name) for name in image.__slots__}


def test_a_reader_is_told_of_wrong_bytes_where_that_can_be_known(serve: Serve, tmp_path: Path) -> None:
    service = serve("a", drivers={"b": Breakable({})})
    image = active(service)
    flip(tmp_path / "a" / image.locations[0].key)
    with pytest.raises(DataMismatch):
        service.move_image(image.id, source="a", target="b")


# The rounds


def last(service: ImageService) -> Any:
    return service.list_tasks(ADMIN, TaskQuery(type=TaskType.VERIFY, limit=1)).tasks[0]


def test_rounds_come_at_their_interval_and_repair(serve: Serve, tmp_path: Path) -> None:
    service = serve("a", "b", replicas=2, verify_interval=24, verify_rate=0)
    image = two_copies(service)
    flip(tmp_path / "b" / image.locations[1].key)
    service.look_after()
    service.look_after()
    service.run_tasks()
    assert last(service).status is TaskStatus.SUCCESS
    assert last(service).result == {
        "good": 1,
        "bad": 1,
        "missing": 0,
        "away": 0,
        "repaired": 1,
        "lost": 0,
    }
    assert len(service.list_tasks(ADMIN, TaskQuery(type=TaskType.VERIFY)).tasks) == 1
    assert all(each.verdict == "good" for each in service.verify())


def test_a_round_that_only_tells(serve: Serve, tmp_path: Path) -> None:
    service = serve("a", "b", replicas=2, verify_interval=24, verify_repair=False)
    image = two_copies(service)
    flip(tmp_path / "b" / image.locations[1].key)
    service.look_after()
    service.run_tasks()
    assert last(service).result["bad"] == 1
    assert fresh(service, image) == image


def test_a_round_goes_on_where_its_worker_died(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """The worker is killed."""

    class Counting(Breakable):
        seen: ClassVar[list[str]] = []
        fatal = 3

        def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Any:
            self.seen.append(key[:36])
            if len(self.seen) == self.fatal:
                raise Killed
            return super().read(key, offset=offset, length=length)

    monkeypatch.setattr(rounds, "SAVE_SECONDS", 0.0)
    service = serve(drivers={"a": Counting({})}, verify_interval=24)
    images = [active(service, bytes([number])) for number in range(5)]
    service.look_after()
    with pytest.raises(Killed):
        service.run_tasks()
    # Nobody can be a marker that isn't there any more.
    service.delete_image(ADMIN, images[1].id)
    Counting.fatal = 0
    assert service.run_tasks() == 1
    assert Counting.seen == [images[number].id for number in (0, 1, 2, 2, 3, 4)]
    assert last(service).result["good"] == 5


def test_a_round_that_gets_ahead_isnt_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """The worker is killed."""

    class Restarting(Breakable):
        def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Any:
            if key not in self.seen:
                self.seen.append(key)
                raise Killed
            return super().read(key, offset=offset, length=length)

        seen: ClassVar[list[str]] = []

    monkeypatch.setattr(rounds, "SAVE_SECONDS", 0.0)
    service = serve(drivers={"a": Restarting({})}, verify_interval=24)
    for number in range(8):
        active(service, bytes([number]))
    service.look_after()
    for _ in range(8):
        with pytest.raises(Killed):
            service.run_tasks()
    assert service.run_tasks() == 1
    assert (last(service).status, last(service).result["good"]) == (TaskStatus.SUCCESS, 8)


def test_an_image_that_kills_its_workers_ends_a_round(serve: Serve) -> None:
    class Killed(BaseException):
        """The worker is killed."""

    class Deadly(Breakable):
        def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Any:
            raise Killed

    service = serve(drivers={"a": Deadly({})}, verify_interval=24)
    active(service)
    service.look_after()
    for _ in range(5):
        with pytest.raises(Killed):
            service.run_tasks()
    service.run_tasks()
    assert last(service).status is TaskStatus.FAILURE
    assert "given up" in last(service).message


def test_no_more_than_the_rate_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    pace = Pace(1.0)
    for _ in range(3):
        pace.feed(bytes(500))
    Pace(0).feed(bytes(500))
    assert len(waits) == 3
    # A second a byte: what the calls themselves take is nothing beside it.
    assert waits == pytest.approx([500, 1000, 1500], rel=0.1)


def test_what_isnt_there_cant_be_verified(serve: Serve) -> None:
    service = serve("a")
    with pytest.raises(UnknownStore):
        list(service.verify(store="nowhere"))
    with pytest.raises(ImageNotFound):
        list(service.verify(image_id="6f21b8a9-5b2c-4a5a-9d4e-2f9f4a7b6c3d"))
    assert stores_of(service, active(service)) == ["a"]
    assert Finding.__doc__
