"""One pass over a source for several writers, each in a thread of its own.

A few blocks wait for each writer and no more, so the slowest sets the pace
and memory is flat. A writer that fails is left behind; the others go on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from glancelike.errors import StoreError
from glancelike.model import Source
from glancelike.transfer import BLOCK

T = TypeVar("T")

# Blocks that may wait for a writer: enough to overlap, little to hold.
WAITING = 4


class Branch(Generic[T]):
    """What one writer reads: a Source that another thread fills."""

    def __init__(self, name: str, write: Callable[[Source], T]) -> None:
        self._write = write
        self._change = threading.Condition()
        self._blocks: deque[memoryview] = deque()
        self._ended = False
        self._source_error: BaseException | None = None
        self._done = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"write-{name}", daemon=True)
        self._thread.start()

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, waiting for them; raise what the source raised."""
        with self._change:
            self._change.wait_for(lambda: self._blocks or self._ended)
            if self._source_error is not None:
                raise self._source_error
            if not self._blocks:
                return b""
            block = self._blocks.popleft()
            taken, rest = block[:size], block[size:]
            if rest:
                self._blocks.appendleft(rest)
            self._change.notify_all()
            return bytes(taken)

    def put(self, block: bytes) -> bool:
        """Hand a block over when there is room for it; False when nobody wants it any more."""
        with self._change:
            self._change.wait_for(lambda: self._done or len(self._blocks) < WAITING)
            if not self._done:
                self._blocks.append(memoryview(block))
                self._change.notify_all()
            return not self._done

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes, because of an error if there is one."""
        with self._change:
            self._ended = True
            self._source_error = error
            self._change.notify_all()

    def join(self) -> None:
        """Wait until the writer is done."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self.result = self._write(self)
        except BaseException as error:  # noqa: BLE001 - raised or told by whoever joins
            self.error = error
        finally:
            with self._change:
                self._done = True
                self._blocks.clear()
                self._change.notify_all()


def poured(
    source: Source, writers: Mapping[str, Callable[[Source], T]]
) -> tuple[dict[str, T], dict[str, StoreError]]:
    """Have all writers write the source; return the results and the errors, by name.

    Ends early when no writer is left. Raises what the source raises, which
    the writers then get from it, too, and what a writer raises that is no
    StoreError; all have ended by then.
    """
    branches = {name: Branch(name, write) for name, write in writers.items()}
    live = list(branches.values())
    failure: BaseException | None = None
    try:
        while live and (block := source.read(BLOCK)):
            live = [branch for branch in live if branch.put(block)]
    except BaseException as error:
        failure = error
        raise
    finally:
        for branch in branches.values():
            branch.end(failure)
        for branch in branches.values():
            branch.join()
    results: dict[str, T] = {}
    errors: dict[str, StoreError] = {}
    for name, branch in branches.items():
        if branch.error is None:
            assert branch.result is not None  # noqa: S101 - it has returned
            results[name] = branch.result
        elif isinstance(branch.error, StoreError):
            errors[name] = branch.error
    for branch in branches.values():
        if branch.error is not None and not isinstance(branch.error, StoreError):
            raise branch.error
    return results, errors
