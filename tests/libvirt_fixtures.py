"""Fixtures for tests that start guests (a pytest plugin module)."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from novalite.errors import ConfigError, Unavailable
from novalite.quickstart import guest_image as guest_images
from novalite.quickstart.libvirtd import Hypervisor, choose, start_private
from novalite.virt.base import BaseImage, InstanceSpec
from novalite.virt.libvirt import LibvirtDriver

TINY_MARKER = b"NOVALITE-TINY boots"
BOOT_SECONDS = 240.0  # of a guest with a kernel and no KVM, on a machine that has other things to do


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path is short enough for unix sockets inside it."""
    folder = Path(tempfile.mkdtemp(prefix="nl-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def qemu_certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where QEMU under ``private_libvirtd`` looks for certificates when a guest is sent encrypted."""
    return tmp_path_factory.mktemp("qemu-certificates")


@pytest.fixture(scope="session")
def private_libvirtd(qemu_certificates: Path) -> Iterator[Hypervisor]:
    """A libvirt for this test run; as root a private one, else the session's."""
    if shutil.which("libvirtd") is None or shutil.which("qemu-img") is None:
        pytest.skip("libvirt or QEMU isn't installed")
    folder = Path(tempfile.mkdtemp(prefix="nl-", dir="/tmp"))
    try:
        lv = folder / "lv"
        root = os.geteuid() == 0
        with start_private(lv, certificates=qemu_certificates) if root else choose(lv) as hypervisor:
            yield hypervisor
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def guest_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration guest's image; NOVALITE_GUEST_CACHE keeps it between runs."""
    kept = os.environ.get("NOVALITE_GUEST_CACHE")
    cache = Path(kept) if kept else tmp_path_factory.mktemp("guest-image")
    try:
        return guest_images.build(cache)
    except (ConfigError, Unavailable) as exc:
        pytest.skip(f"no guest image can be built here: {exc}")


@pytest.fixture(scope="session")
def tiny_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw disk whose boot sector prints TINY_MARKER and halts: boots at once."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.raw"
    path.write_bytes(tiny_disk())
    return path


def tiny_disk(size: int = 1 << 20, then: str = "f4 ebfd 90") -> bytes:
    """Return a disk that prints TINY_MARKER on the first serial port, and runs ``then``: halts for ever."""
    code = (
        "31c0 8ed8 be%s fc "  # ds = 0; si = the message
        "ac 84c0 7411 88c4 "  # 0x7c08: next byte to ah; a zero ends it
        "bafd03 ec a820 74fb "  # 0x7c0f: wait until the port takes a byte
        "88e0 b2f8 ee ebea "  # 0x7c17: send it; again from 0x7c08
    ) + then  # 0x7c1e
    message = 0x7C00 + len(bytes.fromhex(code % "0000"))
    sector = bytes.fromhex(code % message.to_bytes(2, "little").hex())
    sector += TINY_MARKER + b"\r\n\0"
    return (sector.ljust(510, b"\0") + b"\x55\xaa").ljust(size, b"\0")


def writing_disk() -> bytes:
    """Return a disk whose guest writes to each page of half a MiB of memory, some 20 times a second.

    It flushes its TLB each time, without which QEMU 7.2's emulation misses writes to pages it has sent.
    """
    return tiny_disk(
        then="b90010 8ec1 31ff "  # 0x7c1e: es = 0x1000; 0x7c21 is mov es, cx; di = 0
        "26ff05 81c70010 75f7 "  # 0x7c25: count at es:di; the next page; again from 0x7c25
        "81c10010 81f90090 75e9 "  # the next 16 pages, as far as 0x90000; again from 0x7c21
        "0f20e0 3410 0f22e0 "  # another cr4
        "fb f4 ebda"  # wait for the timer; again from 0x7c1e
    )


def make_driver(hypervisor: Hypervisor, folder: Path, **settings: object) -> LibvirtDriver:
    fixed = {
        "connection_uri": hypervisor.uri,
        "instances_path": str(folder / "instances"),
        "virt_type": "qemu",
        "shutdown_timeout": 1,
    }
    return LibvirtDriver({**fixed, **settings})


def make_spec(base: BaseImage, **changes: object) -> InstanceSpec:
    values = {"id": str(uuid.uuid4()), "name": "one", "vcpus": 1, "memory_mb": 64, "base": base}
    return InstanceSpec(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def tiny_base(tiny_image: Path) -> BaseImage:
    return BaseImage(path=tiny_image, format="raw", virtual_size=tiny_image.stat().st_size)


def qemu_of(instance_id: str) -> int:
    """Return the process id of a guest's qemu."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"qemu" in words[0] and instance_id.encode() in words:
                return int(entry.name)
    raise AssertionError(f"no qemu runs {instance_id}")
