"""Delayed delete: pending, restored, scrubbed; and what a crash leaves."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glancelike import open_service
from glancelike.errors import ImageNotFound, InvalidMarker, InvalidTransition, NotFound
from glancelike.model import Caller, Image, Query, Status, Viewer
from glancelike.registry.base import ADMIN
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService
from glancelike.stores.memory import MemoryStore

OWNER = Caller("u", "p", frozenset({"member", "reader"}))
ADMINISTRATOR = Caller.administrator()
DATA = b"data of an image"
PENDING = Viewer(admin=True, pending=True)
Open = Callable[..., ImageService]


@pytest.fixture
def opened() -> Iterator[Open]:
    services: list[ImageService] = []

    def make(**settings: Any) -> ImageService:
        stores = {"memory": MemoryStore({})}
        services.append(open_service(MemoryRegistry({}), stores=stores, delayed_delete=True, **settings))
        return services[-1]

    yield make
    for service in services:
        service.close()


def active(service: ImageService, **values: object) -> Image:
    image = service.create_image(OWNER, {"disk_format": "raw", "container_format": "bare", **values})
    return service.upload(OWNER, image.id, io.BytesIO(DATA), size=len(DATA))


def blobs(service: ImageService) -> list[str]:
    return [blob.key for mount in service._context.mounts for blob in mount.store.list()]


def test_nobody_sees_it_but_its_bytes_stay(opened: Open) -> None:
    service = opened(scrub_time=3600)
    image = active(service, visibility="community", tags=["t"], colour="red")
    service.delete_image(OWNER, image.id)
    for caller in (OWNER, ADMINISTRATOR):
        with pytest.raises(ImageNotFound):
            service.show_image(caller, image.id)
        with pytest.raises(NotFound):
            service.read(caller, image.id)
        with pytest.raises(ImageNotFound):
            service.delete_image(caller, image.id)
        with pytest.raises(ImageNotFound):
            service.reactivate_image(caller, image.id)
        with pytest.raises(InvalidMarker):
            service.list_images(caller, Query(marker=image.id))
        query = Query(visibility="all", member_status="all", hidden=None)
        assert service.list_images(caller, query).images == ()
    assert service.scrub() == [], "its time hasn't come"
    assert list(service.gc(grace_seconds=0)) == []
    assert len(blobs(service)) == 1


def test_restored_it_is_as_it_was(opened: Open) -> None:
    service = opened()
    image = active(service, tags=["t"], colour="red", os_hidden=True)
    service.add_member(OWNER, image.id, "q")
    service.deactivate_image(OWNER, image.id)
    before = service.show_image(OWNER, image.id)
    service.delete_image(OWNER, image.id)
    service.restore_image(image.id)
    after = service.show_image(OWNER, image.id)
    assert after == replace(before, version=after.version, updated_at=after.updated_at)
    assert after.status is Status.DEACTIVATED
    assert [member.project for member in service.list_members(OWNER, image.id)] == ["q"]
    service.reactivate_image(OWNER, image.id)
    assert b"".join(service.read(OWNER, image.id).chunks()) == DATA
    assert service.scrub() == []
    with pytest.raises(InvalidTransition, match="isn't pending"):
        service.restore_image(image.id)


def test_scrubbed_it_is_gone(opened: Open) -> None:
    service = opened()
    images = [active(service) for _ in range(3)]
    kept = active(service)
    for image in images:
        service.delete_image(OWNER, image.id)
    assert service.scrub() == sorted(image.id for image in images)
    assert service.scrub() == []
    assert blobs(service) == [location.key for location in kept.locations]
    with pytest.raises(ImageNotFound):
        service.restore_image(images[0].id)


def test_more_than_a_page_is_scrubbed(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glancelike.service.deletion.BATCH", 2)
    service = opened()
    for image in [active(service) for _ in range(5)]:
        service.delete_image(OWNER, image.id)
    assert len(service.scrub()) == 5


def test_what_has_no_data_is_deleted_at_once(opened: Open) -> None:
    service = opened()
    image = service.create_image(OWNER, {})
    service.delete_image(OWNER, image.id)
    with pytest.raises(ImageNotFound):
        service.restore_image(image.id)


def test_a_copy_under_way_does_not_outlive_the_delete(opened: Open) -> None:
    service = opened()
    image = active(service)
    marks = {"os_glance_import_task": "t", "os_glance_importing_to_stores": "other"}
    registry = service._context.registry
    registry.update(replace(image, properties={**marks, "colour": "red"}), expect=image.version)
    service.delete_image(OWNER, image.id)
    assert dict(service.restore_image(image.id).properties) == {"colour": "red"}


@pytest.mark.parametrize("_round", range(20))
def test_restore_against_scrub_and_scrub_against_scrub(opened: Open, _round: int) -> None:
    """One wins, and whoever wins has won wholly."""
    service = opened()
    image = active(service)
    service.delete_image(OWNER, image.id)
    start = threading.Barrier(3)
    scrubbed: list[str] = []
    restored: list[str] = []

    def scrub() -> None:
        start.wait()
        scrubbed.extend(service.scrub())

    def restore() -> None:
        start.wait()
        with suppress(ImageNotFound):
            restored.append(service.restore_image(image.id).id)

    threads = [threading.Thread(target=each) for each in (scrub, scrub, restore)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [*scrubbed, *restored] == [image.id]
    assert len(blobs(service)) == len(restored)
    if restored:
        assert b"".join(service.read(OWNER, image.id).chunks()) == DATA


CHILD = """
import os, signal, sys
from glancelike import open_service
from glancelike.stores.file import FileStore

class Killer(FileStore):
    def delete(self, key):
        os.kill(os.getpid(), signal.SIGKILL)

store = Killer({"filesystem_store_datadir": sys.argv[2]})
with open_service(sys.argv[1], stores={"file": store}, delayed_delete=True) as service:
    service.scrub()
"""


def test_a_scrubber_killed_in_the_middle_leaves_no_half_image(tmp_path: Path) -> None:
    uri, directory = f"sqlite:///{tmp_path}/images.db", tmp_path / "store"
    with open_service(uri, stores={"file": f"file://{directory}"}, delayed_delete=True) as service:
        image = active(service)
        service.delete_image(OWNER, image.id)
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        child = subprocess.run(
            [sys.executable, "-c", CHILD, uri, str(directory)], env=environment, timeout=60, check=False
        )
        assert child.returncode == -signal.SIGKILL
        with pytest.raises(ImageNotFound):
            service.restore_image(image.id)
        assert len(blobs(service)) == 1, "the bytes are what is left"
        assert service.scrub() == []
        assert [orphan.key for orphan in service.gc(grace_seconds=0)] == [image.locations[0].key]
        assert blobs(service) == []


def test_upkeep_scrubs(opened: Open) -> None:
    service = opened()
    image = active(service)
    service.delete_image(OWNER, image.id)
    service.look_after()
    with pytest.raises(ImageNotFound):
        service._context.registry.get(image.id, PENDING)


def test_without_the_setting_it_goes_at_once(opened: Open) -> None:
    service = opened()
    service._context.settings = replace(service._context.settings, delayed_delete=False)
    image = active(service)
    service.delete_image(OWNER, image.id)
    assert blobs(service) == []
    with pytest.raises(ImageNotFound):
        service._context.registry.get(image.id, ADMIN)
