"""A store in a directory, one file a blob.

::

    <directory>/<SHA-256 of the key>    a complete blob: the key, padded to 1 KiB, then the bytes
    <directory>/new-<random>            one that is being written, or whose writer was killed

Change it into yours: each method below says which promise it keeps, and
``pytest`` tells when one is broken. The promises are clauses of the store
contract, ``glancelike.stores.base``.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from oslo_config import cfg

from glancelike.errors import BlobExists, BlobNotFound, ConfigError, InvalidRange, StoreFault
from glancelike.stores.base import BlobInfo, Cap, Source, Store, Usage

HEAD = 1024  # room for the longest key there is, 512 characters
UNFINISHED = "new-"


class TemplateStore(Store):
    """Keep the blobs in the directory that ``template_store_directory`` names."""

    schemes = ("template",)
    # What isn't declared here is never called, and the kit tests that it is refused.
    capabilities = Cap.RANGE | Cap.WRITE | Cap.UNKNOWN_SIZE | Cap.DELETE | Cap.LIST | Cap.USAGE
    # One that holds a password or a key has secret=True: it is kept out of errors and logs.
    options = (
        cfg.StrOpt("template_store_directory", help="Directory of the blobs; its last part is made."),
        cfg.IntOpt("template_store_block_size", default=1 << 20, min=1, help="Bytes moved at once."),
    )

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        """Let ``open_service(stores={"id": "template:///srv/blobs"})`` find the directory."""
        return {"template_store_directory": unquote(urlsplit(uri).path)}

    def open(self) -> None:
        """Connect and check here, not in the constructor: servers fork in between."""
        if not self.settings["template_store_directory"]:
            raise ConfigError("template_store_directory isn't set")
        self._directory = Path(self.settings["template_store_directory"]).absolute()
        self._block: int = self.settings["template_store_block_size"]
        self._directory.mkdir(exist_ok=True)
        # A directory that can't be written must fail now, not at the first upload.
        probe = self._new()
        probe.touch()
        probe.unlink()

    def stat(self, key: str) -> BlobInfo:
        """Describe a complete blob; what is absent is BlobNotFound (clause 7)."""
        fd, size = self._find(key)
        os.close(fd)
        return BlobInfo(key, size)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Fail here or not at all: this must not be a generator itself (clause 4)."""
        fd, size = self._find(key)
        if offset and offset >= size:
            os.close(fd)
            raise InvalidRange(f"offset {offset} of {size} bytes")
        end = size if length is None else min(size, offset + length)
        return _Blocks(fd, HEAD + offset, HEAD + end, self._block)

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        """Write beside, then give the name in one step: absent or complete (clause 1)."""
        if self._path(key).exists():
            raise BlobExists("the blob is there already")
        new = self._new()
        try:
            with new.open("xb") as file:
                file.write(key.encode().ljust(HEAD))
                # Only an empty block is the end; what read() raises goes through as it is (clause 2).
                while block := source.read(self._block):
                    file.write(block)
                stored = file.tell() - HEAD
                file.flush()
                os.fsync(file.fileno())
            self._publish(new, key)
        finally:
            with suppress(FileNotFoundError):
                new.unlink()
        return BlobInfo(key, stored)

    def delete(self, key: str) -> None:
        """Remove the blob; readers that have it open read on."""
        try:
            self._path(key).unlink()
        except FileNotFoundError as error:
            raise BlobNotFound("no such blob") from error

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Give complete blobs alone, one after another, however many there are."""
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.startswith(UNFINISHED):
                    continue
                with suppress(FileNotFoundError):  # deleted meanwhile
                    key, size = self._describe(Path(entry.path))
                    if key.startswith(prefix):
                        yield BlobInfo(key, size)

    def sweep(self, before: datetime) -> int:
        """Remove what killed writers left; no write that began ``before`` goes on any more."""
        swept = 0
        for path in self._directory.glob(f"{UNFINISHED}*"):
            with suppress(FileNotFoundError):
                if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before:
                    path.unlink()
                    swept += 1
        return swept

    def usage(self) -> Usage:
        """Tell what the operator has to watch."""
        found = os.statvfs(self._directory)
        return Usage(sum(info.size for info in self.list()), found.f_bavail * found.f_frsize)

    def _new(self) -> Path:
        return self._directory / f"{UNFINISHED}{uuid.uuid4().hex}"

    def _path(self, key: str) -> Path:
        # Any key is a file name of the same length, and none leads out of the directory.
        return self._directory / hashlib.sha256(key.encode()).hexdigest()

    def _find(self, key: str) -> tuple[int, int]:
        """Open the blob's file; return its descriptor and the blob's size."""
        try:
            fd = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise BlobNotFound("no such blob") from error
        return fd, os.fstat(fd).st_size - HEAD

    def _describe(self, path: Path) -> tuple[str, int]:
        with path.open("rb") as file:
            return file.read(HEAD).decode().rstrip(), os.fstat(file.fileno()).st_size - HEAD

    def _publish(self, new: Path, key: str) -> None:
        try:
            # A link fails where the name is taken: of two writers one wins (clause 3).
            self._path(key).hardlink_to(new)
        except FileExistsError as error:
            raise BlobExists("the blob is there already") from error
        # The name outlives a power cut, too.
        fd = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class _Blocks:
    """The bytes of an open file; owns the descriptor.

    Not a generator: closing one that was never advanced runs none of its
    code, and the descriptor would stay open (clause 5).
    """

    def __init__(self, fd: int, at: int, end: int, block: int) -> None:
        self._fd, self._at, self._end, self._size = fd, at, end, block

    def __iter__(self) -> _Blocks:
        return self

    def __next__(self) -> bytes:
        if self._fd < 0 or self._at >= self._end:
            self.close()
            raise StopIteration
        block = os.pread(self._fd, min(self._size, self._end - self._at), self._at)
        if not block:
            raise StoreFault(f"the file ended at {self._at}, it had {self._end} bytes")
        self._at += len(block)
        return block

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close
