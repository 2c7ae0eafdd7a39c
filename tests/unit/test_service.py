"""The use cases, over real parts in memory."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from glancelike.embedded import open_service
from glancelike.errors import (
    BlobExists,
    BlobNotFound,
    ConfigError,
    Conflict,
    Forbidden,
    FormatMismatch,
    GlancelikeError,
    ImageExists,
    ImageNotFound,
    ImageProtected,
    ImageTooLarge,
    InvalidInput,
    InvalidRange,
    InvalidTransition,
    LeaseLost,
    LimitExceeded,
    MemberExists,
    MemberNotFound,
    NoImageData,
    ReadOnlyProperty,
    SizeMismatch,
    StoreFull,
    TagNotFound,
    UnknownStore,
    Unsupported,
)
from glancelike.model import (
    Caller,
    Change,
    ChangeOp,
    Image,
    MemberStatus,
    Op,
    Query,
    Status,
    Viewer,
    Visibility,
)
from glancelike.model import Filter as Where
from glancelike.policy import Policy
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService, Settings
from glancelike.stores.base import BlobInfo, Cap, Source
from glancelike.stores.memory import MemoryStore
from glancelike.testing.service import memory_service
from glancelike.vfs import MountTable
from tests.leases import StandingClock

MEMBER = frozenset({"member", "reader"})
OWNER = Caller("u", "p", MEMBER)
OTHER = Caller("v", "q", MEMBER)
ADMIN = Caller.administrator("root")
DATA = bytes(range(256)) * 20_000
RAW = {"disk_format": "raw", "container_format": "bare"}


@pytest.fixture
def service() -> Iterator[ImageService]:
    with memory_service() as opened:
        yield opened


def create(service: ImageService, caller: Caller = OWNER, **values: Any) -> Image:
    return service.create_image(caller, {"name": "img", **RAW, **values})


def active(service: ImageService, caller: Caller = OWNER, data: bytes = DATA, **values: Any) -> Image:
    return service.upload(caller, create(service, caller, **values).id, io.BytesIO(data), size=len(data))


def blobs(service: ImageService) -> list[str]:
    return [blob.key for mount in service._context.mounts for blob in mount.store.list()]


def content(service: ImageService, image: Image, caller: Caller = OWNER, **kwargs: int) -> bytes:
    return b"".join(service.read(caller, image.id, **kwargs).chunks())


# Data


@pytest.mark.parametrize("size", [len(DATA), None])
def test_upload_and_read(service: ImageService, size: int | None) -> None:
    image = service.upload(OWNER, create(service).id, io.BytesIO(DATA), size=size)
    assert (image.status, image.size, image.virtual_size) == (Status.ACTIVE, len(DATA), len(DATA))
    assert (image.hash_algo, image.hash_value) == ("sha256", hashlib.sha256(DATA).hexdigest())
    assert image.checksum is None
    assert content(service, image) == DATA
    assert content(service, image, offset=1000, length=9) == DATA[1000:1009]
    assert content(service, image, offset=len(DATA) - 3) == DATA[-3:]
    with service.open_image(OWNER, image.id) as file:
        assert file.read() == DATA


def test_the_digest_is_the_operators_choice() -> None:
    with memory_service(hashing_algorithm="sha512", compute_md5_checksum=True) as service:
        image = active(service)
        assert image.hash_value == hashlib.sha512(DATA).hexdigest()
        assert image.checksum == hashlib.md5(DATA).hexdigest()
    with pytest.raises(ConfigError, match="hashing_algorithm"):
        memory_service(hashing_algorithm="nonsense")


def test_an_empty_image(service: ImageService) -> None:
    image = active(service, data=b"")
    assert (image.size, content(service, image)) == (0, b"")


class Broken(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(min(size or 1, 100_000))
        if self.tell() > 1_000_000:
            raise ConnectionResetError("the client went away")
        return block


@pytest.mark.parametrize(
    ("source", "size", "error"),
    [
        (Broken(DATA), len(DATA), ConnectionResetError),
        (Broken(DATA), None, ConnectionResetError),
        (io.BytesIO(DATA), len(DATA) + 1, SizeMismatch),
        (io.BytesIO(DATA), len(DATA) - 1, SizeMismatch),
        (io.BytesIO(b"QFI\xfb" + DATA), None, GlancelikeError),
    ],
)
def test_a_failed_upload_leaves_nothing(
    service: ImageService, source: io.BytesIO, size: int | None, error: type[Exception]
) -> None:
    image = create(service)
    with pytest.raises(error):
        service.upload(OWNER, image.id, source, size=size)
    assert service.show_image(OWNER, image.id).status is Status.QUEUED
    assert blobs(service) == []
    again = service.upload(OWNER, image.id, io.BytesIO(DATA), size=len(DATA))
    assert again.status is Status.ACTIVE


def test_a_mismatch_found_at_the_end_removes_the_blob(service: ImageService) -> None:
    image = create(service, disk_format="qcow2")
    with pytest.raises(FormatMismatch, match="qcow2"):
        service.upload(OWNER, image.id, io.BytesIO(b"short"), size=5)
    assert blobs(service) == []


def test_size_cap_with_known_and_unknown_size() -> None:
    with memory_service(image_size_cap=1000) as service:
        assert active(service, data=bytes(1000)).size == 1000
        for size in (1001, None):
            with pytest.raises(ImageTooLarge):
                service.upload(OWNER, create(service).id, io.BytesIO(bytes(1001)), size=size)
        assert len(blobs(service)) == 1


def test_data_is_written_once(service: ImageService) -> None:
    image = active(service)
    with pytest.raises(InvalidTransition, match="is active"):
        service.upload(OWNER, image.id, io.BytesIO(b"other"), size=5)
    assert content(service, image) == DATA


def test_uploads_that_cannot_start(service: ImageService) -> None:
    image = create(service)
    with pytest.raises(UnknownStore, match="'nowhere'"):
        service.upload(OWNER, image.id, io.BytesIO(DATA), size=None, store="nowhere")
    with pytest.raises(ImageNotFound):
        service.upload(OTHER, image.id, io.BytesIO(DATA), size=None)
    bare = service.create_image(OWNER, {"name": "no formats"})
    with pytest.raises(InvalidInput, match="disk_format"):
        service.upload(OWNER, bare.id, io.BytesIO(DATA), size=None)


def test_a_full_store_is_told_and_leaves_the_image_queued() -> None:
    class Full(MemoryStore):
        def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
            source.read(1000)
            raise StoreFull("no space left")

    with open_service("memory://", stores={"full": Full({})}) as service:
        image = create(service)
        with pytest.raises(StoreFull, match="store 'full'"):
            service.upload(OWNER, image.id, io.BytesIO(DATA), size=None)
        assert service.show_image(OWNER, image.id).status is Status.QUEUED


def test_a_store_without_unknown_size_says_so_first() -> None:
    class Sized(MemoryStore):
        capabilities = MemoryStore.capabilities & ~Cap.UNKNOWN_SIZE

    with open_service("memory://", stores={"sized": Sized({})}) as service:
        image = create(service)
        with pytest.raises(Unsupported, match="size"):
            service.upload(OWNER, image.id, io.BytesIO(DATA), size=None)
        assert service.show_image(OWNER, image.id).version == 1


class Gate(io.BytesIO):
    """A source that waits in the middle until it is let through."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reached, self.go = threading.Event(), threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 0 and not self.reached.is_set():
            self.reached.set()
            assert self.go.wait(30)
        return super().read(min(size or 1, 1_000_000))


def test_one_upload_at_a_time_and_changes_meanwhile_are_kept(service: ImageService) -> None:
    image = create(service)
    gate = Gate(DATA)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.upload, OWNER, image.id, gate, size=len(DATA))
        assert gate.reached.wait(30)
        assert service.show_image(OWNER, image.id).status is Status.SAVING
        with pytest.raises(InvalidTransition, match="somebody else"):
            service.upload(OWNER, image.id, io.BytesIO(b"x"), size=1)
        with pytest.raises(NoImageData, match="saving"):
            service.read(OWNER, image.id)
        service.update_image(OWNER, image.id, [Change(ChangeOp.REPLACE, ("name",), "renamed")])
        assert service.reap() == []
        gate.go.set()
        done = first.result(30)
    assert (done.status, done.name) == (Status.ACTIVE, "renamed")
    assert content(service, done) == DATA


def test_deleting_during_the_upload_leaves_nothing(service: ImageService) -> None:
    image = create(service)
    gate = Gate(DATA)
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(service.upload, OWNER, image.id, gate, size=len(DATA))
        assert gate.reached.wait(30)
        service.delete_image(OWNER, image.id)
        gate.go.set()
        with pytest.raises(ImageNotFound):
            upload.result(30)
    assert blobs(service) == []


def test_a_dead_upload_is_reaped_and_a_late_writer_shut_out(clock: StandingClock) -> None:
    """The writer stalls past its lease, another uploads, then it goes on."""
    registry, store = MemoryRegistry({}), MemoryStore({})
    with open_service(registry, stores={"s": store}, upload_lease_seconds=0.3) as service:
        image = create(service)
        gate = Gate(b"late" * 1_000_000)
        service._context.leases._keep = lambda: None  # type: ignore[method-assign] # as if it were stopped
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(service.upload, OWNER, image.id, gate, size=None)
            assert gate.reached.wait(30)
            assert service.show_image(OWNER, image.id).status is Status.SAVING
            assert service.reap() == []
            clock.move(0.3)
            assert service.reap() == [image.id]
            assert service.show_image(OWNER, image.id).status is Status.QUEUED
            done = service.upload(OWNER, image.id, io.BytesIO(DATA), size=len(DATA))
            gate.go.set()
            with pytest.raises((LeaseLost, InvalidTransition)):
                late.result(30)
        assert service.show_image(OWNER, image.id) == done
        assert content(service, done) == DATA
        assert blobs(service) == [done.locations[0].key]


@pytest.mark.parametrize(
    ("way", "busy", "done"), [("upload", "saving", "active"), ("stage", "uploading", "uploading")]
)
def test_a_late_writer_leaves_the_one_who_took_over_alone(
    clock: StandingClock, way: str, busy: str, done: str
) -> None:
    """It fails while the other's data is on its way: the image is the other's."""
    mounts = MountTable({"s": MemoryStore({})}, staging=MemoryStore({}))
    settings = Settings(upload_lease_seconds=0.3)
    with (
        ImageService(MemoryRegistry({}), mounts, Policy(), settings) as service,
        ThreadPoolExecutor(2) as pool,
    ):
        bring = getattr(service, way)
        image = create(service)
        leases = service._context.leases
        keep, leases._keep = leases._keep, lambda: None  # type: ignore[method-assign] # as if it were stopped
        gates = [Gate(b"late" * 1_000_000), Gate(DATA)]
        late = pool.submit(bring, OWNER, image.id, gates[0], size=None)
        assert gates[0].reached.wait(30)
        clock.move(0.3)
        leases._keep, leases._thread = keep, None  # type: ignore[method-assign]
        other = pool.submit(bring, OWNER, image.id, gates[1], size=len(DATA))
        assert gates[1].reached.wait(30)
        gates[0].go.set()
        with pytest.raises(LeaseLost):
            late.result(30)
        assert service.show_image(OWNER, image.id).status == busy
        gates[1].go.set()
        assert (other.result(30).status, other.result().size) == (done, len(DATA))


def test_an_upload_takes_over_what_a_dead_process_left() -> None:
    registry = MemoryRegistry({})
    with open_service(registry, stores={"s": "memory://"}) as service:
        image = create(service)
        left = registry.get(image.id, Viewer(admin=True))
        registry.update(Image(**{**_fields(left), "status": Status.SAVING}), expect=left.version)
        done = service.upload(OWNER, image.id, io.BytesIO(DATA), size=None)
        assert done.status is Status.ACTIVE


def _fields(image: Image) -> dict[str, Any]:
    return {name: getattr(image, name) for name in Image.__slots__}


def test_reading_what_cannot_be_read(service: ImageService) -> None:
    queued = create(service)
    with pytest.raises(NoImageData):
        service.read(OWNER, queued.id)
    image = active(service)
    for offset, length in ((-1, None), (len(DATA), None), (0, -1)):
        with pytest.raises(InvalidRange):
            service.read(OWNER, image.id, offset=offset, length=length)
    with pytest.raises(ImageNotFound):
        service.read(OTHER, image.id)
    reader = Caller("r", "p", frozenset({"reader"}))
    with pytest.raises(Forbidden, match="download_image"):
        service.read(reader, image.id)


def test_data_that_is_deleted_or_moved_right_before_it_is_read(service: ImageService) -> None:
    image = active(service)
    download = service.read(OWNER, image.id)
    service.delete_image(OWNER, image.id)
    with pytest.raises(ImageNotFound):
        download.chunks()
    with open_service("memory://", stores={"a": "memory://", "b": "memory://"}) as two:
        image = active(two)
        download = two.read(OWNER, image.id)
        two.move_image(image.id, source="a", target="b")
        assert b"".join(download.chunks()) == DATA
        lost = two.show_image(OWNER, image.id).locations[0]
        two._context.mounts["b"].store.delete(lost.key)
        with pytest.raises(BlobNotFound):
            two.read(OWNER, image.id).chunks()


def test_two_stores(service: ImageService) -> None:
    with open_service("memory://", stores={"a": "memory://", "b": "memory://"}, default_store="b") as two:
        image = create(two)
        assert two.upload(OWNER, image.id, io.BytesIO(DATA), size=None).locations[0].store == "b"
        other = create(two)
        assert two.upload(OWNER, other.id, io.BytesIO(DATA), size=None, store="a").locations[0].store == "a"
        assert [(info.id, info.default) for info in two.stores(OWNER)] == [("a", False), ("b", True)]


# Records


def test_create_with_everything(service: ImageService) -> None:
    identity = "11111111-2222-3333-4444-555555555555"
    image = create(
        service,
        id=identity,
        name="é🙂",
        visibility="private",
        protected=True,
        os_hidden=True,
        min_disk=1,
        min_ram=2,
        tags=["b", "a", "a"],
        hw_machine="q35",
    )
    assert image == service.show_image(OWNER, identity)
    assert (image.owner, image.visibility, image.hidden) == ("p", Visibility.PRIVATE, True)
    assert (image.tags, image.properties) == (frozenset({"a", "b"}), {"hw_machine": "q35"})
    with pytest.raises(ImageExists):
        create(service, OTHER, id=identity)


@pytest.mark.parametrize(
    ("values", "error", "names"),
    [
        ({"id": "nonsense"}, InvalidInput, "id"),
        ({"name": 5}, InvalidInput, "name"),
        ({"name": "x" * 256}, InvalidInput, "name"),
        ({"visibility": "secret"}, InvalidInput, "visibility"),
        ({"protected": "yes"}, InvalidInput, "protected"),
        ({"min_disk": -1}, InvalidInput, "min_disk"),
        ({"min_ram": True}, InvalidInput, "min_ram"),
        ({"min_ram": 2**40}, InvalidInput, "min_ram"),
        ({"tags": "abc"}, InvalidInput, "tags"),
        ({"tags": [1]}, InvalidInput, "tag"),
        ({"disk_format": "floppy"}, InvalidInput, "disk_format"),
        ({"prop": 1}, InvalidInput, "prop"),
        ({"status": "active"}, ReadOnlyProperty, "status"),
        ({"size": 1}, ReadOnlyProperty, "size"),
        ({"locations": []}, ReadOnlyProperty, "locations"),
        ({"os_glance_import": "x"}, ReadOnlyProperty, "reserved"),
        ({"visibility": "public"}, Forbidden, "publicize_image"),
        ({"owner": "somebody"}, Forbidden, "owned by .somebody."),
    ],
)
def test_create_with_what_is_wrong(
    service: ImageService, values: dict[str, Any], error: type[Exception], names: str
) -> None:
    with pytest.raises(error, match=names):
        create(service, **values)
    assert service.list_images(ADMIN).images == ()


def change(op: str, path: str, value: Any = None) -> Change:
    return Change(ChangeOp(op), tuple(path.strip("/").split("/")), value)


def test_update(service: ImageService) -> None:
    image = create(service, foo="bar", tags=["old"])
    updated = service.update_image(
        OWNER,
        image.id,
        [
            change("replace", "/name", "new"),
            change("add", "/baz", "qux"),
            change("remove", "/foo"),
            change("replace", "/tags", ["t"]),
            change("add", "/tags/-", "u"),
            change("replace", "/visibility", "community"),
        ],
    )
    assert (updated.name, dict(updated.properties)) == ("new", {"baz": "qux"})
    assert (updated.tags, updated.visibility) == (frozenset({"t", "u"}), Visibility.COMMUNITY)
    assert updated.version == image.version + 1
    same = service.update_image(OWNER, image.id, [change("replace", "/name", "new")])
    assert same.version == updated.version


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (change("replace", "/nothing", "x"), Conflict),
        (change("remove", "/nothing"), Conflict),
        (change("remove", "/name"), ReadOnlyProperty),
        (change("replace", "/status", "active"), ReadOnlyProperty),
        (change("replace", "/id", "x"), ReadOnlyProperty),
        (change("add", "/os_glance_x", "x"), ReadOnlyProperty),
        (change("add", "/foo/bar", "x"), InvalidInput),
        (change("replace", "/owner", "q"), Forbidden),
        (change("replace", "/visibility", "public"), Forbidden),
        (change("replace", "/disk_format", "qcow2"), ReadOnlyProperty),
    ],
)
def test_an_update_is_whole_or_nothing(service: ImageService, step: Change, error: type[Exception]) -> None:
    image = active(service)
    with pytest.raises(error):
        service.update_image(OWNER, image.id, [change("replace", "/name", "new"), step])
    assert service.show_image(OWNER, image.id) == image


def test_racing_updates_all_arrive(service: ImageService) -> None:
    image = create(service)
    with ThreadPoolExecutor(8) as pool:
        steps = [[change("add", f"/p{number}", "x")] for number in range(24)]
        list(pool.map(lambda each: service.update_image(OWNER, image.id, each), steps))
    assert len(service.show_image(OWNER, image.id).properties) == 24


def test_quotas_of_tags_and_properties() -> None:
    with memory_service(image_tag_quota=2, image_property_quota=1) as service:
        image = create(service, tags=["a", "b"], one="1")
        with pytest.raises(LimitExceeded, match="tags"):
            service.add_tag(OWNER, image.id, "c")
        with pytest.raises(LimitExceeded, match="properties"):
            service.update_image(OWNER, image.id, [change("add", "/two", "2")])


def test_tags(service: ImageService) -> None:
    image = create(service)
    service.add_tag(OWNER, image.id, "x/y")
    service.add_tag(OWNER, image.id, "x/y")
    assert service.show_image(OWNER, image.id).tags == {"x/y"}
    service.remove_tag(OWNER, image.id, "x/y")
    with pytest.raises(TagNotFound):
        service.remove_tag(OWNER, image.id, "x/y")


def test_delete_removes_record_and_bytes(service: ImageService) -> None:
    image = active(service)
    with pytest.raises(ImageNotFound):
        service.delete_image(OTHER, image.id)
    service.delete_image(OWNER, image.id)
    with pytest.raises(ImageNotFound):
        service.show_image(ADMIN, image.id)
    assert blobs(service) == []


def test_protected_images_stay(service: ImageService) -> None:
    image = active(service, protected=True)
    with pytest.raises(ImageProtected):
        service.delete_image(ADMIN, image.id)
    assert content(service, image) == DATA


def test_lists_are_bounded_and_checked(service: ImageService) -> None:
    with memory_service(api_limit_max=2) as small:
        for _ in range(3):
            create(small)
        page = small.list_images(OWNER, Query(limit=1000))
        assert len(page.images) == 2
        assert page.next_marker == page.images[-1].id
    with pytest.raises(InvalidInput, match="limit"):
        service.list_images(OWNER, Query(limit=-1))
    with pytest.raises(InvalidInput, match="secret"):
        service.list_images(OWNER, Query(filters=(Where("secret", Op.EQ, "x"),)))


def test_find_by_name_or_id(service: ImageService) -> None:
    image = create(service, name="one")
    assert service.find_image(OWNER, "one") == service.find_image(OWNER, image.id) == image
    create(service, name="one")
    with pytest.raises(InvalidInput, match="More than one"):
        service.find_image(OWNER, "one")
    with pytest.raises(ImageNotFound, match="none"):
        service.find_image(OWNER, "none")


# Members


def test_sharing(service: ImageService) -> None:
    image = active(service)
    service.add_member(OWNER, image.id, "q")
    with pytest.raises(MemberExists):
        service.add_member(OWNER, image.id, "q")
    assert service.list_images(OTHER).images == ()
    with pytest.raises(Forbidden):
        service.set_member_status(OWNER, image.id, "q", MemberStatus.ACCEPTED)
    service.set_member_status(OTHER, image.id, "q", MemberStatus.ACCEPTED)
    assert [each.id for each in service.list_images(OTHER).images] == [image.id]
    assert content(service, image, OTHER) == DATA
    service.add_member(OWNER, image.id, "r")
    assert [m.project for m in service.list_members(OWNER, image.id)] == ["q", "r"]
    assert [m.project for m in service.list_members(OTHER, image.id)] == ["q"]
    with pytest.raises(MemberNotFound):
        service.show_member(OTHER, image.id, "r")
    with pytest.raises(MemberNotFound):
        service.remove_member(OTHER, image.id, "r")
    with pytest.raises(Forbidden):
        service.delete_image(OTHER, image.id)
    service.remove_member(OWNER, image.id, "q")
    with pytest.raises(ImageNotFound):
        service.show_image(OTHER, image.id)


def test_only_shared_images_have_members(service: ImageService) -> None:
    image = create(service, visibility="private")
    with pytest.raises(Forbidden, match="shared"):
        service.add_member(OWNER, image.id, "q")
    shared = create(service)
    with pytest.raises(InvalidInput):
        service.add_member(OWNER, shared.id, "")


def test_member_quota() -> None:
    with memory_service(image_member_quota=1) as service:
        image = create(service)
        service.add_member(OWNER, image.id, "q")
        with pytest.raises(LimitExceeded):
            service.add_member(OWNER, image.id, "r")


# Upkeep


def test_gc_removes_orphans_and_nothing_else(service: ImageService) -> None:
    image = active(service)
    store = service._context.mounts["memory"].store
    orphan = f"{image.id}-0123456789ab"
    store.write(orphan, io.BytesIO(b"lost"), size=4)
    store.write("somebody-elses", io.BytesIO(b"kept"), size=4)
    assert list(service.gc(grace_seconds=3600)) == []
    (found,) = service.gc(grace_seconds=0, dry_run=True)
    assert (found.key, found.size, found.removed) == (orphan, 4, False)
    assert [each.key for each in service.gc(grace_seconds=0)] == [orphan]
    assert sorted(blobs(service)) == sorted([image.locations[0].key, "somebody-elses"])
    with pytest.raises(BlobExists):
        store.write("somebody-elses", io.BytesIO(b"x"), size=1)


def test_gc_spares_an_upload_that_is_about_to_end(service: ImageService) -> None:
    image = create(service)
    gate = Gate(DATA)
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(service.upload, OWNER, image.id, gate, size=len(DATA))
        assert gate.reached.wait(30)
        service._context.mounts["memory"].store.write(f"{image.id}-0123456789ab", io.BytesIO(b"x"), size=1)
        assert list(service.gc(grace_seconds=0)) == []
        gate.go.set()
        upload.result(30)
    assert len(list(service.gc(grace_seconds=0))) == 1


def test_opening_and_closing_twice_is_harmless() -> None:
    service = memory_service()
    service.open()
    service.close()
    service.close()


def test_unknown_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="image_size_kap"):
        memory_service(image_size_kap=1)
