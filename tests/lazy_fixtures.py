"""What tests of boots that don't wait for the image share (a module of helpers)."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path

from novalite.bases import orders
from novalite.bases.orders import Files, Order
from tests.waiting import wait_for

BEGINS, DONE, FAILED, WRONG = b"LAZY begins", b"LAZY is done", b"LAZY read error", b"LAZY wrong data"
_SECTOR = 512
# A boot sector: it reads ``count`` sectors, from LBA ``first`` on each ``step`` further, by the BIOS, and
# looks whether each begins with its own LBA; what comes of it it says on the first serial port.
_CODE = bytes.fromhex(
    "31c08ed8fcbe607ce83e00"  # ds = 0; say "begins"
    "bea47cb442b280cd137222"  # 0x7c0b: int 13h, extended read by the packet at 0x7ca4
    "66a1007e663906ac7c751f"  # the sector's first four bytes are its LBA, or "wrong data"
    "66a1b47c660106ac7cff0eb87c75db"  # the LBA by a step further, as often as is told; then "is done"
    "be6e7ce81300eb0ebe7d7ce80b00eb06be8f7ce80300f4ebfd"
    "ac84c0741188c4bafd03eca82074fb88e0b2f8eeebeac3"  # say what si points to
)
_TEXTS = b"".join(text + b"\r\n\0" for text in (BEGINS, DONE, FAILED, WRONG))


def reading_disk(size: int, *, step: int, count: int, first: int = 2048) -> bytes:
    """Return a raw disk whose boot reads ``count`` sectors of it; numbers are sectors."""
    assert first + step * (count - 1) < size // _SECTOR
    packet = struct.pack("<BBHHHQIH", 16, 0, 1, 0x7E00, 0, first, step, count)
    sector = _CODE + _TEXTS
    sector = sector.ljust(-(-len(sector) // 4) * 4, b"\0") + packet
    assert sector.index(packet) == 0xA4
    disk = bytearray(size)
    disk[: len(sector)] = sector
    # One partition, as the image service wants it: bootable, of Linux, from 1 MiB on.
    struct.pack_into("<B3sB3sII", disk, 446, 0x80, b"\0" * 3, 0x83, b"\0" * 3, 2048, size // _SECTOR - 2048)
    disk[510:512] = b"\x55\xaa"
    for lba in range(first, first + step * count, step):
        struct.pack_into("<I", disk, lba * _SECTOR, lba)
    return bytes(disk)


def process_of(directory: Path) -> int:
    """Return the pid of the process that serves a cache's bases."""
    return int((directory / orders.LOCK).read_text())


def end_process(directory: Path, number: int = signal.SIGTERM) -> None:
    """End the process that serves a cache's bases, and wait until it has ended."""
    try:
        pid = process_of(directory)
        os.kill(pid, number)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return
    wait_for("the process ends", lambda: ended(pid))


def ended(pid: int) -> bool:
    """Tell whether a process has ended; one that its parent hasn't seen to yet has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def the_order(directory: Path) -> tuple[Order, Files]:
    """Return the only order of a cache, and its files."""
    (order,) = orders.all_in(directory)
    return order, Files(directory, order.key)
