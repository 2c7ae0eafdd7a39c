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


def fill(source: Source, size: int) -> io.BytesIO:
    """Read up to ``size`` bytes; fewer come only at the source's end.

    In memory, so that a request can be repeated. Joined blocks would be
    held twice for a moment; a BytesIO holds them once.
    """
    buffer = io.BytesIO()
    while (missing := size - buffer.tell()) > 0 and (block := source.read(min(missing, BLOCK))):
        buffer.write(block)
    return buffer


class Sending:
    """The parts of one upload on their way; ``etags`` of those that arrived."""

    def __init__(self, bucket: Bucket, key: str, upload: str, *, threads: int, memory: int) -> None:
        self._bucket = bucket
        self._at = {**bucket.at(key), "UploadId": upload}
        self._threads = threads
        self._budget = Budget(memory)
        self._failed = threading.Event()
        self.etags: dict[int, str] = {}
        self.size = 0

    def run(
        self, source: Source, part_size: Callable[[int], int], size: int | None, first: io.BytesIO | None
    ) -> None:
        """Send all of the source, of which ``first`` was read before.

        The source is read only while there is memory for what comes: an
        endpoint that is slow holds it up. Nothing is running at the end,
        however that comes about.
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
                    buffer = first if first is not None and number == 1 else fill(source, room)
                    sent = buffer.tell()
                    if sent and number > MAX_PARTS:
                        raise StoreFull(f"{self.size} bytes in {MAX_PARTS} parts, and the source goes on")
                    if sent:
                        futures.append(pool.submit(self._send, number, buffer, room))
                        self.size += sent
                    if sent < room:
                        break
            except BaseException:
                self._failed.set()
                for future in futures:
                    future.cancel()
                raise
        for future in futures:
            future.result()

    def _send(self, number: int, buffer: io.BytesIO, room: int) -> None:
        try:
            if self._failed.is_set():
                return
            buffer.seek(0)
            with translated():
                answer = self._bucket.client.upload_part(**self._at, PartNumber=number, Body=buffer)
            self.etags[number] = answer["ETag"]
        except BaseException:
            self._failed.set()
            raise
        finally:
            buffer.close()
            self._budget.give(room)
