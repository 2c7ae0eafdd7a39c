"""One pass over the bytes: count, hash, limit, inspect the format.

A Transfer is a Source that wraps another Source. A store driver reads
through it, so the bytes are seen once and never kept: memory is flat in the
size of the image. Digests are computed in threads of their own, since
hashlib lets go of the interpreter lock: hashing of one block and writing
of the next overlap.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from glancelike.errors import ConfigError, FormatMismatch, ImageTooLarge, UnsafeImage
from glancelike.model import Source

if TYPE_CHECKING:
    from oslo_utils.imageutils.format_inspector import FileInspector

# The inspectors complain of data that isn't of their format: all but one do, on every image.
logging.getLogger("oslo_utils.imageutils.format_inspector").setLevel(logging.CRITICAL)

BLOCK = 1 << 20
# Blocks that may wait for a digest thread: enough to overlap, little to hold.
QUEUED_BLOCKS = 4

# What the inspector may find in the data of each disk format. A raw disk
# with a partition table is found as "gpt"; ami, ari and aki are raw kinds;
# an encrypted disk may be declared raw. ploop has no inspector.
MATCHES = {
    "raw": {"raw", "gpt", "luks"},
    "iso": {"iso"},
    "ami": {"raw", "gpt"},
    "ari": {"raw", "gpt"},
    "aki": {"raw", "gpt"},
    "ploop": {"raw"},
    "qcow2": {"qcow2"},
    "vhd": {"vhd"},
    "vhdx": {"vhdx"},
    "vmdk": {"vmdk"},
    "vdi": {"vdi"},
    "gpt": {"gpt"},
    "luks": {"luks"},
}
# A kernel has the boot signature of a partition table without having one.
NO_PARTITIONS = {"ami", "ari", "aki"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished transfer knows of the data."""

    size: int
    digests: dict[str, str]  # hashlib name -> hexadecimal digest
    format: str | None
    virtual_size: int | None


def check_algorithm(name: str) -> None:
    """Raise ConfigError unless hashlib knows a fixed-length digest ``name``."""
    try:
        length = hashlib.new(name, usedforsecurity=False).digest_size
    except (ValueError, TypeError):
        length = 0
    if not length:
        raise ConfigError(f"hashing_algorithm: hashlib has no fixed-length digest {name!r}")


class Watcher(Protocol):
    """Sees every block that passes, in order, and may stop the transfer.

    ``feed`` and ``finish`` raise what the transfer is to fail with;
    ``finish`` comes after the last block, with the number of bytes.
    """

    def feed(self, block: bytes, /) -> None: ...

    def finish(self, count: int, /) -> None: ...


class _Digest:
    """One digest, computed in a thread once there is more than one block."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._hash = hashlib.new(name, usedforsecurity=False)
        self._blocks: queue.Queue[bytes | None] = queue.Queue(QUEUED_BLOCKS)
        self._thread: threading.Thread | None = None

    def update(self, block: bytes) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"digest-{self.name}", daemon=True)
            self._thread.start()
        self._blocks.put(block)

    def _run(self) -> None:
        while (block := self._blocks.get()) is not None:
            self._hash.update(block)

    def finish(self, rest: bytes) -> str:
        self.stop()
        self._hash.update(rest)
        return self._hash.hexdigest()

    def stop(self) -> None:
        if self._thread is not None:
            self._blocks.put(None)
            self._thread.join()
            self._thread = None


class Inspection:
    """Finds out what the stream is, and whether it is safe to hand to qemu.

    The data is inspected whatever the container format says. For ``bare``
    (and the kernel, ramdisk and machine image kinds) it must be what
    ``disk_format`` claims; in other containers it need not be, but what is
    found must be safe all the same.
    """

    def __init__(self, disk_format: str | None, container_format: str | None, *, require_match: bool = True):
        # Where no data passes it isn't needed, and it brings cryptography.
        from oslo_utils.imageutils import format_inspector

        self.disk_format = disk_format
        self._strict = require_match and container_format in {"bare", "ami", "ari", "aki"}
        self._expected = MATCHES.get(disk_format or "") if self._strict else None
        self._all = {
            name: inspector()
            for name in format_inspector.ALL_FORMATS
            if (inspector := format_inspector.get_inspector(name)) is not None
        }
        self._feeding = {name: one for name, one in self._all.items() if name != "raw"}

    def feed(self, block: bytes) -> None:
        """Look at the next block; raise FormatMismatch as soon as it is certain."""
        for name, inspector in list(self._feeding.items()):
            try:
                inspector.eat_chunk(block)
            except Exception as error:
                # Data of another format makes an inspector fail in any way.
                del self._feeding[name]
                del self._all[name]
                if self._expected == {name}:
                    raise FormatMismatch(f"Image data is not valid {name}: {error}") from error
                continue
            if inspector.complete:
                # What has seen all it wants gets no more, which keeps this
                # loop empty for most of a large image.
                del self._feeding[name]
                if self._expected == {name} and not _matches(inspector):
                    raise self._mismatch(f"not {name}")

    def _mismatch(self, found: str) -> FormatMismatch:
        return FormatMismatch(f"Image data is {found}, but disk_format claims {self.disk_format}")

    def finish(self, size: int) -> tuple[str | None, int | None]:
        """Return format and virtual size; raise FormatMismatch or UnsafeImage."""
        found = {name: one for name, one in self._all.items() if name != "raw" and _matches(one, ended=True)}
        # Hybrid ISO images carry a partition table, so that they boot from a stick.
        if set(found) == {"iso", "gpt"}:
            del found["gpt"]
        if len(found) > 1:
            raise UnsafeImage(f"Image data is several formats at once: {', '.join(sorted(found))}")
        name = next(iter(found), "raw")
        match = found.get(name)
        if self._strict and self._expected is not None and name not in self._expected:
            raise self._mismatch(name)
        if match is not None:
            self._check_safety(name, match)
        if name in {"raw", "gpt", "iso"} or match is None:
            return name, size
        try:
            return name, int(match.virtual_size)
        except Exception as error:
            raise FormatMismatch(f"Image data is not valid {name}: {error}") from error

    def _check_safety(self, name: str, inspector: FileInspector) -> None:
        from oslo_utils.imageutils import format_inspector

        if name == "luks" or (name == "gpt" and self.disk_format in NO_PARTITIONS):
            return
        try:
            inspector.safety_check()
        except format_inspector.SafetyCheckFailed as error:
            reasons = "; ".join(f"{check}: {why}" for check, why in error.failures.items())
            raise UnsafeImage(f"Image data is unsafe {name}: {reasons}") from error
        except format_inspector.ImageFormatError as error:
            raise FormatMismatch(f"Image data is not valid {name}: {error}") from error


def _matches(inspector: FileInspector, *, ended: bool = False) -> bool:
    """Tell whether the data is of the inspector's format; a broken header is of none."""
    try:
        if ended:
            inspector.finish()
        return bool(inspector.format_match)
    except Exception:  # noqa: BLE001 - half a header makes an inspector fail in any way
        return False


class Transfer:
    """A Source that watches what passes through it.

    ``cap`` is the largest size allowed, in bytes. After the last byte call
    ``finish``; always call ``close``, which ends the digest threads.
    """

    def __init__(
        self,
        source: Source,
        *,
        algorithms: Iterable[str] = (),
        cap: int | None = None,
        inspection: Inspection | None = None,
        watchers: Iterable[Watcher] = (),
    ) -> None:
        self._source = source
        self._watchers = tuple(watchers)
        self._cap = cap
        self._inspection = inspection
        self._digests = [_Digest(name) for name in dict.fromkeys(algorithms)]
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self.count = 0

    def read(self, size: int, /) -> bytes:
        """Return the next bytes of the source, b"" at its end.

        Raises ImageTooLarge, FormatMismatch, and what the source raises.
        """
        block = self._source.read(size)
        if not block:
            return b""
        self.count += len(block)
        if self._cap is not None and self.count > self._cap:
            raise ImageTooLarge(f"Image is larger than image_size_cap, {self._cap} bytes")
        if self._inspection is not None:
            self._inspection.feed(block)
        for watcher in self._watchers:
            watcher.feed(block)
        self._gathered.append(block)
        self._gathered_size += len(block)
        if self._gathered_size >= BLOCK:
            self._hand_over()
        return block

    def _hand_over(self) -> None:
        # Small reads are gathered, since waking a thread costs more than
        # hashing a few kilobytes.
        block = self._gathered[0] if len(self._gathered) == 1 else b"".join(self._gathered)
        self._gathered, self._gathered_size = [], 0
        for digest in self._digests:
            digest.update(block)

    def finish(self) -> Outcome:
        """Return size, digests and format; raise FormatMismatch or UnsafeImage."""
        rest = b"".join(self._gathered)
        digests = {digest.name: digest.finish(rest) for digest in self._digests}
        found: tuple[str | None, int | None] = (None, None)
        if self._inspection is not None:
            found = self._inspection.finish(self.count)
        for watcher in self._watchers:
            watcher.finish(self.count)
        return Outcome(self.count, digests, *found)

    def close(self) -> None:
        """End the digest threads; safe to call twice."""
        for digest in self._digests:
            digest.stop()

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
