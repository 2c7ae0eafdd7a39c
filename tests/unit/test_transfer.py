"""One pass over the bytes: count, hash, limit, inspect."""

from __future__ import annotations

import hashlib
import io
import shutil
import struct
import subprocess
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glancelike.errors import ConfigError, FormatMismatch, ImageTooLarge, UnsafeImage
from glancelike.transfer import BLOCK, Inspection, Outcome, Transfer, check_algorithm

QEMU_IMG = shutil.which("qemu-img")


def drain(transfer: Transfer, size: int = BLOCK) -> bytes:
    return b"".join(iter(lambda: transfer.read(size), b""))


def pass_through(data: bytes, **kwargs: object) -> Outcome:
    with Transfer(io.BytesIO(data), **kwargs) as transfer:  # type: ignore[arg-type]
        assert drain(transfer) == data
        return transfer.finish()


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=5000), st.integers(1, 700), st.sampled_from(["sha256", "md5", "sha512", "blake2b"]))
def test_counts_and_hashes_whatever_the_block_size(data: bytes, block: int, algorithm: str) -> None:
    with Transfer(io.BytesIO(data), algorithms=[algorithm, "sha1"]) as transfer:
        assert drain(transfer, block) == data
        outcome = transfer.finish()
    assert outcome.size == len(data)
    expected = {name: hashlib.new(name, data).hexdigest() for name in (algorithm, "sha1")}
    assert outcome.digests == expected


def test_hashes_many_blocks_in_a_thread_that_ends() -> None:
    before = threading.active_count()
    data = bytes(range(256)) * 4096 * 9
    assert pass_through(data, algorithms=["sha256"]).digests["sha256"] == hashlib.sha256(data).hexdigest()
    assert threading.active_count() == before


def test_close_ends_the_threads_of_an_abandoned_transfer() -> None:
    before = threading.active_count()
    with Transfer(io.BytesIO(bytes(5 * BLOCK)), algorithms=["sha256", "md5"]) as transfer:
        transfer.read(2 * BLOCK)
    assert threading.active_count() == before


class Endless:
    def __init__(self, blocks: int) -> None:
        self.left = blocks

    def read(self, size: int, /) -> bytes:
        self.left -= 1
        return bytes(size) if self.left >= 0 else b""


def test_memory_is_flat_in_the_size() -> None:
    tracemalloc.start()
    try:
        with Transfer(Endless(256), algorithms=["sha256"], inspection=Inspection("raw", "bare")) as transfer:
            while transfer.read(BLOCK):
                pass
            assert transfer.finish().size == 256 * BLOCK
        assert tracemalloc.get_traced_memory()[1] < 16 * BLOCK
    finally:
        tracemalloc.stop()


def test_cap_is_exact() -> None:
    assert pass_through(bytes(100), cap=100).size == 100
    with pytest.raises(ImageTooLarge, match="image_size_cap, 100 bytes"):
        pass_through(bytes(101), cap=100)


@pytest.mark.parametrize("name", ["shake_128", "blake3", "", "nonsense"])
def test_unusable_algorithms_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="hashing_algorithm"):
        check_algorithm(name)


def qcow2(backing: str | None = None, data_file: bool = False, version: int = 3) -> bytes:
    """Make a qcow2 header by the specification, with what makes it dangerous."""
    header = bytearray(65536)
    backing_at, backing_size = (512, len(backing)) if backing else (0, 0)
    struct.pack_into(
        ">4sIQIIQIIQQIIQQQQII",
        header,
        0,
        b"QFI\xfb",
        version,
        backing_at,
        backing_size,
        16,
        10 << 20,
        0,
        1,
        65536,
        65536 * 2,
        1,
        0,
        0,
        4 if data_file else 0,
        0,
        0,
        4,
        104,
    )
    if backing:
        header[512 : 512 + backing_size] = backing.encode()
    return bytes(header) + bytes(65536)


@pytest.mark.parametrize("container", ["bare", "ovf", "ova", "docker", "compressed"])
@pytest.mark.parametrize(
    "data", [qcow2(backing="/etc/passwd"), qcow2(data_file=True)], ids=["backing-file", "data-file"]
)
def test_references_to_other_files_are_refused_in_every_container(container: str, data: bytes) -> None:
    with pytest.raises(UnsafeImage):
        pass_through(data, inspection=Inspection("qcow2", container))


@pytest.mark.parametrize("disk_format", ["raw", "ami", "iso", "vmdk", "vdi"])
def test_a_qcow2_may_not_pass_as_something_else(disk_format: str) -> None:
    container = disk_format if disk_format == "ami" else "bare"
    with pytest.raises(FormatMismatch):
        pass_through(qcow2(), inspection=Inspection(disk_format, container))


def test_a_mismatch_may_be_allowed_but_not_an_unsafe_image() -> None:
    loose = Inspection("raw", "bare", require_match=False)
    assert pass_through(qcow2(), inspection=loose).format == "qcow2"
    with pytest.raises(UnsafeImage):
        pass_through(qcow2(backing="/x"), inspection=Inspection("raw", "bare", require_match=False))


def test_a_mismatch_is_found_before_the_whole_is_read() -> None:
    source = Endless(10_000)
    with Transfer(source, inspection=Inspection("qcow2", "bare")) as transfer, pytest.raises(FormatMismatch):
        drain(transfer)
    assert source.left > 9_990


def test_virtual_size_of_qcow2_and_raw() -> None:
    assert pass_through(qcow2(), inspection=Inspection("qcow2", "bare")) == Outcome(
        131072, {}, "qcow2", 10 << 20
    )
    assert pass_through(b"x" * 777, inspection=Inspection("raw", "bare")).virtual_size == 777


@pytest.mark.skipif(QEMU_IMG is None, reason="qemu-img is not installed")
@pytest.mark.parametrize("kind", ["raw", "qcow2", "vdi", "vpc", "vhdx", "vmdk"])
def test_real_images_of_every_format(kind: str, tmp_path: Path) -> None:
    assert QEMU_IMG
    image = tmp_path / "image"
    options = ["-o", "subformat=streamOptimized"] if kind == "vmdk" else []
    raw = tmp_path / "disk.raw"
    raw.write_bytes(b"data" * 1024 * 256 * 4)
    subprocess.run(
        [QEMU_IMG, "convert", "-f", "raw", "-O", kind, *options, str(raw), str(image)],
        check=True,
        capture_output=True,
    )
    disk_format = "vhd" if kind == "vpc" else kind
    outcome = pass_through(image.read_bytes(), inspection=Inspection(disk_format, "bare"))
    assert outcome.format == disk_format
    assert outcome.virtual_size is not None
    assert outcome.virtual_size >= 4 << 20
    other = "qcow2" if disk_format != "qcow2" else "vmdk"
    with pytest.raises(FormatMismatch):
        pass_through(image.read_bytes(), inspection=Inspection(other, "bare"))


@pytest.mark.skipif(QEMU_IMG is None, reason="qemu-img is not installed")
def test_a_vmdk_with_flat_extents_is_refused(tmp_path: Path) -> None:
    assert QEMU_IMG
    image = tmp_path / "image.vmdk"
    command = [QEMU_IMG, "create", "-f", "vmdk", "-o", "subformat=monolithicFlat", str(image), "1M"]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises((UnsafeImage, FormatMismatch)):
        pass_through(image.read_bytes(), inspection=Inspection("vmdk", "bare"))


MAGICS = [
    b"",
    b"QFI\xfb",
    b"QFI\xfb\0\0\0\3",
    b"QED\0",
    b"KDMV",
    b"# Disk DescriptorFile\n",
    b"# glancelike",
    b"conectix",
    b"vhdxfile",
    b"LUKS\xba\xbe\0\1",
    b"<<< Oracle VM VirtualBox Disk Image >>>\n",
    bytes(32768) + b"\1CD001\1",
    bytes(510) + b"\x55\xaa",
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(MAGICS),
    st.binary(max_size=3000),
    st.integers(1, 2000),
    st.sampled_from(["raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi", "iso", "gpt", "luks", "ploop", "ami"]),
    st.sampled_from(["bare", "ovf"]),
)
def test_no_data_breaks_the_inspection(
    magic: bytes, rest: bytes, block: int, disk_format: str, container: str
) -> None:
    """Whatever comes is taken or refused; the inspector's own failures never show."""
    with Transfer(io.BytesIO(magic + rest), inspection=Inspection(disk_format, container)) as transfer:
        try:
            drain(transfer, block)
            assert transfer.finish().size == len(magic + rest)
        except (FormatMismatch, UnsafeImage):
            pass
