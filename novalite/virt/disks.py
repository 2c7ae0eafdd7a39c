"""The image cache: verified base files that overlays of guests are put on.

An entry is a read-only file and a small record beside it. The record is
written last and names the file's size and time, so a file without its record,
or another than the record tells of, was cut short or touched: it is made anew,
never used. One flock per entry makes each download happen once across threads
and processes; the kernel drops it when its holder is killed.

A driver hard-links the base into the instance's directory. So ``prune`` may
remove an entry at any time without taking a disk from under a guest.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from novalite.errors import FlavorTooSmall, ImageUnusable, Unavailable
from novalite.virt import qemuimg
from novalite.virt.base import BaseImage

if TYPE_CHECKING:
    from oslo_utils.imageutils.format_inspector import FileInspector

LOG = logging.getLogger(__name__)

#: Image disk_format -> (names the inspector may find, qemu's name of the format).
#: A raw disk that starts with a partition table is found as "gpt", and a bootable
#: iso as both.
_FORMATS: dict[str, tuple[frozenset[str], str]] = {
    "raw": (frozenset({"raw", "gpt"}), "raw"),
    "ami": (frozenset({"raw", "gpt"}), "raw"),
    "iso": (frozenset({"iso", "gpt"}), "raw"),
    "qcow2": (frozenset({"qcow2"}), "qcow2"),
    "vmdk": (frozenset({"vmdk"}), "vmdk"),
    "vhd": (frozenset({"vhd"}), "vpc"),
    "vhdx": (frozenset({"vhdx"}), "vhdx"),
    "vdi": (frozenset({"vdi"}), "vdi"),
}
#: Kernels and ramdisks: no disks, QEMU loads their bytes and looks for no format in them.
BOOT_FILES = ("aki", "ari")
_USED_AS_THEY_ARE = ("raw", "qcow2", *BOOT_FILES)
#: Formats of images (disk_format) that QEMU reads as they are.
UNCONVERTED = frozenset(name for name, (_, used) in _FORMATS.items() if used in _USED_AS_THEY_ARE)
#: How far the inspectors of all formats look, except into the descriptor of a vmdk.
HEADER_BYTES = 512 << 10
_RECORD_VERSION = 1


class ImageCache:
    """Base images under one directory, shared by every process on the host."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self._known: dict[str, tuple[int, str]] = {}

    def ensure(
        self,
        image_id: str,
        disk_format: str,
        fetch: Callable[[Path], None],
        *,
        digest: tuple[str, str] | None = None,
        max_virtual_size: int = 0,
    ) -> BaseImage:
        """Return the verified base of an image, downloading it at most once.

        ``fetch`` writes the image's bytes to the path it is given, and raises
        when they aren't the image's: they are hashed while they arrive, not
        again here. ``digest``, a hashlib name and the hex digest, tells apart
        what one id has stood for. A disk larger than ``max_virtual_size``
        bytes is refused, and never converted; 0 sets no limit.
        Raises ImageUnusable when the data is not what it claims or unsafe,
        FlavorTooSmall when the disk is larger than the limit, and
        Unavailable when the cache can't hold it (an OSError of ``fetch`` counts
        as such); other errors of ``fetch`` pass.
        """
        if disk_format not in _FORMATS and disk_format not in BOOT_FILES:
            raise ImageUnusable(f"image {image_id}: no guest boots from disk_format {disk_format!r}")
        key = key_of(image_id, disk_format, digest)
        with self._failing_as_unavailable(), self.locked(key):
            base = self.lookup(key)
            if base is None:
                LOG.info("image %s: fetching into %s", image_id, self.directory)
                try:
                    base = self._make(key, image_id, disk_format, fetch, max_virtual_size)
                finally:
                    self._sweep(key)
            check_size(image_id, base.virtual_size, max_virtual_size)
            return base

    def prune(self, in_use: set[Path]) -> list[Path]:
        """Remove the bases that are in no use, and tell which.

        A base is in use when ``in_use`` names it, an instance links to it, or
        somebody is making it now (then it has a lazy file, or its lock is held).
        """
        removed = []
        keys = {path.name.partition(".")[0] for path in self.directory.glob("*.lock")}
        for key in sorted(keys):
            with self.locked(key, wait=False) as ours:
                base = self.directory / f"{key}.base"
                if not ours or base in in_use or (base.exists() and base.stat().st_nlink > 1):
                    continue
                if (self.directory / f"{key}.lazy").exists():
                    continue
                for suffix in ("json", "order", "trace"):
                    (self.directory / f"{key}.{suffix}").unlink(missing_ok=True)
                if base.exists():
                    base.unlink()
                    removed.append(base)
                self._sweep(key)
                (self.directory / f"{key}.lock").unlink()
        return removed

    def size(self) -> int:
        """Return the bytes that complete bases take."""
        found = 0
        for path in self.directory.glob("*.base"):
            with contextlib.suppress(FileNotFoundError):
                found += path.stat().st_blocks * 512
        return found

    def images(self) -> list[str]:
        """Return the ids of the images whose bases are here, complete and copied, the latest used first.

        Neither those that are a store's own files, which cost nobody a copy,
        nor kernels and ramdisks. A base is used when a guest comes or goes,
        which the kernel notes as its links change.
        """
        found: dict[str, int] = {}
        known = {}
        for record in self.directory.glob("*.json"):
            with contextlib.suppress(OSError):  # pruned meanwhile
                used, made = record.with_suffix(".base").stat().st_ctime_ns, record.stat().st_mtime_ns
                seen, image_id = self._known.get(record.name, (0, ""))
                known[record.name] = (made, image_id if seen == made else _copied_image(record))
                image_id = known[record.name][1]
                found[image_id] = max(used, found.get(image_id, 0))
        self._known = known
        found.pop("", None)
        return sorted(found, key=lambda image_id: found[image_id], reverse=True)

    def _make(
        self,
        key: str,
        image_id: str,
        disk_format: str,
        fetch: Callable[[Path], None],
        max_virtual_size: int,
    ) -> BaseImage:
        """Fetch, verify, convert where needed, and enter into the cache."""
        self._sweep(key)
        (self.directory / f"{key}.json").unlink(missing_ok=True)
        part = self.directory / f"{key}.part"
        fetch(part)
        try:
            if disk_format in BOOT_FILES:
                qemu_format, size = disk_format, part.stat().st_size
            else:
                qemu_format, size = inspect(part, disk_format)
            if qemu_format not in _USED_AS_THEY_ARE:
                check_size(image_id, size, max_virtual_size)
                converted = self.directory / f"{key}.converted"
                qemuimg.to_qcow2(part, qemu_format, converted, size)
                part, qemu_format = converted, "qcow2"
        except ImageUnusable as exc:
            raise ImageUnusable(f"image {image_id}: {exc}") from exc
        part.chmod(0o444)
        _sync(part)
        part.replace(self.directory / f"{key}.base")
        return self.record(key, image_id, qemu_format, size)

    def record(
        self, key: str, image_id: str, qemu_format: str, size: int, *, local: bool = False
    ) -> BaseImage:
        """Make the file that has an entry's name an entry: it is verified and on the disk.

        It is ``local`` when it's a store's own. The entry's lock is held by the caller.
        """
        final = self.directory / f"{key}.base"
        stat = final.stat()
        record = {
            "version": _RECORD_VERSION,
            "image": image_id,
            "local": local,
            "format": qemu_format,
            "virtual_size": size,
            "file_size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
        }
        note = self.directory / f"{key}.note"
        note.write_text(json.dumps(record))
        _sync(note)
        _sync(self.directory)  # the data's name is on disk before its record's is
        note.replace(self.directory / f"{key}.json")
        return BaseImage(path=final, format=qemu_format, virtual_size=size)

    def lookup(self, key: str) -> BaseImage | None:
        """Return an entry that is complete; its lock is held by the caller."""
        path = self.directory / f"{key}.base"
        try:
            record = json.loads((self.directory / f"{key}.json").read_bytes())
            stat = path.stat()
            as_recorded = (record["version"], record["file_size"], record["mtime_ns"])
            if as_recorded == (_RECORD_VERSION, stat.st_size, stat.st_mtime_ns):
                return BaseImage(path=path, format=record["format"], virtual_size=record["virtual_size"])
            LOG.warning("%s isn't the file that was cached; fetching it again", path)
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError):
            LOG.warning("the record of %s can't be read; fetching it again", path)
        return None

    def _sweep(self, key: str) -> None:
        """Remove what a killed or failed process left of its work."""
        for suffix in ("part", "converted", "note"):
            (self.directory / f"{key}.{suffix}").unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold an entry's lock; yield False where it is held and not waited for."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        path = self.directory / f"{key}.lock"
        while True:
            with path.open("a") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                except BlockingIOError:
                    yield False
                    return
                # prune removes lock files: a lock on a file without a name locks nobody out
                if _same_file(path, handle.fileno()):
                    yield True
                    return
            if not wait:
                yield False
                return

    @contextlib.contextmanager
    def _failing_as_unavailable(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise Unavailable(f"image cache {self.directory}: {exc}") from exc


def inspect(path: Path, disk_format: str) -> tuple[str, int]:
    """Verify that a file is what it claims and safe; return its qemu format and size.

    Raises ImageUnusable naming what is wrong with it.
    """
    with path.open("rb") as source:
        qemu_format = inspect_header(source, disk_format)
    return qemu_format, inspect_told(qemuimg.info(path, qemu_format))


def inspect_header(source: IO[bytes], disk_format: str) -> str:
    """Verify what can be told without QEMU; return qemu's name of the format.

    ``source`` may be an image's first bytes alone: HEADER_BYTES of them are enough
    for what is used as it is. Raises ImageUnusable.
    """
    # Loaded with the first image: it takes a quarter of a second.
    from oslo_utils.imageutils import format_inspector

    allowed, qemu_format = _FORMATS[disk_format]
    found = _detect(source)
    names = {inspector.NAME for inspector in found}
    if not names <= allowed or (disk_format == "iso" and "iso" not in names):
        raise ImageUnusable(f"it claims to be {disk_format} but is {', '.join(sorted(names))}")
    for inspector in found:
        if inspector.NAME == "gpt":
            continue  # qemu is told it's raw and the guest alone reads the table
        try:
            inspector.safety_check()
        except format_inspector.SafetyCheckFailed as exc:
            raise ImageUnusable("; ".join(str(why) for why in exc.failures.values())) from exc
        except format_inspector.ImageFormatError as exc:
            raise ImageUnusable(str(exc)) from exc
    return qemu_format


def inspect_told(told: Mapping[str, Any]) -> int:
    """Verify what ``qemu-img info`` told of an image; return its virtual size.

    Raises ImageUnusable.
    """
    for bad in ("backing-filename", "full-backing-filename", "encrypted"):
        if told.get(bad):
            raise ImageUnusable(f"its header has {bad} = {told[bad]}")
    details = told.get("format-specific", {}).get("data", {})
    if details.get("data-file") or details.get("corrupt"):
        raise ImageUnusable("it has an external data file or is marked corrupt")
    return int(told["virtual-size"])


def _detect(source: IO[bytes]) -> list[FileInspector]:
    """Run every inspector over the data, as far as each needs it."""
    from oslo_utils.imageutils import format_inspector

    try:
        wrapper = format_inspector.InspectWrapper(source)
        try:
            while wrapper.formats is None and wrapper.read(1 << 20):
                pass
        finally:
            wrapper.close()
        return wrapper.formats or []
    except format_inspector.ImageFormatError as exc:
        raise ImageUnusable(f"its format can't be told: {exc}") from exc


def check_size(image_id: str, size: int, limit: int) -> None:
    """Raise FlavorTooSmall for a disk of more bytes than the limit, 0 being none."""
    if 0 < limit < size:
        raise FlavorTooSmall(f"image {image_id}: its disk has {size} bytes, the flavor's {limit}")


def key_of(image_id: str, disk_format: str, digest: tuple[str, str] | None) -> str:
    """Name an entry: no path, and another one when the image's bytes differ."""
    told = "\0".join((image_id, disk_format, *(digest or ())))
    readable = re.sub(r"[^0-9A-Za-z-]", "-", image_id)[:40]
    return f"{readable}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def _copied_image(record: Path) -> str:
    """Return the id of the image that an entry was copied from; empty where it's none that counts."""
    try:
        told = json.loads(record.read_bytes())
        if told.get("local") or told["format"] in BOOT_FILES:
            return ""
        # Earlier versions told no image; the name begins with an id that is a UUID.
        return str(told.get("image") or record.stem.rpartition("-")[0])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sync(path: Path) -> None:
    """Bring a file's data, or a directory's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
