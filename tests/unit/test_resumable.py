"""Uploads in pieces: what is durable, who goes on, what is left of it."""

from __future__ import annotations

import hashlib
import io
import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from glancelike import open_service
from glancelike.errors import (
    ChecksumMismatch,
    Conflict,
    Forbidden,
    FormatMismatch,
    GlancelikeError,
    ImageNotFound,
    ImageTooLarge,
    InvalidInput,
    InvalidTransition,
    QuotaExceeded,
    SizeMismatch,
    StaleUpload,
    StoreUnavailable,
    Unsupported,
    UploadNotFound,
)
from glancelike.model import Amounts, Caller, Image, Upload, UploadKind, UploadState, utcnow
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import Checksum, ImageService, ImportRequest
from glancelike.service.resumable import deposit, requests
from glancelike.stores.base import BlobInfo, Cap
from glancelike.stores.memory import MemoryStore

MIB = 1 << 20
OWNER = Caller("u", "p", frozenset({"member", "reader"}))
STRANGER = Caller("v", "q", frozenset({"member", "reader"}))
RAW = {"disk_format": "raw", "container_format": "bare"}
DATA = os.urandom(3 * MIB + 12345)
Open = Callable[..., ImageService]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have parts of 1 MiB, so that few bytes make many."""
    monkeypatch.setattr(deposit, "LEAST_PART", MIB)


@pytest.fixture
def opened() -> Iterator[Open]:
    services: list[ImageService] = []

    def make(store: MemoryStore | None = None, **settings: Any) -> ImageService:
        stores = {"memory": store or MemoryStore({})}
        services.append(open_service(MemoryRegistry({}), stores=stores, **settings))
        return services[-1]

    yield make
    for service in services:
        service.close()


@pytest.fixture
def service(opened: Open) -> ImageService:
    return opened()


def image_of(service: ImageService, **values: object) -> Image:
    return service.create_image(OWNER, {**RAW, **values})


def begun(service: ImageService, length: int | None = len(DATA), **values: Any) -> Upload:
    return service.create_upload(OWNER, image_of(service).id, length=length, **values)


def send(service: ImageService, upload: Upload, data: bytes, offset: int = 0, **values: Any) -> Upload:
    values.setdefault("size", len(data))
    return service.continue_upload(
        OWNER, upload.image_id, upload.id, io.BytesIO(data), offset=offset, **values
    )


def show(service: ImageService, upload: Upload) -> Upload:
    return service.show_upload(OWNER, upload.image_id, upload.id)


def left(service: ImageService) -> tuple[list[str], int]:
    """Return the blobs of all stores, and how many uploads they have open."""
    stores = [mount.store for mount in service._context.mounts.all()]
    sessions = sum(len(store.driver._uploads) for store in stores)  # type: ignore[attr-defined]
    return [blob.key for store in stores for blob in store.list()], sessions


def assert_active(service: ImageService, image_id: str, data: bytes = DATA) -> None:
    image = service.show_image(OWNER, image_id)
    assert (image.status, image.size) == ("active", len(data))
    assert image.hash_value == hashlib.sha256(data).hexdigest()
    assert dict(image.properties) == {}
    assert b"".join(service.read(OWNER, image_id).chunks()) == data
    assert left(service) == ([image.locations[0].key], 0)


class Breaks(io.BytesIO):
    """A source that raises in the place of its end."""

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        if not block:
            raise ConnectionResetError("the line broke")
        return block


# Pieces


@pytest.mark.parametrize("seed", range(6))
def test_pieces_of_any_size(service: ImageService, seed: int) -> None:
    chance = random.Random(seed)
    upload, offset = begun(service, None if seed == 1 else len(DATA)), 0
    while offset < len(DATA):
        most = chance.choice([100, 40_000, MIB, 2 * MIB])
        piece = DATA[offset : offset + chance.randint(1, most) + (90_000 if most < MIB else 0)]
        told: dict[str, Any] = {} if chance.random() < 0.5 else {"size": None}
        if seed == 1 and offset + len(piece) == len(DATA):
            told["length"] = len(DATA)
        upload = send(service, upload, piece, offset, **told)
        offset += len(piece)
        assert upload.offset == offset
        if offset < len(DATA):
            assert show(service, upload).offset == offset
            keys, sessions = left(service)
            assert sorted(keys) == sorted(key for key, _size in upload.tail), "nothing but the tail"
            # Where the length isn't known, a part is as large as those of the largest image.
            assert sessions == (1 if offset >= MIB and seed != 1 else 0)
    assert upload.state is UploadState.DONE
    assert_active(service, upload.image_id)


def test_a_tail_has_few_blobs_and_is_not_written_over_and_over(opened: Open) -> None:
    class Counts(MemoryStore):
        written = 0

        def write(self, key: str, source: Any, *, size: int | None) -> BlobInfo:
            Counts.written += size or 0
            return super().write(key, source, size=size)

    service = opened(Counts({}))
    upload = begun(service)
    for offset in range(0, 300_000, 1000):
        upload = send(service, upload, DATA[offset : offset + 1000], offset)
        assert len(upload.tail) <= 9
    assert Counts.written < 300_000 * 9, "each byte once for each time that the tail doubles"


def test_what_came_before_the_line_broke_is_kept(service: ImageService) -> None:
    upload = begun(service)
    with pytest.raises(ConnectionResetError):
        service.continue_upload(
            OWNER, upload.image_id, upload.id, Breaks(DATA[: MIB + 777]), offset=0, size=len(DATA)
        )
    assert show(service, upload).offset == MIB + 777
    with pytest.raises(SizeMismatch):
        send(service, upload, DATA[MIB + 777 : MIB + 1000], MIB + 777, size=len(DATA) - MIB - 777)
    assert show(service, upload).offset == MIB + 1000
    send(service, upload, DATA[MIB + 1000 :], MIB + 1000)
    assert_active(service, upload.image_id)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512", "md5"])
def test_a_piece_that_is_not_what_its_checksum_says_leaves_nothing(
    service: ImageService, algorithm: str
) -> None:
    upload = begun(service)
    upload = send(service, upload, DATA[:1000])
    before = left(service)[0]
    piece = DATA[1000 : 2 * MIB + 5000]
    right = Checksum(algorithm, hashlib.new(algorithm, piece).digest())
    for wrong in (piece[:-1] + b"?", b"?" * len(piece)):
        with pytest.raises(ChecksumMismatch):
            send(service, upload, wrong, 1000, checksum=right)
        assert show(service, upload).offset == 1000
        assert left(service)[0] == before
    with pytest.raises(ConnectionResetError):
        service.continue_upload(
            OWNER, upload.image_id, upload.id, Breaks(piece), offset=1000, size=len(piece) + 1, checksum=right
        )
    assert show(service, upload).offset == 1000, "what couldn't be compared isn't kept"
    upload = send(service, upload, piece, 1000, checksum=right)
    send(service, upload, DATA[upload.offset :], upload.offset)
    assert_active(service, upload.image_id)


def test_what_does_not_fit(service: ImageService) -> None:
    upload = begun(service)
    with pytest.raises(Conflict, match="can't go on at 5"):
        send(service, upload, b"x", 5)
    with pytest.raises(ImageTooLarge):
        send(service, upload, DATA + b"x")
    with pytest.raises(InvalidInput, match="not 5"):
        send(service, upload, b"x", length=5)
    assert show(service, upload).offset == 0
    for known in (2000, None):
        short = begun(service, 1000)
        with pytest.raises((InvalidInput, ImageTooLarge)):
            send(service, short, DATA[:2000], size=known)
        assert show(service, short).offset == 0
        service.look_after()
        service.run_tasks()
        assert service.show_image(OWNER, short.image_id).status == "queued"
    deferred = begun(service, None)
    deferred = send(service, deferred, DATA[:1000])
    with pytest.raises(InvalidInput, match="already"):
        send(service, deferred, b"", 1000, length=999)
    send(service, deferred, b"", 1000, length=1000)
    assert service.show_image(OWNER, deferred.image_id).size == 1000


def test_limits(opened: Open) -> None:
    service = opened(image_size_cap=1000)
    with pytest.raises(ImageTooLarge):
        begun(service, 1001)
    upload = begun(service, None)
    with pytest.raises(ImageTooLarge):
        send(service, upload, DATA[:1001])
    with pytest.raises(InvalidInput):
        send(service, upload, DATA[:1001], size=None)
    with pytest.raises(InvalidInput, match="disk_format"):
        service.create_upload(OWNER, service.create_image(OWNER, {}).id, length=1)


# Two at once


def test_who_comes_later_goes_on(service: ImageService) -> None:
    upload = begun(service)
    first_reads, go_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            first_reads.set()
            assert go_on.wait(30)
            return super().read(size)

    failed: list[Exception] = []

    def first() -> None:
        try:
            service.continue_upload(
                OWNER, upload.image_id, upload.id, Slow(b"?" * len(DATA)), offset=0, size=len(DATA)
            )
        except GlancelikeError as error:
            failed.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert first_reads.wait(30)
    second = send(service, upload, DATA[:1500])
    go_on.set()
    thread.join(30)
    assert [type(error) for error in failed] == [StaleUpload]
    assert show(service, upload).offset == 1500
    send(service, second, DATA[1500:], 1500)
    assert_active(service, upload.image_id)


def test_the_offset_that_is_told_is_binding(service: ImageService) -> None:
    """Else what is still read of a line that broke would move it, and the next piece would be refused."""
    upload = begun(service)
    told: list[int] = []

    class Asks(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() == 700:
                told.append(show(service, upload).offset)
                raise ConnectionResetError("the line broke")
            return super().read(700)

    with pytest.raises(StaleUpload):
        service.continue_upload(OWNER, upload.image_id, upload.id, Asks(DATA), offset=0, size=len(DATA))
    assert (told, left(service)) == ([0], ([], 0))
    send(service, upload, DATA)
    assert_active(service, upload.image_id)


def test_the_first_upload_that_is_complete_wins(service: ImageService) -> None:
    image_id = image_of(service).id
    first, second = (service.create_upload(OWNER, image_id, length=len(DATA)) for _ in range(2))
    send(service, first, DATA[: 2 * MIB])
    send(service, second, DATA)
    assert_active(service, image_id)
    with pytest.raises(UploadNotFound):
        show(service, first)
    with pytest.raises(InvalidTransition):
        service.create_upload(OWNER, image_id, length=1)


def test_other_data_that_is_faster(service: ImageService) -> None:
    upload = begun(service)
    send(service, upload, DATA[:1500])
    service.upload(OWNER, upload.image_id, io.BytesIO(DATA), size=len(DATA))
    with pytest.raises(InvalidTransition, match="faster"):
        send(service, upload, DATA[1500:], 1500)
    with pytest.raises(UploadNotFound):
        show(service, upload)
    assert_active(service, upload.image_id)


def test_other_data_under_way(service: ImageService) -> None:
    """It may fail yet, so the upload waits."""
    upload = begun(service)
    send(service, upload, DATA[:1500])
    service.stage(OWNER, upload.image_id, io.BytesIO(DATA), size=len(DATA))
    with pytest.raises(InvalidTransition):
        send(service, upload, DATA[1500:], 1500)
    assert show(service, upload).offset == 1500
    service.import_image(OWNER, upload.image_id, ImportRequest("glance-direct"))
    service.run_tasks()
    service.look_after()
    with pytest.raises(InvalidTransition):
        send(service, upload, DATA[1500:], 1500)
    with pytest.raises(UploadNotFound):
        show(service, upload)
    assert len(left(service)[0]) == 1


def test_only_who_may_upload(service: ImageService) -> None:
    upload = begun(service)
    image_id, source = upload.image_id, io.BytesIO(b"x")
    for call in (
        lambda: service.create_upload(STRANGER, image_id, length=1),
        lambda: service.show_upload(STRANGER, image_id, upload.id),
        lambda: service.continue_upload(STRANGER, image_id, upload.id, source, offset=0),
        lambda: service.delete_upload(STRANGER, image_id, upload.id),
    ):
        with pytest.raises(ImageNotFound):
            call()
    other = image_of(service).id
    with pytest.raises(UploadNotFound):
        service.show_upload(OWNER, other, upload.id)


# The end


def test_data_of_another_format(service: ImageService) -> None:
    for size in (1000, len(DATA)):
        image = image_of(service, disk_format="qcow2")
        upload = service.create_upload(OWNER, image.id, length=size)
        with pytest.raises(FormatMismatch):
            send(service, upload, DATA[:size])
        found = service.show_image(OWNER, image.id)
        assert (found.status, found.size, dict(found.properties)) == ("queued", None, {})
        assert left(service) == ([], 0)
        with pytest.raises(UploadNotFound):
            show(service, upload)


def test_an_empty_image(service: ImageService) -> None:
    upload = begun(service, 0)
    assert upload.state is UploadState.DONE
    assert_active(service, upload.image_id, b"")


def test_a_store_that_is_away_at_the_end(opened: Open) -> None:
    class Away(MemoryStore):
        away = False

        def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
            if self.away:
                raise StoreUnavailable("no route")
            return super().read(key, offset=offset, length=length)

    store = Away({})
    service = opened(store)
    upload = begun(service)
    store.away = True
    with pytest.raises(StoreUnavailable):
        send(service, upload, DATA)
    assert service.show_image(OWNER, upload.image_id).status == "queued"
    store.away = False
    kept = show(service, upload)
    assert (kept.state, kept.offset) == (UploadState.FULL, len(DATA))
    service.run_tasks()
    assert_active(service, upload.image_id)


def test_a_process_that_died_after_the_last_byte(
    service: ImageService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "finish", lambda context, caller, image, upload: upload)
    upload = send(service, begun(service), DATA)
    assert upload.state is UploadState.FULL
    assert list(service.gc(grace_seconds=0)) == []
    service.look_after()
    assert service.run_tasks() == 1
    assert_active(service, upload.image_id)
    assert show(service, upload).offset == len(DATA)


def test_a_process_that_died_at_the_end(service: ImageService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the image is active, what is left is cleared away by who takes the task up."""
    from glancelike.errors import LeaseLost
    from glancelike.service.resumable import finish

    def dies(*_: object) -> None:
        raise LeaseLost("as if it was killed")

    upload = begun(service)
    for step in ("_bring", "_activate", "_clean", "_free"):
        with monkeypatch.context() as patch:
            patch.setattr(finish, step, dies)
            if step == "_bring":
                with pytest.raises(LeaseLost):
                    send(service, upload, DATA)
            else:
                service.run_tasks()
        assert service.show_image(OWNER, upload.image_id).properties
        assert service.reap() == []
    service.run_tasks()
    assert_active(service, upload.image_id)
    assert show(service, upload).state is UploadState.DONE


def test_a_store_without_parts(opened: Open) -> None:
    class Plain(MemoryStore):
        capabilities = MemoryStore.capabilities & ~Cap.PARTS

    service = opened(Plain({}), staging=MemoryStore({}))
    upload = begun(service)
    assert upload.home == "os_glance_staging_store"
    upload = send(service, upload, DATA[:-1])
    send(service, upload, DATA[-1:], len(DATA) - 1)
    assert_active(service, upload.image_id)
    nowhere = opened(Plain({}), staging=Plain({}))
    with pytest.raises(Unsupported, match="pieces"):
        begun(nowhere)


# Partial uploads


def parts_of(service: ImageService, image_id: str, *cuts: int) -> list[Upload]:
    made = []
    for start, end in zip((0, *cuts), (*cuts, len(DATA)), strict=True):
        part = service.create_upload(OWNER, image_id, length=end - start, kind=UploadKind.PARTIAL)
        made.append(send(service, part, DATA[start:end]))
    return made


def joined(service: ImageService, image_id: str, parts: list[Upload]) -> Upload:
    return service.create_upload(
        OWNER, image_id, length=None, kind=UploadKind.FINAL, joins=tuple(part.id for part in parts)
    )


def test_partial_uploads_are_joined(service: ImageService) -> None:
    image_id = image_of(service).id
    parts = parts_of(service, image_id, 0, 1000, 2 * MIB)
    assert service.show_image(OWNER, image_id).status == "queued"
    final = joined(service, image_id, parts)
    assert (final.state, final.length, final.offset) == (UploadState.DONE, len(DATA), len(DATA))
    assert_active(service, image_id)
    with pytest.raises(UploadNotFound):
        show(service, parts[0])
    with pytest.raises(Forbidden):
        send(service, final, b"x", len(DATA))


def test_what_can_not_be_joined(service: ImageService) -> None:
    image_id = image_of(service).id
    parts = parts_of(service, image_id, MIB)
    half = service.create_upload(OWNER, image_id, length=10, kind=UploadKind.PARTIAL)
    plain = service.create_upload(OWNER, image_id, length=10)
    (foreign,) = parts_of(service, image_of(service).id)
    for wrong, error in (
        ([], InvalidInput),
        ([parts[0], parts[0]], InvalidInput),
        ([parts[0], half], Conflict),
        ([parts[0], plain], InvalidInput),
        ([parts[0], foreign], UploadNotFound),
        ([replace(half, id="none")], UploadNotFound),
    ):
        with pytest.raises(error):
            joined(service, image_id, wrong)
    joined(service, image_id, parts)
    assert service.show_image(OWNER, image_id).hash_value == hashlib.sha256(DATA).hexdigest()


# Quotas


def reserved(service: ImageService) -> int:
    held = service._context.registry._reservations  # type: ignore[attr-defined]
    return sum(each.amounts.total for each in held.values())


def test_room_is_kept_for_as_long_as_an_upload_lives(opened: Open) -> None:
    service = opened(user_storage_quota=2 * len(DATA))
    upload = begun(service)
    assert reserved(service) == len(DATA)
    with pytest.raises(QuotaExceeded):
        begun(service, len(DATA) + 1)
    other = begun(service)
    with pytest.raises(QuotaExceeded):
        service.upload(OWNER, image_of(service).id, io.BytesIO(b"x"), size=1)
    service.delete_upload(OWNER, other.image_id, other.id)
    assert reserved(service) == len(DATA)
    send(service, upload, DATA)
    assert reserved(service) == 0
    assert service._context.registry.usage("p") == Amounts(total=len(DATA), images=4)
    assert left(service)[1] == 0
    image_id = image_of(service).id
    parts = parts_of(service, image_id, MIB)
    assert reserved(service) == len(DATA)
    joined(service, image_id, parts)
    assert reserved(service) == 0
    with pytest.raises(QuotaExceeded):
        begun(service, 1)


def test_of_an_unknown_length_room_is_kept_as_it_comes(opened: Open) -> None:
    service = opened(user_storage_quota=2 * MIB)
    upload = begun(service, None)
    with pytest.raises(QuotaExceeded):
        send(service, upload, DATA, size=None)
    assert show(service, upload).offset == reserved(service) == 0
    upload = send(service, upload, DATA[:MIB])
    assert reserved(service) == MIB
    with pytest.raises(QuotaExceeded):
        send(service, upload, DATA, MIB)
    send(service, upload, DATA[MIB : 2 * MIB], MIB, length=2 * MIB)
    assert_active(service, upload.image_id, DATA[: 2 * MIB])
    assert reserved(service) == 0


# How uploads go away


def test_termination_and_delete_leave_nothing(service: ImageService) -> None:
    upload = begun(service)
    send(service, upload, DATA[: MIB + 5])
    service.delete_upload(OWNER, upload.image_id, upload.id)
    assert left(service) == ([], 0)
    for again in (show, lambda *_: send(service, upload, b"x")):
        with pytest.raises(UploadNotFound):
            again(service, upload)
    upload = begun(service)
    send(service, upload, DATA[: MIB + 5])
    service.delete_image(OWNER, upload.image_id)
    assert left(service) == ([], 0)
    with pytest.raises(ImageNotFound):
        send(service, upload, DATA[MIB + 5 :], MIB + 5)


def test_an_upload_that_is_deleted_while_it_is_written_to(service: ImageService) -> None:
    upload = begun(service)

    class Deletes(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= MIB + 500:
                service.delete_upload(OWNER, upload.image_id, upload.id)
            return super().read(min(500, size or 500))

    with pytest.raises(UploadNotFound):
        service.continue_upload(OWNER, upload.image_id, upload.id, Deletes(DATA), offset=0)
    assert left(service) == ([], 0)


def test_uploads_expire(service: ImageService) -> None:
    upload, fresh = begun(service), begun(service)
    for each in (upload, fresh):
        send(service, each, DATA[: MIB + 5])
    registry = service._context.registry
    found = registry.get_upload(upload.id)
    registry.update_upload(replace(found, expires_at=utcnow() - timedelta(seconds=1)), expect=found.version)
    with pytest.raises(UploadNotFound):
        show(service, upload)
    service.look_after()
    assert registry.uploads_of([upload.image_id]) == ()
    assert left(service)[1] == 1
    assert list(service.gc(grace_seconds=0)) == []
    send(service, fresh, DATA[MIB + 5 :], MIB + 5)
    assert_active(service, fresh.image_id)


def test_gc_sweeps_what_died_inside_a_store(opened: Open) -> None:
    store = MemoryStore({})
    service = opened(store)
    upload = begun(service)
    send(service, upload, DATA[: MIB + 5])
    for hours in (72 + 23, 72 + 25):
        session = store.begin(f"of-a-dead-process-{hours}")
        store._uploads[session].begun -= timedelta(hours=hours)
    assert len(list(service.gc(grace_seconds=0, dry_run=True))) == 0
    assert len(store._uploads) == 3
    assert list(service.gc(grace_seconds=0)) == []
    assert len(store._uploads) == 2, "only what no upload may be at any more"
    send(service, upload, DATA[MIB + 5 :], MIB + 5)
    assert service.show_image(OWNER, upload.image_id).status == "active"
