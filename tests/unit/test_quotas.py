"""Quotas: what is limited, what it costs, and that no race overshoots."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from glancelike import config
from glancelike.embedded import open_service
from glancelike.errors import ConfigError, LeaseLost, QuotaExceeded
from glancelike.model import Amounts, Caller, Image, Status, TaskStatus
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService, ImportRequest
from glancelike.service.quotas import MIB, Quotas, SameForAll
from glancelike.testing.service import memory_service
from tests.leases import StandingClock
from tests.server_fixtures import Api, write_users
from tests.waiting import until

MEMBER = frozenset({"member", "reader"})
OWNER = Caller("u", "p", MEMBER)
OTHER = Caller("v", "q", MEMBER)
ADMIN = Caller.administrator("root")
RAW = {"disk_format": "raw", "container_format": "bare"}
SMALL = bytes(100)


def create(service: ImageService, caller: Caller = OWNER) -> Image:
    return service.create_image(caller, {"name": "img", **RAW})


def upload(
    service: ImageService, data: bytes = SMALL, *, known: bool = True, caller: Caller = OWNER
) -> Image:
    size = len(data) if known else None
    return service.upload(caller, create(service, caller).id, io.BytesIO(data), size=size)


def used(service: ImageService, caller: Caller = OWNER) -> Amounts:
    return service._context.registry.usage(caller.project or "")


def blobs(service: ImageService) -> int:
    mounts = service._context.mounts
    return sum(1 for mount in (*mounts, mounts.staging) for _ in mount.store.list())


def reservations(service: ImageService) -> Mapping[str, Any]:
    registry = service._context.registry
    assert isinstance(registry, MemoryRegistry)
    return registry._reservations


class CountsCalls(MemoryRegistry):
    """Tell what quotas ask of the registry."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in ("usage", "reserve", "extend_reservations", "release_reservation"):
            self.calls.append(name)
        return super().__getattribute__(name)


def test_no_limit_costs_nothing() -> None:
    registry = CountsCalls()
    with open_service(registry, stores={"memory": "memory://"}) as service:
        for known in (True, False):
            upload(service, known=known)
        staged = create(service)
        service.stage(OWNER, staged.id, io.BytesIO(SMALL), size=None)
        service.import_image(OWNER, staged.id, ImportRequest("glance-direct"))
        service.run_tasks()
        assert service.show_image(OWNER, staged.id).status is Status.ACTIVE
        assert service.usage(OWNER) == {}
    assert registry.calls == []


def test_one_limit_costs_little() -> None:
    registry = CountsCalls()
    with open_service(registry, stores={"memory": "memory://"}, image_count_total=5) as service:
        upload(service)
    # The memory registry's own reserve asks for the usage.
    assert registry.calls == ["reserve", "usage"], "creating looks once, uploading and settling never"


def test_image_count_total() -> None:
    with memory_service(image_count_total=2) as service:
        first = create(service)
        create(service)
        with pytest.raises(QuotaExceeded, match="image_count_total"):
            create(service)
        create(service, OTHER)
        create(service, Caller("system", None, frozenset({"admin"}), admin=True))
        service.delete_image(OWNER, first.id)
        create(service)
        assert used(service).images == 2
        assert not reservations(service)


def test_a_failed_create_gives_its_place_back() -> None:
    with memory_service(image_count_total=2) as service:
        taken = create(service)
        with pytest.raises(Exception, match=taken.id):
            service.create_image(OWNER, {"id": taken.id})
        assert not reservations(service)
        create(service)


@pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
def test_image_size_total(*, known: bool) -> None:
    with memory_service(user_storage_quota=250) as service:
        first = upload(service, known=known)
        upload(service, known=known)
        refused = create(service)
        with pytest.raises(QuotaExceeded, match="image_size_total"):
            service.upload(OWNER, refused.id, io.BytesIO(SMALL), size=100 if known else None)
        assert service.show_image(OWNER, refused.id).status is Status.QUEUED
        assert used(service).total == 200
        assert blobs(service) == 2, "refused data is discarded"
        assert not reservations(service)
        service.upload(OWNER, refused.id, io.BytesIO(SMALL[:50]), size=50 if known else None)
        assert used(service).total == 250, "a limit must be usable to its last byte"
        service.delete_image(OWNER, first.id)
        upload(service, known=known)


def test_a_known_size_is_refused_before_the_first_byte() -> None:
    class Untouched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            pytest.fail("the data was read")

    with memory_service(user_storage_quota=99) as service, pytest.raises(QuotaExceeded):
        service.upload(OWNER, create(service).id, Untouched(SMALL), size=100)


def test_a_stream_stops_at_the_limit() -> None:
    """CVE-2015-5286: chunked data must not pass the quota until the store is full."""

    @dataclass
    class Endless:
        given: int = 0

        def read(self, size: int, /) -> bytes:
            self.given += size
            return bytes(size)

    source = Endless()
    with memory_service(image_size_total=7, image_size_cap=1 << 40) as service:
        image = create(service)
        with pytest.raises(QuotaExceeded):
            service.upload(OWNER, image.id, source, size=None)
        assert source.given <= 10 * MIB
        assert blobs(service) == 0
        exact = upload(service, bytes(7 * MIB), known=False)
        assert exact.size == 7 * MIB, "all of the limit may be used without saying so before"
        assert not reservations(service)


def test_image_count_uploading() -> None:
    with memory_service(image_count_uploading=1) as service:
        staged = create(service)
        service.stage(OWNER, staged.id, io.BytesIO(SMALL), size=100)
        for call in (service.upload, service.stage):
            other = create(service)
            with pytest.raises(QuotaExceeded, match="image_count_uploading"):
                call(OWNER, other.id, io.BytesIO(SMALL), size=100)
            assert service.show_image(OWNER, other.id).status is Status.QUEUED
        with pytest.raises(QuotaExceeded, match="image_count_uploading"):
            service.import_image(
                OWNER, other.id, ImportRequest("web-download", {"uri": "http://93.184.215.14/image"})
            )
        assert service.image_tasks(OWNER, other.id) == ()
        service.import_image(OWNER, staged.id, ImportRequest("glance-direct"))
        service.run_tasks()
        assert service.show_image(OWNER, staged.id).status is Status.ACTIVE
        upload(service)


@pytest.mark.parametrize("size", [100, None])
def test_image_stage_total(size: int | None) -> None:
    limits = SameForAll({"staged": 150})
    with memory_service() as service:
        service._context.quotas.source = limits
        first, second = create(service), create(service)
        service.stage(OWNER, first.id, io.BytesIO(SMALL), size=size)
        with pytest.raises(QuotaExceeded, match="image_stage_total"):
            service.stage(OWNER, second.id, io.BytesIO(SMALL), size=size)
        assert service.show_image(OWNER, second.id).status is Status.QUEUED
        assert blobs(service) == 1
        upload(service)
        service.import_image(OWNER, first.id, ImportRequest("glance-direct"))
        service.run_tasks()
        service.stage(OWNER, second.id, io.BytesIO(SMALL), size=size)
        assert used(service) == Amounts(total=200, staged=100, images=3, uploading=1)


def test_an_import_counts_every_store() -> None:
    stores = {"one": "memory://", "two": "memory://"}
    with open_service("memory://", stores=stores, user_storage_quota=250) as service:
        image = create(service)
        service.stage(OWNER, image.id, io.BytesIO(SMALL), size=100)
        both = ImportRequest("glance-direct", stores=("one", "two"))
        upload(service)
        with pytest.raises(QuotaExceeded, match="image_size_total"):
            service.import_image(OWNER, image.id, both)
        assert service.show_image(OWNER, image.id).status is Status.UPLOADING
        service.import_image(OWNER, image.id, ImportRequest("glance-direct"))
        # Somebody else was faster: the task itself must see it.
        upload(service, SMALL[:50])
        service.run_tasks()
        assert used(service).total == 250
        with pytest.raises(QuotaExceeded, match="image_size_total"):
            service.import_image(ADMIN, image.id, ImportRequest("copy-image", stores=("two",)))
        assert service.show_image(OWNER, image.id).status is Status.ACTIVE
        assert not reservations(service)


def test_an_import_that_finds_no_room_fails() -> None:
    with memory_service(user_storage_quota=150) as service:
        image = create(service)
        service.stage(OWNER, image.id, io.BytesIO(SMALL), size=100)
        service.import_image(OWNER, image.id, ImportRequest("glance-direct"))
        upload(service)
        service.run_tasks()
        (task,) = service.image_tasks(OWNER, image.id)
        assert task.status is TaskStatus.FAILURE
        assert "image_size_total" in task.message
        assert used(service).total == 100
        assert blobs(service) == 1
        assert not reservations(service)


@pytest.fixture(params=["memory", "sqlite"])
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., ImageService]]:
    opened: list[ImageService] = []

    def make(**settings: Any) -> ImageService:
        uri = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/images.db"
        service = open_service(uri, stores={"memory": "memory://"}, **settings)
        opened.append(service)
        return service

    yield make
    for service in opened:
        service.close()


@pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
def test_racing_uploads(limited: Callable[..., ImageService], *, known: bool) -> None:
    service = limited(user_storage_quota=350, image_count_uploading=8, image_count_total=20)
    images = [create(service) for _ in range(8)]
    barrier = threading.Barrier(len(images))
    over: list[int] = []

    def run(image: Image) -> str:
        barrier.wait()
        try:
            service.upload(OWNER, image.id, io.BytesIO(SMALL), size=100 if known else None)
        except QuotaExceeded:
            return "refused"
        over.append(used(service).total)
        return "done"

    with ThreadPoolExecutor(len(images)) as pool:
        results = list(pool.map(run, images))
    assert max(over) <= 350, "overshoot"
    assert results.count("done") == 3, "exactly what there is room for"
    assert used(service) == Amounts(total=300, images=8)
    queued = [each for each in images if service.show_image(OWNER, each.id).status is Status.QUEUED]
    assert len(queued) == 5
    service.upload(OWNER, queued[0].id, io.BytesIO(SMALL[:50]), size=50)
    assert used(service).total == 350, "the limit is fully usable afterwards"


def test_racing_creates(limited: Callable[..., ImageService]) -> None:
    service = limited(image_count_total=5)

    def run(_number: int) -> str:
        try:
            create(service)
        except QuotaExceeded:
            return "refused"
        return "done"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(24)))
    assert (results.count("done"), used(service).images) == (5, 5)


def test_reservations_live_as_long_as_the_work(clock: StandingClock) -> None:
    """An upload slower than any lease keeps its room; one whose maker died doesn't."""
    lease = 0.3
    with memory_service(user_storage_quota=100, upload_lease_seconds=lease) as service:

        def extended() -> bool:
            (held,) = reservations(service).values()
            return bool(held.until == clock.monotonic() + lease / 2)

        class Slow(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                for _ in range(4):
                    clock.move(lease / 3)
                    until(extended)
                if not self.tell():
                    with pytest.raises(QuotaExceeded):
                        upload(service, SMALL[:1])
                return super().read(50)

        image = service.upload(OWNER, create(service).id, Slow(SMALL), size=100)
        assert image.status is Status.ACTIVE
        service.delete_image(OWNER, image.id)
        # What a process reserved that died then.
        service._context.registry.reserve("dead", "p", Amounts(total=100), {}, 2)
        with pytest.raises(QuotaExceeded):
            upload(service)
        clock.move(2)
        upload(service)


def test_what_ran_out_is_admitted_anew_or_not_at_all(clock: StandingClock) -> None:
    registry = MemoryRegistry()
    quotas = Quotas(registry, SameForAll({"images": 1}), 1.0)
    with quotas.admitted("p", Amounts(images=1), name="slow") as room:
        clock.move(1)
        room.confirm(Amounts(images=1))
        made = registry.create(Image("a", owner="p"), settles=room.settles)
    registry.delete(made.id, expect=1)

    def late(image_id: str, *, confirmed: bool) -> None:
        with quotas.admitted("p", Amounts(images=1), name="slow") as room:
            clock.move(1)
            if confirmed:
                registry.create(Image("faster", owner="p"))
                room.confirm(Amounts(images=1))
            registry.create(Image(image_id, owner="p"), settles=room.settles)

    with pytest.raises(LeaseLost):
        late("b", confirmed=False)
    with pytest.raises(QuotaExceeded):
        late("c", confirmed=True)
    assert registry.usage("p").images == 1
    assert not quotas._held


@dataclass
class Changing:
    """Limits that are remembered, and have changed since."""

    now: dict[str, int]
    remembered: dict[str, int] = field(default_factory=dict)

    def limits(self, project: str, *, fresh: bool = False) -> Mapping[str, int]:
        if fresh:
            self.remembered = dict(self.now)
        return self.remembered


def test_a_raised_limit_counts_at_once() -> None:
    source = Changing({"images": 1}, {"images": 1})
    with memory_service() as service:
        service._context.quotas.source = source
        create(service)
        with pytest.raises(QuotaExceeded):
            create(service)
        source.now["images"] = 2
        create(service)
        with pytest.raises(QuotaExceeded):
            create(service)


def test_usage(tmp_path: Path) -> None:
    api = Api(write_users(tmp_path / "users"), image_count_total=3, user_storage_quota=3 * MIB + 5)
    api.image(data=bytes(MIB + MIB // 2))
    api.image("bob")
    body = api.as_("alice").get("/v2/info/usage").json
    assert body == {
        "usage": {
            "image_size_total": {"usage": 1, "limit": 3},
            "image_stage_total": {"usage": 0, "limit": -1},
            "image_count_total": {"usage": 1, "limit": 3},
            "image_count_uploading": {"usage": 0, "limit": -1},
        }
    }
    assert api.as_("reader").get("/v2/info/usage").json == body, "it is the project's, not the user's"
    assert api.as_("bob").get("/v2/info/usage").json["usage"]["image_count_total"]["usage"] == 1
    assert api.as_(None).get("/v2/info/usage").status_code == 401
    api.service.close()


def test_usage_without_limits(api: Api) -> None:
    assert api.as_("alice").get("/v2/info/usage").json == {"usage": {}}


def test_statuses(tmp_path: Path) -> None:
    api = Api(write_users(tmp_path / "users"), image_count_total=2, user_storage_quota=10)
    client = api.as_("alice")
    octets = {"Content-Type": "application/octet-stream"}
    first, _second = api.image(), api.image()
    answers = [
        client.post("/v2/images", json=RAW),
        client.put(f"/v2/images/{first}/file", body=SMALL, headers=octets),
    ]
    assert [answer.status_code for answer in answers] == [413, 413]
    assert "image_count_total" in answers[0].text
    assert client.get(f"/v2/images/{first}").json["status"] == "queued"
    api.service.close()


SIZES: tuple[tuple[str, int | None], ...] = (
    ("0", 0), ("1048576", MIB), ("10B", 10), ("3KB", 3072), ("2MB", 2 * MIB), ("10GB", 10 << 30),
    ("1TB", 1 << 40),
    ("-1", None), ("10G", None), ("10 GB", None), ("10gb", None), ("much", None), ("1.5GB", None),
)  # fmt: skip


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_user_storage_quota(tmp_path: Path, text: str, size: int | None) -> None:
    file = tmp_path / "glancelike.conf"
    file.write_text(f"[DEFAULT]\nuser_storage_quota = {text}\n")
    load = partial(config.load, ["--config-file", str(file)])
    if size is None:
        with pytest.raises(ConfigError, match="user_storage_quota"):
            load()
    else:
        assert load().limits.user_storage_quota == size


def test_configured_limits(tmp_path: Path) -> None:
    file = tmp_path / "glancelike.conf"
    file.write_text(
        "[DEFAULT]\nuser_storage_quota = 10MB\n"
        "[quota]\nimage_size_total = 5\nimage_stage_total = 1\nimage_count_total = 0\n"
    )
    service = config.build(config.load(["--config-file", str(file)]))
    limits = service._context.quotas.limits("any")
    assert limits == {"total": 5 * MIB, "staged": MIB, "images": 0}, "the lesser of two limits counts"
    file.write_text("[quota]\nimages = 5\n")
    with pytest.raises(ConfigError, match="unknown option images in .quota"):
        config.load(["--config-file", str(file)])
