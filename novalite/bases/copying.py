"""Copy on read: a sparse file whose missing blocks are fetched when they are asked for.

Each block is fetched once, whoever asks for it: a guest, the next one, or the
filling. A block is handed out only from the file, and counts as there when its
data has been written to it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from novalite.bases.journal import Journal
from novalite.errors import ImageMissing, ImageServiceDown, ImageUnusable, NovaliteError, Unavailable

LOG = logging.getLogger(__name__)

#: What is fetched, and known to be there, as one.
BLOCK = 64 << 10
#: What a guest's read of one missing byte fetches at least, and at most where it reads on and on.
AHEAD = 256 << 10
MOST_AHEAD = 1 << 20
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_COMMIT_SECONDS = 1.0
_COMMIT_BYTES = 64 << 20


class Source(Protocol):
    """Where an image's bytes come from."""

    def read(self, offset: int, length: int) -> bytes:
        """Return at least one and at most ``length`` bytes.

        Raises ImageServiceDown when asking again may help, ImageMissing and
        ImageUnusable when it hardly does.
        """


class LazyFile:
    """The file of one base that isn't complete; thread-safe.

    ``told`` is called with why nothing can be fetched, and with "" when that is over; and whether
    the rest is lost. It is when the source says for ``patience`` seconds that there is none. Even
    then it's asked on: a source that was restored has it again.
    """

    def __init__(
        self,
        path: Path,
        journal: Path,
        size: int,
        source: Source,
        told: Callable[[str, bool], None] = lambda why, lost: None,
        patience: float = 60.0,
    ) -> None:
        self.path = path
        self.size = size
        self.blocks = -(-size // BLOCK)
        self.fetched = 0  # bytes, in this process
        self.waiting = 0  # guests' reads that wait for the source
        self.lost = False
        self._journal_path = journal
        self._source = source
        self._told = told
        self._trouble = ""
        self._patience = patience
        self._none_since: float | None = None  # the source has said so
        self._changed = threading.Condition()
        self._committing = threading.Lock()
        self._under_way: set[int] = set()
        self._uncommitted = 0
        self._committed_at = time.monotonic()
        self._next_read = -1
        self._ahead = AHEAD
        self._closed = False

    def open(self) -> None:
        """Open the file, which is there, and see what it has."""
        self._file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        if os.fstat(self._file).st_size != self.size:
            os.ftruncate(self._file, self.size)
        self._journal = open_journal(self._journal_path, self._file, self.size)

    def close(self) -> None:
        """Commit what is there and end all waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.commit()
        with self._committing:
            self._journal.close()
            os.close(self._file)
            self._file = -1  # rather an error than another file's bytes

    @property
    def inode(self) -> int:
        return os.fstat(self._file).st_ino

    @property
    def links(self) -> int:
        """How many names the file has, its own and those of who uses it."""
        return os.fstat(self._file).st_nlink

    @property
    def missing(self) -> int:
        """How many blocks aren't there."""
        return self._journal.missing

    def has(self, offset: int, length: int) -> bool:
        """Tell whether a read needn't wait."""
        first, count = _blocks_of(offset, length)
        return self._journal.has_all(first, count)

    def read(self, offset: int, length: int, seconds: float) -> bytes:
        """Return bytes inside the file, fetching what isn't there.

        Waits for a source that is away, ``seconds`` at most; then raises what
        the source said.
        """
        if not self.has(offset, length):
            with self._counted():
                self._fetch_for_read(offset, length, time.monotonic() + seconds)
        return os.pread(self._file, length, offset)

    def fill(self, first: int, count: int, stopping: Callable[[], bool] = lambda: False) -> None:
        """Fetch what is missing of some blocks, waiting until the source is back or ``stopping``."""
        self._fetch(first, min(count, self.blocks - first), None, stopping)

    def next_missing(self, start: int) -> int | None:
        """Return the first block from ``start`` on that isn't there."""
        return self._journal.next_missing(start)

    def commit(self) -> None:
        """Bring what is there to the disk, and then that it is there."""
        with self._committing:
            with self._changed:
                runs = self._journal.take_pending()
                self._uncommitted = 0
                self._committed_at = time.monotonic()
            if runs:
                os.fdatasync(self._file)
                self._journal.commit(runs)

    def sync(self) -> None:
        """Bring the file's data and its own attributes to the disk."""
        os.fsync(self._file)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._changed:
            self.waiting += 1
        try:
            yield
        finally:
            with self._changed:
                self.waiting -= 1

    def _fetch_for_read(self, offset: int, length: int, deadline: float) -> None:
        """Fetch what a read needs, and some more where reads follow one another."""
        begin = offset // AHEAD * AHEAD
        with self._changed:
            self._ahead = min(2 * self._ahead, MOST_AHEAD) if begin == self._next_read else AHEAD
            end = min(self.size, -(-max(offset + length, begin + self._ahead) // AHEAD) * AHEAD)
            self._next_read = end
        first, count = _blocks_of(begin, end - begin)
        needed_first, needed = _blocks_of(offset, length)
        self._fetch(first, count, deadline, lambda: self._journal.has_all(needed_first, needed))

    def _fetch(self, first: int, count: int, deadline: float | None, enough: Callable[[], bool]) -> None:
        """Fetch each missing block of a run, or wait for whoever is fetching it."""
        while True:
            with self._changed:
                self._check_open()
                missing = [n for n in range(first, first + count) if not self._journal.has(n)]
                if not missing or enough():
                    return
                mine = self._claim(missing)
                if not mine:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        raise ImageServiceDown(self._trouble or "the image's data doesn't come")
                    self._changed.wait(min(1.0, left) if left is not None else 1.0)
                    continue
            try:
                self._bring(mine[0], len(mine), deadline, enough)
            finally:
                with self._changed:
                    self._under_way.difference_update(mine)
                    self._changed.notify_all()

    def _claim(self, missing: list[int]) -> list[int]:
        """Take the first run of blocks that nobody is fetching."""
        mine: list[int] = []
        for number in missing:
            if number in self._under_way or (mine and number != mine[-1] + 1):
                if mine:
                    break
                continue
            mine.append(number)
        self._under_way.update(mine)
        return mine

    def _bring(self, first: int, count: int, deadline: float | None, enough: Callable[[], bool]) -> None:
        """Fetch a run that is ours, as often as it takes."""
        at, end = first * BLOCK, min((first + count) * BLOCK, self.size)
        pause = _FIRST_PAUSE
        rest = b""  # of a block that came in part
        while at < end:
            try:
                got = self._source.read(at + len(rest), end - at - len(rest))
                if not got:
                    raise ImageServiceDown(f"no byte came from {at + len(rest)} on")
            except (Unavailable, ImageMissing, ImageUnusable) as error:
                self._failed(error)
                if enough() or (deadline is not None and time.monotonic() + pause > deadline):
                    raise
                self._rest(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            self._none_since = None
            self._say("", lost=False)
            pause = _FIRST_PAUSE
            rest += got
            whole = len(rest) if at + len(rest) == end else len(rest) // BLOCK * BLOCK
            if whole:
                _write(self._file, rest[:whole], at)
                self._arrived(at // BLOCK, -(-whole // BLOCK), whole)
                at, rest = at + whole, rest[whole:]

    def _arrived(self, first: int, count: int, length: int) -> None:
        with self._changed:
            self._journal.add(first, count)
            self._under_way.difference_update(range(first, first + count))
            self.fetched += length
            self._uncommitted += length
            due = (
                self._uncommitted >= _COMMIT_BYTES or time.monotonic() - self._committed_at > _COMMIT_SECONDS
            )
            self._changed.notify_all()
        if due:
            self.commit()

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)
            self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise ImageServiceDown("the base is being closed")

    def _failed(self, error: NovaliteError) -> None:
        """Tell what is the matter, and whether that is for good."""
        if not isinstance(error, Unavailable):
            now = time.monotonic()
            self._none_since = now if self._none_since is None else self._none_since
            if now - self._none_since >= self._patience:
                self._say(str(error), lost=True)
                return
        self._say(str(error), lost=self.lost)

    def _say(self, why: str, *, lost: bool) -> None:
        if (bool(why), lost) != (bool(self._trouble), self.lost):
            self._told(why, lost)
        self._trouble, self.lost = why, lost


def open_journal(path: Path, file: int, size: int) -> Journal:
    """Open the journal of an open file of so many bytes."""
    journal = Journal(path, -(-size // BLOCK), f"{os.fstat(file).st_ino}\0{size}")
    journal.open()
    return journal


def make_sparse(path: Path, journal_path: Path, size: int, head: bytes) -> None:
    """Make the file of a base, of which nothing is there but its first bytes.

    A journal of an earlier file goes first: it must never be about this one.
    """
    journal_path.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
        _write(file.fileno(), head, 0)
        os.fdatasync(file.fileno())
        journal = open_journal(journal_path, file.fileno(), size)
        whole = -(-len(head) // BLOCK) if len(head) == size else len(head) // BLOCK
        if whole:
            journal.add(0, whole)
            journal.commit(journal.take_pending())
        journal.close()


def _blocks_of(offset: int, length: int) -> tuple[int, int]:
    first = offset // BLOCK
    return first, -(-(offset + length) // BLOCK) - first


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
