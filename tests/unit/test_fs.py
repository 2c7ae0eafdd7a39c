"""Images as an fsspec filesystem."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import fsspec
import pytest

from glancelike.errors import ConfigError
from glancelike.fs import GlanceFileSystem
from glancelike.model import Caller
from glancelike.service import ImageService
from glancelike.testing.service import memory_service

ME = Caller.administrator("p")


@pytest.fixture
def service() -> Iterator[ImageService]:
    with memory_service() as opened:
        yield opened


def add(service: ImageService, name: str, data: bytes) -> str:
    image = service.create_image(ME, {"name": name, "disk_format": "raw", "container_format": "bare"})
    service.upload(ME, image.id, io.BytesIO(data), size=len(data))
    return image.id


def test_an_image_opens_by_name_and_by_id(service: ImageService) -> None:
    image_id = add(service, "disk", b"0123456789")
    for name in ("disk", image_id):
        with fsspec.open(f"glance://{name}", service=service, caller=ME) as file:
            file.seek(-3, io.SEEK_END)
            assert file.read() == b"789"


def test_what_reads_files_reads_images(service: ImageService) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("inside", b"hello")
    add(service, "archive", archive.getvalue())
    with (
        fsspec.open("glance://archive", service=service, caller=ME) as file,
        zipfile.ZipFile(file) as unpacked,
    ):
        assert unpacked.read("inside") == b"hello"


def test_lists_names_and_ids_where_names_are_shared(service: ImageService) -> None:
    add(service, "one", b"x")
    twins = {add(service, "twin", b"x"), add(service, "twin", b"xx")}
    files = GlanceFileSystem(service=service, caller=ME)
    assert set(files.ls("", detail=False)) == {"one", *twins}
    assert files.info("one")["size"] == 1
    assert files.exists("one")
    assert not files.exists("none")
    assert files.cat("one") == b"x"


def test_what_cannot_be(service: ImageService) -> None:
    files = GlanceFileSystem(service=service, caller=ME)
    add(service, "twin", b"x")
    add(service, "twin", b"x")
    for name in ("none", "twin"):
        with pytest.raises(FileNotFoundError, match=name):
            files.open(name)
    with pytest.raises(OSError, match="read-only"):
        files.open("twin", "wb")
    with pytest.raises(ConfigError, match="service="):
        GlanceFileSystem()
