"""Store drivers with one defect each, for ``test_store_kit.py``.

``caught_by`` names the test of the kit that must fail, ``blame`` what its
message must begin with. ``SOUND`` are the drivers that pass the same tests.
Pytest doesn't collect this file unless it's named.
"""

from __future__ import annotations

import io
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

from oslo_config import cfg

from glancelike.errors import BlobExists, BlobNotFound, InvalidInput, InvalidRange, StoreFault
from glancelike.stores.base import BlobInfo, Cap, PartInfo, Source, Store, Usage
from glancelike.stores.file import FileStore
from glancelike.stores.memory import BLOCK, MemoryStore
from glancelike.testing import StoreConformance

BROKEN: list[type[Any]] = []


def caught(by: str, blame: str, spawnable: bool = False) -> Any:
    """Enter a broken driver into the table."""

    def enter(driver: type[Store]) -> type[Store]:
        driver.caught_by, driver.blame = by, blame  # type: ignore[attr-defined]
        driver.spawnable = spawnable  # type: ignore[attr-defined]
        BROKEN.append(driver)
        return driver

    return enter


def drain(source: Source) -> bytes:
    return b"".join(iter(lambda: source.read(BLOCK), b""))


def fill(path: Path, data: bytes) -> None:
    """Write a file in two steps, with time to be killed in between."""
    with path.open("xb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        time.sleep(3)
        file.write(data[len(data) // 2 :])


class Behind:
    """A source with bytes that were read already in front."""

    def __init__(self, first: bytes, source: Source) -> None:
        self._first, self._source = first, source

    def read(self, size: int, /) -> bytes:
        first, self._first = self._first, b""
        return first or self._source.read(size)


def datadir(store: FileStore) -> Path:
    return Path(store.settings["filesystem_store_datadir"])


# Clause 1: absent or complete


@caught("test_partial_is_invisible[bare]", "clause 1")
class PublishesAsItComes(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        data = b""
        while block := source.read(BLOCK):
            data += block
            self._blobs[key] = BlobInfo(key, len(data)), data
        self._blobs.pop(key, None)
        return self._publish(key, data)


@caught("test_partial_is_invisible[guarded]", "clause 1")
class ListsItsTemporaries(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._publish(f"{key}.partial", b"")
        try:
            return super().write(key, source, size=size)
        finally:
            self.delete(f"{key}.partial")


@caught("test_killed_write", "clause 1", spawnable=True)
class WritesInPlace(FileStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        path = datadir(self) / key
        with path.open("xb") as file:
            while block := source.read(BLOCK):
                file.write(block)
                file.flush()
        return self.stat(key)


@caught("test_killed_write_at[start]", "clause 1", spawnable=True)
class ReservesUntilItReads(FileStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        (datadir(self) / key).touch()
        first = source.read(1)
        (datadir(self) / key).unlink()
        return super().write(key, Behind(first, source), size=size)


@caught("test_killed_write_at[end]", "clause 1", spawnable=True)
class PublishesBeforeTheLastBlock(FileStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        data, rest = b"", size or 0
        while rest > BLOCK:
            data += source.read(BLOCK)
            rest = (size or 0) - len(data)
        (datadir(self) / key).write_bytes(data)
        with (datadir(self) / key).open("ab") as file:
            file.write(drain(source))
        return self.stat(key)


@caught("test_killed_publishing[0.2]", "clause 1", spawnable=True)
class FillsWhatItPublished(FileStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        fill(datadir(self) / key, drain(source))
        return self.stat(key)


@caught("test_killed_copy[0.2]", "clause 1", spawnable=True)
class CopiesInPlace(FileStore):
    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        fill(datadir(self) / target_key, b"".join(self.read(source_key)))
        return self.stat(target_key)


@caught("test_killed_complete[0.2]", "clause 1", spawnable=True)
class JoinsInPlace(FileStore):
    def complete(self, key: str, upload: str) -> BlobInfo:
        parts = sorted((datadir(self) / ".uploads" / upload).glob("0*"))
        fill(datadir(self) / key, b"".join(part.read_bytes() for part in parts))
        return self.stat(key)


@caught("test_killed_part", "clause 1", spawnable=True)
class WritesPartsInPlace(FileStore):
    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        path = datadir(self) / ".uploads" / upload / f"{number:08d}"
        with path.open("wb") as file:
            while block := source.read(BLOCK):
                file.write(block)
        return PartInfo(number, size)


@caught("test_blob_survives_reopening", "clause 1", spawnable=True)
class Forgets(FileStore):
    def open(self) -> None:
        super().open()
        for info in list(self.list()):
            self.delete(info.key)

    def stat(self, key: str) -> BlobInfo:
        return super().stat(key)


@caught("test_short_blocks[bare-()-sized]", "clause 1")
class MiscountsWrites(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        return BlobInfo(key, super().write(key, source, size=size).size + 1)


@caught("test_stat_and_read[bare-4095]", "clause 1")
class LosesTheLastByte(MemoryStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        inner = super().read
        return (b"".join(inner(key))[:-1] for _ in "1")


@caught("test_keys_are_flat[bare]", "clause 1")
class IgnoresCase(MemoryStore):
    def _check_absent(self, key: str) -> None:
        if key.lower() in map(str.lower, self._blobs):
            key = next(found for found in self._blobs if found.lower() == key.lower())
            del self._blobs[key]

    def _blob(self, key: str) -> tuple[BlobInfo, bytes]:
        for found in self._blobs:
            if found.lower() == key.lower():
                return super()._blob(found)
        return super()._blob(key)


@caught("test_longest_key[bare]", "clause 1")
class CutsKeys(MemoryStore):
    def _publish(self, key: str, data: bytes) -> BlobInfo:
        return super()._publish(key[:255], data)

    def _blob(self, key: str) -> tuple[BlobInfo, bytes]:
        return BlobInfo(key, 0), b""


@caught("test_delete_during_read", "clause 1")
class ReadsOnFromNothing(MemoryStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        blocks = super().read(key, offset=offset, length=length)
        return (block for block in blocks if key in self._blobs)


# Clause 2: the source's errors


@caught("test_source_raises[bare-early-ClientGone]", "clause 2")
class SwallowsErrors(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        data = b""
        try:
            while block := source.read(BLOCK):
                data += block
        except Exception:
            logging.getLogger(__name__).info("that's all, then")
        return self._publish(key, data)


@caught("test_source_raises[bare-early-ClientGone]", "clause 2")
class WrapsErrors(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        try:
            return super().write(key, source, size=size)
        except Exception as error:
            raise StoreFault("write failed") from error


@caught("test_source_raises[bare-late-FileNotFoundError]", "clause 2")
class MistakesErrorsForItsOwn(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        try:
            return super().write(key, source, size=size)
        except FileNotFoundError as error:
            raise BlobNotFound("no such file") from error


@caught("test_source_raises[guarded-early-KeyError]", "clause 2")
class KeepsWhatCame(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        data = b""
        try:
            while block := source.read(10):
                data += block
        finally:
            info = self._publish(key, data)
        return info


@caught("test_source_raises[bare-first-Cancelled]", "clause 2")
class CleansUpAfterExceptionsOnly(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._publish(key, b"")
        try:
            data = drain(source)
        except Exception:
            self.delete(key)
            raise
        self.delete(key)
        return self._publish(key, data)


@caught("test_source_raises[bare-late-ClientGone]", "clause 2")
class TriesTheSourceAgain(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        try:
            return super().write(key, source, size=size)
        except Exception:
            source.read(BLOCK)
            raise


@caught("test_source_raises_at_the_end[bare]", "clause 2")
class TakesAnErrorForTheEnd(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        data = b""
        try:
            while block := source.read(BLOCK):
                data += block
        except Exception:
            if len(data) % BLOCK:
                raise
        return self._publish(key, data)


@caught("test_failed_writes_leave_nothing[bare]", "clause 2")
class LeaksOnFailure(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        fd = os.open("/dev/null", os.O_WRONLY)
        info = super().write(key, source, size=size)
        os.close(fd)
        return info


@caught("test_part_source_raises[bare]", "clause 2")
class KeepsFailedParts(MemoryStore):
    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        self._upload(key, upload).parts[number] = b""
        return super().put_part(key, upload, number, source, size=size)


@caught("test_part_source_raises[bare]", "clause 2")
class TakesTheSourcesErrorsForItsOwn(MemoryStore):
    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        try:
            return super().put_part(key, upload, number, source, size=size)
        except FileNotFoundError as error:
            raise StoreFault("the upload's directory is gone") from error


@caught("test_part_of_another_size", "clause 2")
class PartsOfAnySize(MemoryStore):
    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        try:
            return super().put_part(key, upload, number, source, size=size)
        except Exception:
            self._upload(key, upload).parts[number] = b"what came"
            raise


# Clause 3: the first one wins


@caught("test_existing_is_kept[bare]", "clause 3")
class Overwrites(MemoryStore):
    def _check_absent(self, key: str) -> None:
        pass


@caught("test_existing_is_kept[guarded]", "clause 3")
class TakesEmptyForAbsent(MemoryStore):
    def _check_absent(self, key: str) -> None:
        if key in self._blobs and self._blobs[key][1]:
            raise BlobExists("there")


@caught("test_race_of_writers[bare]", "clause 3")
class ChecksThenWrites(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        data = drain(source)
        self._blobs[key] = BlobInfo(key, len(data)), data
        return self.stat(key)


@caught("test_copy_keeps_existing[bare]", "clause 3")
class CopyOverwrites(MemoryStore):
    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        data = self._blob(source_key)[1]
        self._blobs[target_key] = BlobInfo(target_key, len(data)), data
        return self.stat(target_key)


@caught("test_uploads_keep_existing[bare]", "clause 3")
class CompleteOverwrites(MemoryStore):
    def complete(self, key: str, upload: str) -> BlobInfo:
        self._upload(key, upload)
        self._blobs.pop(key, None)
        return super().complete(key, upload)


@caught("test_race_of_completes[guarded]", "clause 3")
class CompleteChecksThenPublishes(MemoryStore):
    def complete(self, key: str, upload: str) -> BlobInfo:
        self._check_absent(key)
        time.sleep(0.2)
        self._blobs.pop(key, None)
        return super().complete(key, upload)


# Clause 4: read fails at the call


@caught("test_read_raises_at_the_call[bare]", "clause 4")
class ReadsLazily(MemoryStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        yield from super().read(key, offset=offset, length=length)


@caught("test_read_raises_at_the_call[guarded]", "clause 4")
class ChecksRangesLazily(MemoryStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.stat(key)
        inner = super().read
        return (block for _ in "1" for block in inner(key, offset=offset, length=length))


@caught("test_stat_and_read[bare-1]", "clause 4")
class ReadsIntoOneBuffer(MemoryStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        blocks = super().read(key, offset=offset, length=length)
        return (memoryview(block) for block in blocks)  # type: ignore[misc]


# Clause 5: close releases everything


@caught("test_closing_releases_everything[bare]", "clause 5")
class LeaksUntilAdvanced(FileStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        # A generator's finally doesn't run when it is closed before its first step.
        fd = os.open(self.local_path(key), os.O_RDONLY)
        size = os.fstat(fd).st_size
        if offset >= size > 0:
            raise InvalidRange("behind the end")

        def blocks() -> Iterator[bytes]:
            try:
                yield os.pread(fd, size if length is None else length, offset)
            finally:
                os.close(fd)

        return blocks()


class _FromThread:
    """Read ahead without limit; ``stop`` says whether close() ends the thread."""

    def __init__(self, blocks: Iterator[bytes], *, depth: int, stop: bool) -> None:
        self._queue: queue.Queue[bytes] = queue.Queue(depth)
        self._stop = stop
        self._closed = False
        threading.Thread(target=self._run, args=(blocks,), daemon=True).start()

    def _run(self, blocks: Iterator[bytes]) -> None:
        for block in blocks:
            while not (self._closed and self._stop):
                try:
                    self._queue.put(block, timeout=0.05)
                except queue.Full:
                    continue
                break
        self._queue.put(b"")

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = b"" if self._closed else self._queue.get()
        if not block:
            self._closed = True
            raise StopIteration
        return block

    def close(self) -> None:
        self._closed = True


@caught("test_closing_releases_everything[guarded]", "clause 5")
class LeaksThreads(MemoryStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return _FromThread(super().read(key, offset=offset, length=length), depth=1, stop=False)


@caught("test_stat_and_read[bare-1]", "clause 5")
class CannotBeClosed(MemoryStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return iter(list(super().read(key, offset=offset, length=length)))


@caught("test_closed_iterator_ends[bare]", "clause 5")
class GoesOnAfterClose(MemoryStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        class Blocks(Iterator[bytes]):
            def __init__(self, blocks: Iterator[bytes]) -> None:
                self._blocks = blocks

            def __next__(self) -> bytes:
                return next(self._blocks)

            def close(self) -> None:
                pass

        return Blocks(super().read(key, offset=offset, length=length))


# Clause 6: forward, in chunks, flat


@caught("test_short_blocks[bare-()-sized]", "clause 6")
class ReadsAllAtOnce(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        return self._publish(key, source.read(-1))


@caught("test_short_blocks[bare-(1, 7, 4096, 65537)-unsized]", "clause")
class TakesShortForTheEnd(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        data = b""
        while block := source.read(BLOCK):
            data += block
            if len(block) < BLOCK:
                break
        return self._publish(key, data)


@caught("test_short_blocks[bare-(1048576,)-sized]", "clause 6")
class ReadsOnAfterTheEnd(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        info = super().write(key, source, size=size)
        source.read(1)
        return info


@caught("test_source_is_never_sought", "clause 6")
class Seeks(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        if hasattr(source, "seek"):
            source.seek(0)
        return super().write(key, source, size=size)


@caught("test_memory_is_flat", "clause 6", spawnable=True)
class HoldsTheWholeBlob(FileStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        return super().write(key, io.BytesIO(drain(source)), size=size)


@caught("test_memory_is_flat", "clause 6", spawnable=True)
class ReadsAheadWithoutLimit(FileStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return _FromThread(super().read(key, offset=offset, length=length), depth=0, stop=True)


@caught("test_stat_and_read[bare-8388609]", "clause 6")
class ReadsHugeBlocks(MemoryStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        blocks = super().read(key, offset=offset, length=length)
        return (b"".join(blocks) for _ in "1")


class _Impatient:
    """A source read in a thread that is given a second for each block."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, size: int, /) -> bytes:
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._source.read, size)
            try:
                return coming.result(1)
            except TimeoutError:
                return b""


@caught("test_slow_source", "clause")
class TakesAPauseForTheEnd(MemoryStore):
    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        data = b"".join(iter(lambda: _Impatient(source).read(BLOCK), b""))
        return self._publish(key, data)


# Clause 7: what is missing is BlobNotFound


@caught("test_missing_blob[bare]", "clause 7")
class DeletesNothingSilently(MemoryStore):
    def delete(self, key: str) -> None:
        self._blobs.pop(key, None)


@caught("test_missing_blob[guarded]", "clause 7")
class RaisesKeyError(MemoryStore):
    def _blob(self, key: str) -> tuple[BlobInfo, bytes]:
        return self._blobs[key]


@caught("test_deleted_blob[bare]", "clause 7")
class OnlyMarksDeleted(MemoryStore):
    def delete(self, key: str) -> None:
        self.stat(key)


@caught("test_unknown_upload[bare]", "clause 7")
class KnowsEveryUpload(MemoryStore):
    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        return super().parts(key, upload) if upload in self._uploads else ()


# Clause 8: threads and truth


@caught("test_driver_is_never_falsy", "clause 8")
class HasALength(MemoryStore):
    def __len__(self) -> int:
        return len(self._blobs)


@caught("test_partial_is_invisible[bare]", "clause 8")
class LocksWhileItReads(MemoryStore):
    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._all = threading.RLock()

    def stat(self, key: str) -> BlobInfo:
        with self._all:
            return super().stat(key)

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        with self._all:
            return super().write(key, source, size=size)


@caught("test_eight_threads[bare]", "clause 8")
class SharesABuffer(MemoryStore):
    _buffer = b""

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._buffer = b""
        while block := source.read(BLOCK):
            self._buffer += block
            time.sleep(0.001)
        return self._publish(key, self._buffer)


@caught("test_parallel_writers[bare]", "clause 8")
class SpillsIntoOneBuffer(MemoryStore):
    """Keep what comes after the first MiB in one place for all."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._spilled: list[bytes] = []

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        data = b""
        while block := source.read(BLOCK):
            if len(data) < BLOCK:
                data += block
            else:
                self._spilled.append(block)
        spilled, self._spilled = self._spilled, []
        return self._publish(key, data + b"".join(spilled))


@caught("test_parallel_writers[guarded]", "clause 8")
class OneWriterAtATime(MemoryStore):
    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._writing = threading.Lock()

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        with self._writing:
            return super().write(key, source, size=size)


@caught("test_capabilities_are_sound", "capability PARTS")
class PartsWithoutWrite(MemoryStore):
    capabilities = Cap.PARTS


# Clause 9: secrets


class WithPassword(MemoryStore):
    options = (cfg.StrOpt("broken_password", default="pa55word", secret=True),)


@caught("test_secrets_stay_secret", "clause 9")
class TellsInErrors(WithPassword):
    def _blob(self, key: str) -> tuple[BlobInfo, bytes]:
        try:
            return super()._blob(key)
        except BlobNotFound as error:
            connection = f"http://me:{self.settings['broken_password']}@peer/"
            raise BlobNotFound("not there") from ConnectionError(connection, error)


@caught("test_secrets_stay_secret", "clause 9")
class TellsInLogs(WithPassword):
    def stat(self, key: str) -> BlobInfo:
        logging.getLogger(__name__).debug("asking with %s", dict(self.settings))
        return super().stat(key)


@caught("test_secrets_stay_secret", "clause 9")
class HidesNoOption(MemoryStore):
    options = (cfg.StrOpt("broken_password", default="pa55word"),)


# Capabilities


@caught("test_undeclared_is_refused[bare-COPY]", "capability COPY")
class CopiesUndeclared(MemoryStore):
    capabilities = MemoryStore.capabilities & ~Cap.COPY


@caught("test_undeclared_is_refused[bare-RANGE]", "capability RANGE")
class IgnoresRanges(MemoryStore):
    capabilities = MemoryStore.capabilities & ~Cap.RANGE

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return super().read(key)


@caught("test_undeclared_is_refused[bare-USAGE]", "capability USAGE")
class LeavesItUndone(MemoryStore):
    capabilities = MemoryStore.capabilities & ~Cap.USAGE

    def usage(self) -> Usage:
        raise NotImplementedError


@caught("test_ranges[bare]", "capability RANGE")
class CountsFromOne(MemoryStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return super().read(key, offset=offset, length=None if length is None else length + 1)


@caught("test_ranges[guarded]", "capability RANGE")
class CutsAtBlockBorders(MemoryStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return super().read(key, offset=offset - offset % 4096, length=length)


@caught("test_ranges_behind_the_end[bare]", "capability RANGE")
class ReadsNothingBehindTheEnd(MemoryStore):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        if offset == self.stat(key).size:
            return (b"" for _ in "")
        return super().read(key, offset=offset, length=length)


@caught("test_list[bare]", "capability LIST")
class ListsWholeSegments(MemoryStore):
    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        below, inner = prefix.rstrip("/") + "/", super().list
        return (info for info in inner() if f"{info.key}/".startswith(below))


@caught("test_list[guarded]", "capability LIST")
class ListsOnePage(MemoryStore):
    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        inner = super().list
        return (info for _, info in zip(range(3), inner(prefix), strict=False))


@caught("test_many_keys", "capability LIST")
class ListsAThousand(MemoryStore):
    """List what the first page of a backend has."""

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        inner = super().list
        return (info for _, info in zip(range(1000), inner(prefix), strict=False))


@caught("test_many_keys", "capability LIST")
class ListsWithContent(MemoryStore):
    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        held = [(info, bytearray(self._blobs[info.key][1])) for info in super().list(prefix)]
        return (info for info, _ in held)


@caught("test_copy[bare]", "capability COPY")
class CopiesByName(MemoryStore):
    """Read the original whenever the copy is read."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._names: dict[str, str] = {}

    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        self._names[target_key] = source_key
        return BlobInfo(target_key, self.stat(source_key).size)

    def _blob(self, key: str) -> tuple[BlobInfo, bytes]:
        return super()._blob(self._names.get(key, key))


@caught("test_copy[guarded]", "capability COPY")
class CopyMoves(MemoryStore):
    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        info = super().copy(source_key, target_key, source=source)
        self.delete(source_key)
        return info


@caught("test_local_path[bare]", "capability LOCAL")
class TellsARelativePath(FileStore):
    def local_path(self, key: str) -> Path:
        return Path(os.path.relpath(super().local_path(key)))


@caught("test_usage[bare]", "capability USAGE")
class NeverFills(MemoryStore):
    def usage(self) -> Usage:
        return Usage(0)


@caught("test_usage[bare]", "capability USAGE")
class SharesWhatIsDifferent(MemoryStore):
    def usage(self) -> Usage:
        used = super().usage().used
        return Usage(used, logical=used // 2)


@caught("test_parts_in_any_order[bare]", "capability PARTS")
class JoinsInOrderOfArrival(MemoryStore):
    def complete(self, key: str, upload: str) -> BlobInfo:
        parts = self._upload(key, upload).parts
        info = self._publish(key, b"".join(parts.values()))
        self.abort(key, upload)
        return info


@caught("test_part_replaced[bare]", "capability PARTS")
class KeepsTheFirstPart(MemoryStore):
    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        data = drain(source)
        self._upload(key, upload).parts.setdefault(number, data)
        return PartInfo(number, len(data))


class RemembersUploads(MemoryStore):
    joined: ClassVar[dict[str, str]] = {}

    def complete(self, key: str, upload: str) -> BlobInfo:
        info = super().complete(key, upload)
        self.joined[upload] = key
        return info


@caught("test_parts_in_any_order[bare]", "clause 7")
class TakesPartsOfWhatIsComplete(RemembersUploads):
    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        if self.joined.get(upload) == key:
            return PartInfo(number, len(drain(source)))
        return super().put_part(key, upload, number, source, size=size)


@caught("test_parts_in_any_order[bare]", "clause 1")
class AbortsWhatIsComplete(RemembersUploads):
    def abort(self, key: str, upload: str) -> None:
        if self.joined.get(upload) == key:
            self._blobs.pop(key, None)
        super().abort(key, upload)


@caught("test_part_replaced_between_others[bare]", "capability PARTS")
class PutsEachPartInThePlaceOfTheFirst(MemoryStore):
    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        parts, data = self._upload(key, upload).parts, drain(source)
        behind = any(each > number for each in parts)
        parts[number] = data[: len(parts[number])] if behind and number in parts else data
        return PartInfo(number, len(data))


@caught("test_part_missing[bare]", "capability PARTS")
class JoinsOverGaps(MemoryStore):
    def complete(self, key: str, upload: str) -> BlobInfo:
        parts = self._upload(key, upload).parts
        return self._publish(key, b"".join(parts[number] for number in sorted(parts)))


@caught("test_aborted[bare]", "clause 7")
class KeepsAbortedUploads(MemoryStore):
    def abort(self, key: str, upload: str) -> None:
        pass


class Served(MemoryStore):
    """A sound driver that can presign: the blobs are on a web server of its own."""

    capabilities = MemoryStore.capabilities | Cap.PRESIGN
    extra: ClassVar[bytes] = b""

    def open(self) -> None:
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = b"".join(store.read(unquote(self.path[1:]))) + store.extra
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def presign(self, key: str, method: str, expires: int) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{key}"


@caught("test_presign[bare]", "capability PRESIGN")
class PresignsOtherBytes(Served):
    extra = b"and more"


class WithUrls(MemoryStore):
    capabilities = MemoryStore.capabilities | Cap.URLS

    def key_of(self, url: str) -> str:
        scheme, _, key = url.partition("://")
        if scheme != "memory" or not key:
            raise InvalidInput(f"{url!r} is no URL of this store")
        return key

    def url_of(self, key: str) -> str:
        return f"memory://{key}"


@caught("test_urls[bare]", "capability URLS")
class TakesAnyUrl(WithUrls):
    def key_of(self, url: str) -> str:
        return url.rpartition("://")[2]


@caught("test_urls[guarded]", "capability URLS")
class ForgetsTheCase(WithUrls):
    def key_of(self, url: str) -> str:
        return super().key_of(url).upper()


@caught("test_guard_refuses_key[%41]", "clause 9")
class HoldsPercents(WithUrls):
    def key_of(self, url: str) -> str:
        return url if "%" in url else super().key_of(url)


@caught("test_foreign_locations[bare]", "clause 9")
class TakesAnyLocation(MemoryStore):
    def key_of_location(self, url: str) -> str | None:
        return url.rpartition("/")[2] or None


class SoundMemory(WithPassword, WithUrls):
    pass


class SoundFile(FileStore):
    pass


SOUND: list[type[Store]] = [SoundMemory, SoundFile, Served]


class _Kit(StoreConformance):
    many_keys = 5000
    driver_class: ClassVar[type[Store]]
    flat_size = 96 << 20

    def make_store(self) -> Store:
        if issubclass(self.driver_class, FileStore):
            settings: dict[str, Any] = {"filesystem_store_datadir": str(self.tmp_path / "data")}
            # The disk isn't what is tested here.
            return self.driver_class({**settings, "filesystem_store_fsync": False})
        return self.driver_class({})


def name_of(driver: type[Any]) -> str:
    """Return the name of the test class for a driver."""
    return f"Test{driver.__name__}"


def tests_for(driver: type[Any]) -> list[str]:
    """Return the tests to run: a broken driver's own, or all that a sound one has to pass."""
    if driver in BROKEN:
        return [driver.caught_by]
    return sorted(
        {broken.caught_by for broken in BROKEN if driver is not Served or "presign" in broken.caught_by}
    )


for _driver in (*BROKEN, *SOUND):
    _wanted = {test.partition("[")[0] for test in tests_for(_driver)}
    globals()[name_of(_driver)] = type(
        name_of(_driver),
        (_Kit,),
        {
            "driver_class": _driver,
            # A broken one is waited for to no end, a sound one may be slow on a busy machine.
            "patience": 1.5 if _driver in BROKEN and not getattr(_driver, "spawnable", False) else 30.0,
            "spawnable": getattr(_driver, "spawnable", issubclass(_driver, FileStore)),
            "__module__": __name__,
            # Collecting all of the kit for each driver would take longer than running what is wanted.
            **{name: None for name in dir(_Kit) if name.startswith("test_") and name not in _wanted},
        },
    )
