"""Which bases a host keeps, and what it refuses before QEMU or a process sees it."""

from __future__ import annotations

import subprocess
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from novalite.bases import orders
from novalite.bases.lazy import LazyBases
from novalite.bases.settings import BasesSettings
from novalite.compute.build import BaseImages
from novalite.config import load
from novalite.errors import ImageUnusable, Unsupported
from novalite.images.http import HttpImages
from novalite.model import MIB, ImageInfo
from novalite.testing.cloud import MemoryImages
from novalite.virt.disks import ImageCache

pytestmark = pytest.mark.libvirt


class NoKeeper:
    """Stands where a process would be started, which no test here may come to."""

    def keep(self) -> None:
        raise AssertionError("a process was asked for")


def settings_of(folder: Path, **options: Any) -> Any:
    overrides = {("image_cache", name): value for name, value in options.items()}
    told = {("DEFAULT", "state_path"): str(folder), ("DEFAULT", "compute_driver"): "fake"}
    return load([], config_files=[], overrides={**told, **overrides})


def test_the_least_recently_used_goes_where_there_is_no_room(tmp_path: Path) -> None:
    images = MemoryImages()
    bases = BaseImages(settings_of(tmp_path, max_size_mb=5), images, NoKeeper(), nbd=False)  # type: ignore[arg-type]
    kept = []
    for number in range(3):
        image = images.add(bytes([number + 1]) * (2 * MIB))
        base = bases.precache(image)
        with bases.of(SimpleNamespace(id=str(number), image=image, flavor=SimpleNamespace(disk_gb=0)), list):  # type: ignore[arg-type]
            assert bases.prune() == ([] if number < 2 else [kept[0]])
        kept.append(base.path)
    assert [path.exists() for path in kept] == [False, True, True]
    assert len(images.fetched) == 3
    instance = tmp_path / "link"
    instance.hardlink_to(kept[1])
    bases = BaseImages(settings_of(tmp_path, max_size_mb=1), images, NoKeeper(), nbd=False)  # type: ignore[arg-type]
    assert bases.prune() == [kept[2]], "what an instance uses stays, however much it is"


class Remote(HttpImages):
    """An image service in memory."""

    def __init__(self, data: bytes, *, ranges: bool = True) -> None:
        self.data = data
        self.ranges = ranges
        self.read = 0

    def read_range(self, image: ImageInfo, offset: int, length: int) -> bytes:
        if not self.ranges:
            raise Unsupported("no ranges")
        got = self.data[offset : offset + min(length, 100_000)]
        self.read += len(got)
        return got


def lazily(folder: Path, remote: Remote) -> tuple[LazyBases, ImageCache]:
    told = BasesSettings.of(settings_of(folder, lazy_boot_minimum_mb=1))
    cache = ImageCache(told.directory)
    return LazyBases(told, remote, cache, NoKeeper()), cache  # type: ignore[arg-type]


def image_of(data: bytes, disk_format: str, **values: Any) -> ImageInfo:
    digest = sha256(data).hexdigest()
    told = {
        "id": "i",
        "disk_format": disk_format,
        "size": len(data),
        "hash_algo": "sha256",
        "hash_value": digest,
    }
    return ImageInfo(**{**told, **values})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("-u", "-F", "raw", "-b", "/etc/passwd"), "backing"),
        (("-o", "data_file=DATA,data_file_raw=on"), "data"),
    ],
)
def test_a_hostile_header_is_refused_before_there_is_an_order(
    tmp_path: Path, options: tuple[str, ...], why: str
) -> None:
    made = tmp_path / "image"
    argv = [word.replace("DATA", str(tmp_path / "data")) for word in options]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *argv, str(made), "1M"], check=True)
    data = made.read_bytes().ljust(4 * MIB, b"\0")
    remote = Remote(data)
    bases, cache = lazily(tmp_path, remote)
    with pytest.raises(ImageUnusable, match=why):
        bases.ensure(image_of(data, "qcow2"), "key", "server", 0)
    with pytest.raises(ImageUnusable, match="claims to be raw but is qcow2"):
        bases.ensure(image_of(data, "raw"), "key", "server", 0)
    assert remote.read <= 2 * MIB
    assert [path.name for path in cache.directory.iterdir()] == ["key.lock"]


def test_what_cant_be_booted_from_early_is_left_to_be_fetched(tmp_path: Path) -> None:
    data = bytes(2 * MIB)
    bases, cache = lazily(tmp_path, Remote(data, ranges=False))
    assert bases.ensure(image_of(data, "raw"), "key", "server", 0) is None
    bases, cache = lazily(tmp_path, Remote(data))
    for image in (
        image_of(data, "vmdk"),
        image_of(data, "raw", hash_value=None),
        image_of(data, "raw", size=None),
        image_of(data[:MIB], "raw", size=MIB - 1),
    ):
        assert not bases.suits(image)
        assert bases.ensure(image, "key", "server", 0) is None
    assert not list(orders.all_in(cache.directory))
