"""``image_decompression``: unpack what was staged compressed.

The data is unpacked as it streams from the staging store back into it:
memory is flat, and what comes out is bounded by ``image_size_cap`` and the
project's quota like any other data.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from oslo_config import cfg

from glancelike.errors import ImageTooLarge, InvalidInput
from glancelike.importing.base import ImportPlugin, Subject
from glancelike.model import Source

LONGEST_MAGIC = 8
MIB = 1 << 20
XZ_MEMORY = 256 * MIB  # what a dictionary named by the data's own header may take
BROKEN = (zlib.error, lzma.LZMAError, zipfile.BadZipFile, EOFError, OSError, RuntimeError)


class ImageDecompression(ImportPlugin):
    """Unpack gzip, bzip2, xz and single-file zip.

    An image whose container format is ``compressed`` is meant to be so, and
    is left alone.
    """

    options = (
        cfg.IntOpt(
            "max_ratio",
            min=1,
            default=10_000,
            help="Most that data may grow in unpacking, as a factor. Empty disks pack well: xz makes "
            "some 1 of 7000, gzip 1 of 1000.",
        ),
    )

    def process(self, subject: Subject) -> None:
        """Replace the staged data by what is in it; raise InvalidInput, ImageTooLarge."""
        image = subject.image
        if image.container_format == "compressed" or not image.size:
            return
        with subject.source() as source:
            head = _read_exactly(source, LONGEST_MAGIC)
        unpack = next((unpack for magic, unpack in FORMATS if head.startswith(magic)), None)
        if unpack is None:
            return
        with unpack(subject) as stream:
            subject.replace_data(
                _Unpacked(stream, image.size * self.settings["max_ratio"], subject.confirm), size=None
            )


class _Unpacked:
    """A source that stops at a size, and words what the unpackers raise."""

    def __init__(self, stream: IO[bytes], most: int, beat: Callable[[], None]) -> None:
        self._stream = stream
        self._left = most
        self._beat = beat
        self._since = 0

    def read(self, size: int, /) -> bytes:
        try:
            block = self._stream.read(min(size, MIB))
        except BROKEN as error:
            raise InvalidInput(f"Image data can't be decompressed: {error}") from error
        self._left -= len(block)
        if self._left < 0:
            raise ImageTooLarge("Image data grows more in decompression than max_ratio allows")
        self._since += len(block)
        if self._since >= 1024 * MIB:
            self._since = 0
            self._beat()
        return block


def _read_exactly(source: Source, size: int) -> bytes:
    found = b""
    while len(found) < size:
        block = source.read(size - len(found))
        if not block:
            break
        found += block
    return found


class _Stream:
    """What the decompressors of the standard library read from: forward only."""

    def __init__(self, source: Source, decompressor: Callable[[], Any]) -> None:
        self._source = source
        self._make = decompressor
        self._decompressor = decompressor()
        self._ended = False

    def read(self, size: int = MIB) -> bytes:
        while not self._ended:
            if self._decompressor.eof:
                # Several streams may follow one another, as in gzip.
                rest = self._decompressor.unused_data or self._source.read(MIB)
                if not rest.strip(b"\0"):
                    self._ended = True
                    break
                self._decompressor = self._make()
                block = self._decompressor.decompress(rest, size)
            elif self._decompressor.needs_input:
                fed = self._source.read(MIB)
                if not fed:
                    raise EOFError("the data ends before its end-of-stream marker")
                block = self._decompressor.decompress(fed, size)
            else:
                block = self._decompressor.decompress(b"", size)
            if block:
                return bytes(block)
        return b""


@contextmanager
def _gzip(subject: Subject) -> Iterator[Any]:
    with subject.source() as source, gzip.GzipFile(fileobj=source) as stream:  # type: ignore[call-overload]
        yield stream


@contextmanager
def _bzip2(subject: Subject) -> Iterator[Any]:
    with subject.source() as source:
        yield _Stream(source, bz2.BZ2Decompressor)


@contextmanager
def _xz(subject: Subject) -> Iterator[Any]:
    with subject.source() as source:
        yield _Stream(source, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY))


@contextmanager
def _zip(subject: Subject) -> Iterator[Any]:
    """Open the one file in a zip archive, whose directory is at its end."""
    with subject.local() as path:
        try:
            with zipfile.ZipFile(path) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                if len(members) != 1:
                    raise InvalidInput(f"The zip archive holds {len(members)} files instead of one")
                with archive.open(members[0]) as stream:
                    yield stream
        except (zipfile.BadZipFile, RuntimeError) as error:
            raise InvalidInput(f"Image data can't be decompressed: {error}") from error


FORMATS = (
    (b"\x1f\x8b", _gzip),
    (b"BZh", _bzip2),
    (b"\xfd7zXZ\0", _xz),
    (b"PK\x03\x04", _zip),
)
