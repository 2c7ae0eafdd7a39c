"""The directory of a node's cache, shared by all its processes.

::

    <image id>.<size>.<digest>              an entry: complete, verified, durable
    incomplete/<the same name>              grows; whoever fills it holds its flock
    uses/<the same name>                    how often it was used, and when last (mtime)
    queue/<image id>                        to be fetched (see ``queue``)
    lock                                    held for a moment to change any of this

The files are the truth and a name says what is in the file, so kill -9
leaves nothing to be mended: at worst an incomplete file that nobody has
locked, which the next reader replaces or ``clean`` removes. Bytes are never
written under ``lock``.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import hashlib
import logging
import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from glancelike.errors import ConfigError, StoreFull, StoreUnavailable
from glancelike.model import Image
from glancelike.transfer import check_algorithm

LOG = logging.getLogger(__name__)

IMAGE_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
NAME = re.compile(r"([0-9A-Za-z-]{1,64})\.([0-9]{1,19})\.([0-9a-f]{32})")
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FILE = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
PRIVATE = 0o600
# What nobody has locked is given this long to be taken over by a reader.
ABANDONED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Key:
    """What an entry holds: an image's data, of this very size and digest."""

    image_id: str
    size: int
    digest: str

    @property
    def name(self) -> str:
        return f"{self.image_id}.{self.size}.{self.digest}"


def key_of(image: Image) -> Key | None:
    """Name the image's data; None when it can't be verified and so isn't cached."""
    if image.size is None or not image.hash_algo or not image.hash_value or not IMAGE_ID.fullmatch(image.id):
        return None
    try:
        check_algorithm(image.hash_algo)
    except ConfigError:
        return None
    digest = hashlib.sha256(f"{image.hash_algo}:{image.hash_value}".encode()).hexdigest()
    return Key(image.id, image.size, digest[:32])


def _key_in(name: str) -> Key | None:
    match = NAME.fullmatch(name)
    return None if match is None else Key(match[1], int(match[2]), match[3])


@dataclass(frozen=True, slots=True)
class Entry:
    """A complete file; times in seconds since the epoch."""

    key: Key
    hits: int
    last_accessed: float
    last_modified: float


class Refusal(enum.Enum):
    """Why a file can't be filled now."""

    THERE = "it is complete already"
    BUSY = "somebody else fills it"
    FULL = "there is no room"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to fill a file, held as long as ``fd`` is open."""

    fd: int
    evicted: tuple[str, ...]


@contextmanager
def translated() -> Iterator[None]:
    """Turn an OSError into the StoreError that it means."""
    try:
        yield
    except OSError as error:
        kind = StoreFull if error.errno in FULL else StoreUnavailable
        raise kind(f"image cache: {error.strerror or error}") from error


def is_filled(fd: int) -> bool:
    """Tell whether somebody is filling the file just now."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def lock(fd: int) -> bool:
    """Lock a file, unless somebody has."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Directory:
    """The files of one node's cache. Methods raise OSError."""

    def __init__(self, path: Path, max_size: int) -> None:
        self.path = path
        self.max_size = max_size
        self._incomplete = path / "incomplete"
        self._uses = path / "uses"

    def open(self) -> None:
        """Make what is missing of it."""
        for each in (self.path, self._incomplete, self._uses):
            with suppress(FileExistsError):
                each.mkdir(0o700)
        with self._locked():
            sync(self.path)

    # Entries

    def entries(self) -> list[Entry]:
        """List the complete files, least recently used first."""
        found = []
        with os.scandir(self.path) as files:
            for each in files:
                key = _key_in(each.name)
                if key is None:
                    continue
                with suppress(FileNotFoundError):
                    changed = each.stat(follow_symlinks=False).st_mtime
                    hits, used = self._uses_of(key)
                    found.append(Entry(key, hits, used or changed, changed))
        return sorted(found, key=lambda entry: (entry.last_accessed, entry.key.name))

    def open_entry(self, key: Key) -> int | None:
        """Open a complete file for reading; None when it isn't there."""
        try:
            fd = os.open(self.path / key.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        if os.fstat(fd).st_size == key.size:
            return fd
        os.close(fd)
        LOG.warning("image cache: %s has lost data and is removed", key.name)
        with self._locked():
            self._remove(key)
        return None

    def note_use(self, key: Key) -> None:
        """Count a use; what fails isn't worth failing a download for."""
        try:
            fd = os.open(self._uses / key.name, FILE | os.O_CREAT, PRIVATE)
        except OSError as error:
            LOG.debug("image cache: a use isn't counted: %s", error)
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.pwrite(fd, b"%020d" % (_number(os.pread(fd, 20, 0)) + 1), 0)
            touch(fd)
        except OSError as error:
            LOG.debug("image cache: a use isn't counted: %s", error)
        finally:
            os.close(fd)

    def _uses_of(self, key: Key) -> tuple[int, float]:
        try:
            fd = os.open(self._uses / key.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return 0, 0.0
        try:
            return _number(os.pread(fd, 20, 0)), os.fstat(fd).st_mtime
        finally:
            os.close(fd)

    # Filling

    def claim(self, key: Key) -> Claim | Refusal:
        """Make an empty file to fill, with room for it, or say why not."""
        path = self._incomplete / key.name
        with self._locked():
            if (self.path / key.name).exists():
                return Refusal.THERE
            fd = self._own(path)
            if fd is None:
                return Refusal.BUSY
            try:
                evicted = self._make_room(key)
                if evicted is not None:
                    return Claim(fd, evicted)
                path.unlink()
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            return Refusal.FULL

    def _own(self, path: Path) -> int | None:
        """Open, lock and empty a file; None when somebody has it."""
        fd = os.open(path, FILE | os.O_CREAT, PRIVATE)
        try:
            if lock(fd):
                # Somebody who died may have left half of the data. Who reads it
                # waits until as much is there again.
                os.ftruncate(fd, 0)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def follow(self, key: Key) -> int | None:
        """Open a growing file for reading; None when there is none."""
        try:
            return os.open(self._incomplete / key.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None

    def publish(self, fd: int, key: Key) -> bool:
        """Make a filled file an entry, durably; False when it was dropped meanwhile."""
        touch(fd)
        os.fsync(fd)
        with self._locked():
            if not self._is_named(fd, key):
                return False
            (self._incomplete / key.name).rename(self.path / key.name)
            for entry in self.entries():
                if entry.key.image_id == key.image_id and entry.key != key:
                    self._remove(entry.key)
        sync(self.path)
        return True

    def discard(self, fd: int, key: Key) -> None:
        """Remove a file that is being filled, unless another has its name by now."""
        with self._locked():
            if self._is_named(fd, key):
                (self._incomplete / key.name).unlink()

    def _is_named(self, fd: int, key: Key) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self._incomplete / key.name))
        except FileNotFoundError:
            return False

    def _make_room(self, key: Key) -> tuple[str, ...] | None:
        """Evict the least recently used; None, with nothing evicted, when that won't do."""
        entries = self.entries()
        kept = sum(entry.key.size for entry in entries)
        coming = missing = 0
        for other, at in self._growing():
            if other != key:
                coming += other.size
                missing += max(0, other.size - at.st_size)
        disk = os.statvfs(self.path)
        free = disk.f_bavail * disk.f_frsize if disk.f_blocks else key.size + missing
        excess = max(kept + coming + key.size - self.max_size, key.size + missing - free)
        if excess > kept:
            return None
        return tuple(entry.key.image_id for entry in self._evict(entries, excess))

    def _evict(self, entries: list[Entry], excess: int) -> list[Entry]:
        evicted = []
        for entry in entries:
            if excess <= 0:
                break
            self._remove(entry.key)
            excess -= entry.key.size
            evicted.append(entry)
        return evicted

    def _growing(self) -> list[tuple[Key, os.stat_result]]:
        found = []
        with os.scandir(self._incomplete) as files:
            for each in files:
                key = _key_in(each.name)
                if key is not None:
                    with suppress(FileNotFoundError):
                        found.append((key, each.stat(follow_symlinks=False)))
        return found

    # Removing

    def drop(self, image_ids: Collection[str] | None = None) -> list[str]:
        """Remove what there is of these images, or of all; return whose entries went.

        A file that is being filled still serves its readers, but never
        becomes an entry.
        """
        gone = []
        with self._locked():
            for entry in self.entries():
                if image_ids is None or entry.key.image_id in image_ids:
                    self._remove(entry.key)
                    gone.append(entry.key.image_id)
            for key, _ in self._growing():
                if image_ids is None or key.image_id in image_ids:
                    (self._incomplete / key.name).unlink(missing_ok=True)
        return gone

    def prune(self) -> list[Entry]:
        """Evict the least recently used until what is left fits; return what went."""
        with self._locked():
            entries = self.entries()
            return self._evict(entries, sum(entry.key.size for entry in entries) - self.max_size)

    def clean(self, stall_time: float) -> None:
        """Remove what nobody fills any more, or hasn't for ``stall_time`` seconds."""
        now = time.time()
        with self._locked():
            for key, at in self._growing():
                idle = now - at.st_mtime
                if idle > stall_time or (idle > ABANDONED_SECONDS and not self._is_filled(key)):
                    LOG.warning("image cache: incomplete %s is removed", key.name)
                    (self._incomplete / key.name).unlink(missing_ok=True)
            named = {entry.key.name for entry in self.entries()}
            for each in self._uses.iterdir():
                if each.name not in named:
                    each.unlink(missing_ok=True)

    def _is_filled(self, key: Key) -> bool:
        fd = self.follow(key)
        if fd is None:
            return False
        try:
            return is_filled(fd)
        finally:
            os.close(fd)

    def _remove(self, key: Key) -> None:
        (self.path / key.name).unlink(missing_ok=True)
        (self._uses / key.name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self.path / "lock", FILE | os.O_CREAT, PRIVATE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def touch(fd: int) -> None:
    """Set a file's times to now: the kernel's own are some milliseconds coarse."""
    now = time.time_ns()
    os.utime(fd, ns=(now, now))


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() else 0


def sync(directory: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
