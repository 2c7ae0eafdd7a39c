"""Send a source in parts, some at a time, from a bounded memory."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from glancelike.errors import StoreFull
from glancelike.stores.base import Source
from glancelike_store_s3.bucket import Bucket
from glancelike_store_s3.errors import translated
from glancelike_store_s3.plan import MAX_PARTS

BLOCK = 1 << 20


class Budget:
    """The bytes that an upload may hold in memory; one part is always allowed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Wait until ``size`` bytes may be held."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + size <= self._limit)
            self._held += size

    def give(self, size: int) -> None:
        """Let go of ``size`` bytes."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()


def fill(source: Source, size: int, buffer: bytearray | None = None) -> bytearray:
    """Read up to ``size`` bytes; fewer come only at the source's end.

    In memory, so that a request can be repeated. ``buffer`` is overwritten,
    if there is one: memory that is made anew for each part costs time, and
    the allocator doesn't give all of it back.
    """
    buffer = bytearray() if buffer is None else buffer
    held = 0
    while held < size and (block := source.read(min(size - held, BLOCK))):
        buffer[held : held + len(block)] = block
        held += len(block)
    del buffer[held:]
    return buffer


class Body:
    """What was filled as boto sends it: a block at a time, as often as it has to.

    Blocks are larger than urllib3 asks for, which would else send 16 KiB
    with each call. They aren't sent at once either: the timeout of a socket
    is for all that one call sends.
    """

    def __init__(self, data: bytearray) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        end = len(self._data) if size < 0 else self._at + max(size, BLOCK)
        block = bytes(memoryview(self._data)[self._at : end])
        self._at += len(block)
        return block

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


class Sending:
    """The parts of one upload on their way; ``etags`` of those that arrived."""

    def __init__(self, bucket: Bucket, key: str, upload: str, *, threads: int, memory: int) -> None:
        self._bucket = bucket
        self._at = {**bucket.at(key), "UploadId": upload}
        self._threads = threads
        self._budget = Budget(memory)
        self._failed = threading.Event()
        self._spare: list[bytearray] = []
        self.etags: dict[int, str] = {}
        self.size = 0

    def run(
        self,
        source: Source,
        part_size: Callable[[int], int],
        size: int | None,
        first: bytearray | None,
        meanwhile: Callable[[], None],
    ) -> None:
        """Send all of the source, of which ``first`` was read before.

        ``meanwhile`` is called when all is read and the last parts are on
        their way; they are given up when it raises. The source is read only
        while there is memory for what comes: an endpoint that is slow holds
        it up. Nothing is running at the end, however that comes about.
        """
        futures: list[Future[None]] = []
        with ThreadPoolExecutor(self._threads, thread_name_prefix="s3-part") as pool:
            try:
                for number in range(1, MAX_PARTS + 2):
                    room = part_size(number)
                    if size is not None:
                        room = min(room, size - self.size)
                    self._budget.take(room)
                    if self._failed.is_set() or not room:
                        break
                    spare = self._spare.pop() if self._spare else None
                    buffer = first if first is not None and number == 1 else fill(source, room, spare)
                    sent = len(buffer)
                    if sent and number > MAX_PARTS:
                        raise StoreFull(f"{self.size} bytes in {MAX_PARTS} parts, and the source goes on")
                    if sent:
                        futures.append(pool.submit(self._send, number, buffer, room))
                        self.size += sent
                    if sent < room:
                        break
                if not self._failed.is_set():
                    meanwhile()
            except BaseException:
                self._failed.set()
                for future in futures:
                    future.cancel()
                raise
        for future in futures:
            future.result()

    def _send(self, number: int, buffer: bytearray, room: int) -> None:
        try:
            if self._failed.is_set():
                return
            with translated():
                answer = self._bucket.client.upload_part(**self._at, PartNumber=number, Body=Body(buffer))
            self.etags[number] = answer["ETag"]
        except BaseException:
            self._failed.set()
            raise
        finally:
            self._spare.append(buffer)
            self._budget.give(room)
