"""Interoperable import and its tasks, over real parts in memory."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import random
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glancelike.errors import (
    Conflict,
    Forbidden,
    ImageNotFound,
    InvalidInput,
    InvalidTransition,
    NotFound,
    StoreFull,
    Unsupported,
)
from glancelike.importing.base import ImportPlugin, Subject
from glancelike.importing.conversion import ImageConversion
from glancelike.importing.decompression import ImageDecompression
from glancelike.importing.inject import InjectImageMetadata
from glancelike.model import Caller, Image, Status, Task, TaskStatus
from glancelike.policy import Policy
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService, ImportRequest, Settings
from glancelike.stores.base import BlobInfo, Cap, Source
from glancelike.stores.memory import MemoryStore
from glancelike.vfs import MountTable

ALICE = Caller("alice", "p-alice", frozenset({"member", "reader"}), request_id="req-1")
BOB = Caller("bob", "p-bob", frozenset({"member", "reader"}))
ADMIN = Caller.administrator("p-admin")
DATA = random.Random(7).randbytes(300_000) + bytes(700_000)


class FullStore(MemoryStore):
    """A store whose backend is full."""

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        source.read(1000)
        raise StoreFull("no space left")


class ReadOnlyStore(MemoryStore):
    capabilities = MemoryStore.capabilities & ~(Cap.WRITE | Cap.UNKNOWN_SIZE)


Make = Callable[..., ImageService]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[ImageService] = []

    def build(*plugins: ImportPlugin, stores: dict[str, Any] | None = None, **settings: Any) -> ImageService:
        mounts = MountTable(stores or {"a": MemoryStore({}), "b": MemoryStore({})}, staging=MemoryStore({}))
        service = ImageService(
            MemoryRegistry({}), mounts, Policy(), Settings(**settings), import_plugins=plugins
        )
        service.open()
        made.append(service)
        return service

    yield build
    for service in made:
        service.close()


def new(service: ImageService, caller: Caller = ALICE, **values: Any) -> Image:
    return service.create_image(caller, {"disk_format": "raw", "container_format": "bare", **values})


def staged(service: ImageService, data: bytes = DATA, **values: Any) -> Image:
    image = new(service, **values)
    return service.stage(ALICE, image.id, io.BytesIO(data), size=len(data))


def content(service: ImageService, image_id: str) -> bytes:
    return b"".join(service.read(ADMIN, image_id).chunks())


def blobs(service: ImageService) -> dict[str, int]:
    """Count what lies in each store, the staging one too."""
    mounts = service._context.mounts
    return {mount.id: len(list(mount.store.list())) for mount in mounts.all()}


def outcome(service: ImageService, image_id: str) -> tuple[Image, Task]:
    """Run what is to be run; return the image and its newest task."""
    service.run_tasks()
    return service.show_image(ADMIN, image_id), service.image_tasks(ADMIN, image_id)[0]


def test_staged_data_is_no_image_data(make: Make) -> None:
    service = make()
    image = staged(service)
    assert (image.status, image.size) == (Status.UPLOADING, len(DATA))
    assert blobs(service) == {"a": 0, "b": 0, "os_glance_staging_store": 1}
    with pytest.raises(NotFound):
        service.read(ALICE, image.id)
    with pytest.raises(InvalidTransition):
        service.stage(ALICE, image.id, io.BytesIO(DATA))


def test_glance_direct(make: Make) -> None:
    service = make()
    image = staged(service)
    task = service.import_image(ALICE, image.id, ImportRequest("glance-direct"))
    assert task is not None
    begun = service.show_image(ALICE, image.id)
    assert begun.status is Status.IMPORTING
    assert begun.properties["os_glance_importing_to_stores"] == "a"
    done, ended = outcome(service, image.id)
    assert done.status is Status.ACTIVE
    assert done.hash_value == hashlib.sha256(DATA).hexdigest()
    assert done.properties == {"os_glance_importing_to_stores": "", "os_glance_failed_import": ""}
    assert (ended.id, ended.status, ended.result) == (task.id, TaskStatus.SUCCESS, {"image_id": image.id})
    assert ended.request_id == "req-1"
    assert ended.input["import_req"]["method"] == {"name": "glance-direct"}
    assert ended.secret is None
    assert ended.expires_at is not None
    assert content(service, image.id) == DATA
    assert blobs(service) == {"a": 1, "b": 0, "os_glance_staging_store": 0}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (ImportRequest("glance-direct", all_stores=True), ["a", "b"]),
        (ImportRequest("glance-direct", stores=("b",)), ["b"]),
        (ImportRequest("glance-direct", stores=("b", "a", "b")), ["b", "a"]),
    ],
)
def test_stores(make: Make, request_: ImportRequest, expected: list[str]) -> None:
    service = make()
    image = staged(service)
    service.import_image(ALICE, image.id, request_)
    done, _task = outcome(service, image.id)
    assert [each.store for each in done.locations] == expected


def test_all_stores_leaves_read_only_ones_out(make: Make) -> None:
    service = make(stores={"a": MemoryStore({}), "frozen": ReadOnlyStore({})})
    image = staged(service)
    service.import_image(ALICE, image.id, ImportRequest("glance-direct", all_stores=True))
    assert [each.store for each in outcome(service, image.id)[0].locations] == ["a"]
    other = staged(service)
    with pytest.raises(Unsupported):
        service.import_image(ALICE, other.id, ImportRequest("glance-direct", stores=("frozen",)))


def test_one_store_fails_and_all_must_succeed(make: Make) -> None:
    service = make(stores={"a": MemoryStore({}), "full": FullStore({})})
    image = staged(service)
    service.import_image(ALICE, image.id, ImportRequest("glance-direct", all_stores=True))
    done, task = outcome(service, image.id)
    assert (done.status, done.size, done.hash_value, done.locations) == (Status.QUEUED, None, None, ())
    assert done.properties["os_glance_failed_import"] == "full"
    assert task.status is TaskStatus.FAILURE
    assert "no space left" in task.message
    assert blobs(service) == {"a": 0, "full": 0, "os_glance_staging_store": 0}


def test_one_store_fails_and_may(make: Make) -> None:
    service = make(stores={"full": FullStore({}), "a": MemoryStore({})})
    image = staged(service)
    service.import_image(
        ALICE, image.id, ImportRequest("glance-direct", all_stores=True, all_stores_must_succeed=False)
    )
    done, task = outcome(service, image.id)
    assert (done.status, [each.store for each in done.locations]) == (Status.ACTIVE, ["a"])
    assert done.properties["os_glance_failed_import"] == "full"
    assert task.status is TaskStatus.SUCCESS


def test_all_stores_fail(make: Make) -> None:
    service = make(stores={"full": FullStore({})})
    image = staged(service)
    service.import_image(ALICE, image.id, ImportRequest("glance-direct", all_stores_must_succeed=False))
    done, task = outcome(service, image.id)
    assert (done.status, task.status) == (Status.QUEUED, TaskStatus.FAILURE)
    again = service.stage(ALICE, image.id, io.BytesIO(DATA))
    assert again.status is Status.UPLOADING


def test_wrong_format_is_refused(make: Make) -> None:
    service = make()
    image = staged(service, disk_format="qcow2")
    service.import_image(ALICE, image.id, ImportRequest("glance-direct"))
    done, task = outcome(service, image.id)
    assert (done.status, task.status) == (Status.QUEUED, TaskStatus.FAILURE)
    assert "qcow2" in task.message
    assert sum(blobs(service).values()) == 0


def copyable(service: ImageService) -> Image:
    image = new(service)
    return service.upload(ALICE, image.id, io.BytesIO(DATA), size=len(DATA), store="a")


def test_copy_image(make: Make) -> None:
    service = make()
    image = copyable(service)
    service.import_image(ADMIN, image.id, ImportRequest("copy-image", all_stores=True))
    assert service.show_image(ALICE, image.id).status is Status.ACTIVE
    done, task = outcome(service, image.id)
    assert [each.store for each in done.locations] == ["a", "b"]
    assert task.status is TaskStatus.SUCCESS
    assert service.import_image(ADMIN, image.id, ImportRequest("copy-image", all_stores=True)) is None
    with pytest.raises(InvalidInput, match="already present"):
        service.import_image(ADMIN, image.id, ImportRequest("copy-image", stores=("b",)))


def test_a_failed_copy_leaves_the_image_as_it_was(make: Make) -> None:
    service = make(stores={"a": MemoryStore({}), "b": MemoryStore({}), "full": FullStore({})})
    image = copyable(service)
    service.import_image(ADMIN, image.id, ImportRequest("copy-image", stores=("b", "full")))
    done, task = outcome(service, image.id)
    assert (done.status, [each.store for each in done.locations]) == (Status.ACTIVE, ["a"])
    assert task.status is TaskStatus.FAILURE
    assert blobs(service)["b"] == 0
    service.import_image(
        ADMIN, image.id, ImportRequest("copy-image", stores=("full", "b"), all_stores_must_succeed=False)
    )
    done, task = outcome(service, image.id)
    assert [each.store for each in done.locations] == ["a", "b"]
    assert task.status is TaskStatus.SUCCESS


@pytest.mark.parametrize(
    ("method", "state", "error"),
    [
        ("glance-direct", "queued", Conflict),
        ("glance-direct", "active", Conflict),
        ("web-download", "uploading", Conflict),
        ("copy-image", "queued", Conflict),
        ("copy-image", "uploading", Conflict),
        ("no-such-method", "queued", InvalidInput),
        ("glance-download", "queued", InvalidInput),
    ],
)
def test_wrong_state_or_method(make: Make, method: str, state: str, error: type[Exception]) -> None:
    service = make()
    image = {"queued": new, "uploading": staged, "active": copyable}[state](service)
    before = service.show_image(ADMIN, image.id)
    with pytest.raises(error):
        service.import_image(ADMIN, image.id, ImportRequest(method, {"uri": "http://198.51.100.1/"}))
    assert service.show_image(ADMIN, image.id) == before
    assert service.image_tasks(ADMIN, image.id) == ()


def test_unknown_store_and_missing_formats(make: Make) -> None:
    service = make()
    image = staged(service)
    with pytest.raises(Conflict):
        service.import_image(ALICE, image.id, ImportRequest("glance-direct", stores=("nowhere",)))
    bare = service.create_image(ALICE, {"container_format": "bare"})
    service.stage(ALICE, bare.id, io.BytesIO(DATA))
    with pytest.raises(Conflict, match="disk_format"):
        service.import_image(ALICE, bare.id, ImportRequest("glance-direct"))


def test_who_may(make: Make) -> None:
    service = make()
    image = staged(service)
    with pytest.raises(ImageNotFound):
        service.import_image(BOB, image.id, ImportRequest("glance-direct"))
    public = copyable(service)
    with pytest.raises(Forbidden):
        service.import_image(ALICE, public.id, ImportRequest("copy-image", all_stores=True))
    with pytest.raises(Forbidden):
        service.list_tasks(ALICE)


def test_second_import_at_once_is_a_conflict(make: Make) -> None:
    service = make()
    image = copyable(service)
    request = ImportRequest("copy-image", stores=("b",))
    results: list[object] = []

    def begin() -> None:
        try:
            results.append(service.import_image(ADMIN, image.id, request))
        except Conflict as error:
            results.append(error)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(each, Task) for each in results) == 1
    assert len(service.image_tasks(ADMIN, image.id)) == 1
    assert [each.store for each in outcome(service, image.id)[0].locations] == ["a", "b"]


def test_delete_while_it_waits(make: Make) -> None:
    service = make()
    image = staged(service)
    task = service.import_image(ALICE, image.id, ImportRequest("glance-direct"))
    assert task is not None
    service.delete_image(ALICE, image.id)
    assert sum(blobs(service).values()) == 0
    service.run_tasks()
    assert service.show_task(ADMIN, task.id).status is TaskStatus.FAILURE


class Dies(ImportPlugin):
    """A plugin in which the process dies, some times."""

    class Death(BaseException):
        pass

    def __init__(self, times: int) -> None:
        super().__init__({})
        self.times = times

    def process(self, subject: Subject) -> None:
        if self.times:
            self.times -= 1
            raise self.Death


def test_a_task_goes_on_where_its_worker_died(make: Make) -> None:
    service = make(Dies(2), stores={"a": MemoryStore({})})
    image = staged(service)
    service.import_image(ALICE, image.id, ImportRequest("glance-direct"))
    for _ in range(2):
        with pytest.raises(Dies.Death):
            service.run_tasks()
        assert service.reap() == []
        assert service.show_image(ALICE, image.id).status is Status.IMPORTING
    done, task = outcome(service, image.id)
    assert (done.status, task.status) == (Status.ACTIVE, TaskStatus.SUCCESS)


def test_a_task_that_kills_its_workers_is_given_up(make: Make) -> None:
    service = make(Dies(99))
    image = staged(service)
    service.import_image(ALICE, image.id, ImportRequest("glance-direct"))
    for _ in range(5):
        with pytest.raises(Dies.Death):
            service.run_tasks()
    done, task = outcome(service, image.id)
    assert (done.status, task.status) == (Status.QUEUED, TaskStatus.FAILURE)
    assert "given up" in task.message
    assert sum(blobs(service).values()) == 0


class Breaks(ImportPlugin):
    def process(self, subject: Subject) -> None:
        raise ZeroDivisionError("secret detail")


def test_a_bug_in_a_plugin_is_not_told(make: Make) -> None:
    service = make(Breaks({}))
    image = staged(service)
    service.import_image(ALICE, image.id, ImportRequest("glance-direct"))
    done, task = outcome(service, image.id)
    assert (done.status, task.status) == (Status.QUEUED, TaskStatus.FAILURE)
    assert "secret" not in task.message


def test_images_whose_task_is_gone_are_reaped(make: Make) -> None:
    service = make()
    image = staged(service)
    task = service.import_image(ALICE, image.id, ImportRequest("glance-direct"))
    assert task is not None
    service._context.registry.delete_task(task.id)
    assert service.reap() == [image.id]
    assert service.show_image(ALICE, image.id).status is Status.QUEUED
    assert sum(blobs(service).values()) == 0


def test_staged_data_waits_for_ever(make: Make) -> None:
    service = make()
    image = staged(service)
    assert service.reap() == []
    assert [orphan.key for orphan in service.gc(grace_seconds=0)] == []
    service.delete_image(ALICE, image.id)
    assert blobs(service)["os_glance_staging_store"] == 0


def test_a_runner_works_at_once(make: Make) -> None:
    service = make()
    service.start_tasks(2, interval=60.0)
    ids = [staged(service).id for _ in range(5)]
    for image_id in ids:
        service.import_image(ALICE, image_id, ImportRequest("glance-direct"))
    done = threading.Event()
    for _ in range(200):
        if all(service.show_image(ALICE, image_id).status is Status.ACTIVE for image_id in ids):
            done.set()
            break
        done.wait(0.05)
    assert done.is_set()


# Plugins


def imported(service: ImageService, data: bytes, caller: Caller = ALICE, **values: Any) -> tuple[Image, Task]:
    image = new(service, caller, **values)
    service.stage(caller, image.id, io.BytesIO(data))
    service.import_image(caller, image.id, ImportRequest("glance-direct"))
    return outcome(service, image.id)


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, DATA)
    return file.getvalue()


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(DATA),
        gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:]),
        bz2.compress(DATA),
        lzma.compress(DATA),
        zipped("disk.raw"),
        DATA,
    ],
    ids=["gzip", "gzip-members", "bzip2", "xz", "zip", "plain"],
)
def test_decompression(make: Make, packed: bytes) -> None:
    service = make(ImageDecompression({}))
    done, task = imported(service, packed)
    assert (done.status, done.size, task.message) == (Status.ACTIVE, len(DATA), "")
    assert content(service, done.id) == DATA
    assert blobs(service)["os_glance_staging_store"] == 0


def test_what_is_meant_to_be_compressed_stays(make: Make) -> None:
    service = make(ImageDecompression({}))
    packed = gzip.compress(DATA)
    done, _task = imported(service, packed, container_format="compressed")
    assert content(service, done.id) == packed


@pytest.mark.parametrize(
    ("packed", "told"),
    [
        (gzip.compress(DATA)[:-20], "decompressed"),
        (lzma.compress(DATA)[:-20], "decompressed"),
        (b"\x1f\x8b" + b"\xff" * 100, "decompressed"),
        (zipped("one", "two"), "2 files"),
        (b"PK\x03\x04" + b"x" * 100, "decompressed"),
    ],
    ids=["short-gzip", "short-xz", "not-gzip", "two-files", "not-zip"],
)
def test_broken_archives(make: Make, packed: bytes, told: str) -> None:
    service = make(ImageDecompression({}))
    done, task = imported(service, packed)
    assert (done.status, task.status) == (Status.QUEUED, TaskStatus.FAILURE)
    assert told in task.message
    assert sum(blobs(service).values()) == 0


def test_bombs_stop_at_the_ratio_and_at_the_size_cap(make: Make) -> None:
    bomb = gzip.compress(gzip.compress(bytes(64 << 20)))
    done, task = imported(make(ImageDecompression({"max_ratio": 2})), gzip.compress(bytes(1 << 20)))
    assert (done.status, "max_ratio" in task.message) == (Status.QUEUED, True)
    done, task = imported(make(ImageDecompression({}), image_size_cap=1 << 20), gzip.compress(bytes(2 << 20)))
    assert (done.status, "image_size_cap" in task.message) == (Status.QUEUED, True)
    assert len(bomb) < 1 << 20


def test_injection(make: Make) -> None:
    plugin = InjectImageMetadata({"inject": {"hw_disk_bus": "scsi"}, "ignore_user_roles": ["admin"]})
    service = make(plugin)
    assert imported(service, DATA, hw_disk_bus="ide")[0].properties["hw_disk_bus"] == "scsi"
    assert "hw_disk_bus" not in imported(service, DATA, ADMIN)[0].properties


def disk(tmp_path: Path, fmt: str, *options: str) -> bytes:
    raw = tmp_path / "raw"
    raw.write_bytes(DATA + bytes((4 << 20) - len(DATA)))
    made = tmp_path / "made"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", fmt, *options, str(raw), str(made)], check=True)
    return made.read_bytes()


@pytest.mark.parametrize(
    ("fmt", "qemu", "options"),
    [
        ("qcow2", "qcow2", ()),
        ("qcow2", "qcow2", ("-o", "compat=0.10")),
        ("qcow2", "qcow2", ("-c",)),
        ("vdi", "vdi", ()),
        ("vhd", "vpc", ("-o", "subformat=dynamic")),
        ("vhdx", "vhdx", ()),
        ("vmdk", "vmdk", ("-o", "subformat=monolithicSparse")),
        ("vmdk", "vmdk", ("-o", "subformat=streamOptimized")),
        ("raw", "raw", ()),
    ],
)
def test_conversion_to_raw(make: Make, tmp_path: Path, fmt: str, qemu: str, options: tuple[str, ...]) -> None:
    service = make(ImageConversion({}))
    done, task = imported(service, disk(tmp_path, qemu, *options), disk_format=fmt)
    assert (done.status, done.disk_format, task.message) == (Status.ACTIVE, "raw", "")
    assert content(service, done.id).startswith(DATA)


def test_conversion_to_qcow2(make: Make, tmp_path: Path) -> None:
    service = make(ImageConversion({"output_format": "qcow2"}))
    done, _task = imported(service, disk(tmp_path, "raw"))
    assert (done.disk_format, done.virtual_size) == ("qcow2", 4 << 20)
    assert content(service, done.id).startswith(b"QFI\xfb")


def unsafe(tmp_path: Path, *arguments: str) -> bytes:
    made = tmp_path / "unsafe"
    subprocess.run(["qemu-img", "create", "-q", *arguments[:-1], str(made), arguments[-1]], check=True)
    return made.read_bytes()


@pytest.mark.parametrize(
    ("fmt", "arguments"),
    [
        ("qcow2", ("-f", "qcow2", "-F", "raw", "-u", "-b", "/etc/passwd", "1M")),
        ("qcow2", ("-f", "qcow2", "-o", "data_file={dir}/data,data_file_raw=on", "1M")),
        ("vmdk", ("-f", "vmdk", "-o", "subformat=monolithicFlat", "1M")),
        ("raw", ("-f", "qcow2", "1M")),
        ("vhd", ("-f", "qcow2", "1M")),
    ],
    ids=["backing-file", "data-file", "flat-vmdk", "raw-is-qcow2", "vhd-is-qcow2"],
)
def test_conversion_refuses_what_is_unsafe(
    make: Make, tmp_path: Path, fmt: str, arguments: tuple[str, ...]
) -> None:
    service = make(ImageConversion({}))
    data = unsafe(tmp_path, *(each.format(dir=tmp_path) for each in arguments))
    done, task = imported(service, data, disk_format=fmt)
    assert (done.status, task.status) == (Status.QUEUED, TaskStatus.FAILURE)
    assert "root:" not in task.message
    assert sum(blobs(service).values()) == 0
