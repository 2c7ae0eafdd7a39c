"""A terminal's file descriptor, as coroutines read and write it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from types import TracebackType

_BLOCK = 4096  # bytes; a pseudoterminal holds no more


class Line:
    """Reads and writes a descriptor that doesn't block, and closes it at the end of a block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()

    async def read(self) -> bytes:
        """Return what there is, empty at the end."""
        while True:
            try:
                return os.read(self._descriptor, _BLOCK)
            except BlockingIOError:
                await self._wait(self._loop.add_reader, self._loop.remove_reader)
            except OSError:  # what a terminal whose other end is closed says
                return b""

    async def write(self, data: bytes) -> None:
        """Write all, as fast as the guest takes it; raise OSError at the end."""
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                await self._wait(self._loop.add_writer, self._loop.remove_writer)

    async def _wait(self, watch: Callable[..., None], unwatch: Callable[[int], object]) -> None:
        ready = asyncio.Event()
        watch(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            unwatch(self._descriptor)

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
