"""Who brings an image's data when things change between the look at its record and the lease."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from glancelike.embedded import open_service
from glancelike.errors import FormatMismatch, QuotaExceeded
from glancelike.model import Caller, Change, ChangeOp, Image, Status
from glancelike.registry.base import ADMIN
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService

OWNER = Caller("u", "p", frozenset({"member", "reader"}))
RAW = {"disk_format": "raw", "container_format": "bare"}


class Interrupted(MemoryRegistry):
    """A registry where something happens right before the next lease is taken."""

    before_lease: Callable[[], object] | None = None

    def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        happen, self.before_lease = self.before_lease, None
        if happen is not None:
            happen()
        return super().acquire_lease(name, holder, seconds)


class Stalled(io.BytesIO):
    """A source that breaks off once it is let go."""

    def __init__(self) -> None:
        super().__init__(b"late")
        self.reached, self.go = threading.Event(), threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        self.reached.set()
        assert self.go.wait(30)
        raise ConnectionResetError("the client went away")


@pytest.fixture
def registry() -> Interrupted:
    return Interrupted({})


@pytest.fixture
def service(registry: Interrupted) -> Iterator[ImageService]:
    with open_service(
        registry, stores={"s": "memory://"}, image_count_uploading=1, upload_lease_seconds=600
    ) as opened:
        yield opened


def create(service: ImageService) -> Image:
    return service.create_image(OWNER, RAW)


def dead(service: ImageService, registry: MemoryRegistry, status: Status) -> Image:
    """Make an image whose data was on its way when its process died."""
    image = create(service)
    fields = {name: getattr(image, name) for name in Image.__slots__}
    return registry.update(Image(**{**fields, "status": status}), expect=image.version)


@pytest.fixture(params=["upload", "stage"])
def bring(request: pytest.FixtureRequest, service: ImageService) -> Callable[..., Any]:
    method: Callable[..., Any] = getattr(service, request.param)
    return method


def test_data_is_inspected_as_what_the_record_says_in_the_end(
    service: ImageService, registry: Interrupted
) -> None:
    image = create(service)
    change = Change(ChangeOp.REPLACE, ("disk_format",), "qcow2")
    registry.before_lease = lambda: service.update_image(OWNER, image.id, [change])
    with pytest.raises(FormatMismatch):
        service.upload(OWNER, image.id, io.BytesIO(b"raw data"))
    now = service.show_image(OWNER, image.id)
    assert (now.status, now.disk_format, now.size) == (Status.QUEUED, "qcow2", None)


@pytest.mark.parametrize("left", [Status.SAVING, Status.UPLOADING])
def test_what_was_reaped_meanwhile_counts_anew(
    service: ImageService, registry: Interrupted, left: Status
) -> None:
    """A dead upload's place is taken over only as long as it is there."""
    bring = service.upload if left is Status.SAVING else service.stage
    image = dead(service, registry, left)
    other = create(service)

    def meanwhile() -> None:
        assert service.reap() == [image.id]
        service.stage(OWNER, other.id, io.BytesIO(b"takes the only place"))

    registry.before_lease = meanwhile
    with pytest.raises(QuotaExceeded):
        bring(OWNER, image.id, io.BytesIO(b"data"))
    assert registry.usage("p").uploading == 1
    assert service.show_image(OWNER, image.id).status is Status.QUEUED


def test_who_fails_late_leaves_alone_what_another_brings(
    service: ImageService, registry: Interrupted, bring: Callable[..., Any]
) -> None:
    image = create(service)
    late, other = Stalled(), Stalled()
    with ThreadPoolExecutor(2) as pool:
        try:
            first = pool.submit(bring, OWNER, image.id, late)
            assert late.reached.wait(30)
            under_way = registry.get(image.id, ADMIN).status
            # As when it ran out: the holder heard nothing of it.
            registry._leases.clear()
            second = pool.submit(bring, OWNER, image.id, other)
            assert other.reached.wait(30)
            late.go.set()
            with pytest.raises(ConnectionResetError):
                first.result(30)
            assert registry.get(image.id, ADMIN).status is under_way
            other.go.set()
            with pytest.raises(ConnectionResetError):
                second.result(30)
            assert registry.get(image.id, ADMIN).status is Status.QUEUED
        finally:
            late.go.set()
            other.go.set()
