"""A service over several stores, for the tests of copies."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from glancelike.embedded import open_service
from glancelike.model import Caller, Image
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService
from glancelike.stores.file import FileStore
from glancelike.stores.memory import MemoryStore

ADMIN = Caller.administrator("p-admin")
ALICE = Caller("alice", "p-alice", frozenset({"member", "reader"}))
DATA = random.Random(5).randbytes(300_000)

Serve = Callable[..., ImageService]


class Breakable(MemoryStore):
    """A store whose backend goes away when told to; counts what is copied inside it."""

    away = False
    made = 0
    read_count = 0

    def _check(self) -> None:
        if self.away:
            raise ConnectionResetError("away")

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self._check()
        self.read_count += 1
        return super().read(key, offset=offset, length=length)

    def stat(self, key: str) -> Any:
        self._check()
        return super().stat(key)

    def write(self, key: str, source: Any, *, size: int | None) -> Any:
        self._check()
        return super().write(key, source, size=size)

    def copy(self, source_key: str, target_key: str, *, source: Any = None) -> Any:
        self._check()
        if source is not None:
            source._check()
        self.made += 1
        return super().copy(source_key, target_key, source=source)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function that opens a service; ``stores`` are names of directories, or drivers by name."""
    with ExitStack() as stack:

        def make(*names: str, drivers: dict[str, Any] | None = None, **settings: Any) -> ImageService:
            for name in names:
                (tmp_path / name).mkdir(exist_ok=True)
            stores: dict[str, Any] = {
                **{name: FileStore({"filesystem_store_datadir": str(tmp_path / name)}) for name in names},
                **(drivers or {}),
            }
            return stack.enter_context(open_service(MemoryRegistry({}), stores=stores, **settings))

        yield make


def active(service: ImageService, data: bytes = DATA, *, caller: Caller = ALICE) -> Image:
    """Make an active image in the default store."""
    image = service.create_image(caller, {"disk_format": "raw", "container_format": "bare"})
    return service.upload(caller, image.id, io.BytesIO(data), size=len(data))


def fresh(service: ImageService, image: Image) -> Image:
    return service.show_image(ADMIN, image.id)


def stores_of(service: ImageService, image: Image) -> list[str]:
    return [location.store for location in fresh(service, image).locations]


def content(service: ImageService, image: Image) -> bytes:
    return b"".join(service.read(ADMIN, image.id).chunks())


def keys(service: ImageService, store: str) -> set[str]:
    return {blob.key for blob in service._context.mounts[store].store.list()}


@contextmanager
def heard(service: ImageService) -> Iterator[list[tuple[str, Any, bool]]]:
    """Collect the notifications of the block: event, payload, whether of an error."""
    told: list[tuple[str, Any, bool]] = []
    before = service._context.notify
    service._context.notify = lambda event, payload, *, error=False: told.append((event, payload, error))  # type: ignore[method-assign]
    try:
        yield told
    finally:
        service._context.notify = before  # type: ignore[method-assign]
