"""Copy on read: what is fetched, once, and what a crash at any line leaves."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from novalite.bases import filling, orders
from novalite.bases.copying import AHEAD, BLOCK, LazyFile, make_sparse
from novalite.bases.filling import Filler
from novalite.bases.journal import Journal
from novalite.bases.orders import Files, Order
from novalite.bases.serving import CompleteBase, FillingBase
from novalite.config import LazySettings
from novalite.errors import ImageMissing, ImageServiceDown
from novalite.virt import disks
from novalite.virt.disks import ImageCache, key_of
from tests.waiting import until

SIZE = 20 * BLOCK + 777
DATA = os.urandom(SIZE)
AT_ONCE = LazySettings(True, 1, 60.0, 0.0, 0.0, True)


class Bytes:
    """A source in memory: it may be away, give little at a time, or be held up."""

    def __init__(self, data: bytes = DATA, most: int = SIZE) -> None:
        self.data = data
        self.most = most
        self.asked: list[tuple[int, int]] = []
        self.away = False
        self.trouble: Exception = ImageServiceDown("it is away")
        self.free = threading.Event()
        self.free.set()

    def read(self, offset: int, length: int) -> bytes:
        self.asked.append((offset, length))
        self.free.wait()
        if self.away:
            raise self.trouble
        return self.data[offset : offset + min(length, self.most)]


def lazy_file(
    folder: Path,
    source: Bytes,
    told: Callable[[str, bool], None] = lambda why, lost: None,
    patience: float = 60.0,
) -> LazyFile:
    if not (folder / "lazy").exists():
        make_sparse(folder / "lazy", folder / "journal", SIZE, b"")
    file = LazyFile(folder / "lazy", folder / "journal", SIZE, source, told, patience)
    file.open()
    return file


# -- reading ------------------------------------------------------------------------


def test_a_read_fetches_what_it_needs_and_no_more_than_a_window(tmp_path: Path) -> None:
    source = Bytes()
    file = lazy_file(tmp_path, source)
    assert file.read(5 * BLOCK + 3, 10, 1.0) == DATA[5 * BLOCK + 3 : 5 * BLOCK + 13]
    assert source.asked == [(AHEAD, AHEAD)]
    assert file.read(5 * BLOCK, BLOCK, 1.0) == DATA[5 * BLOCK : 6 * BLOCK]
    assert len(source.asked) == 1
    assert file.read(SIZE - 5, 5, 1.0) == DATA[-5:]
    file.close()


def test_reads_that_follow_one_another_fetch_more_at_once(tmp_path: Path) -> None:
    source = Bytes()
    file = lazy_file(tmp_path, source)
    for at in range(0, 16 * BLOCK, BLOCK):
        assert file.read(at, BLOCK, 1.0) == DATA[at : at + BLOCK]
    lengths = [length for _, length in source.asked]
    assert lengths[0] == AHEAD
    assert lengths == sorted(lengths)
    assert len(lengths) < 4
    file.close()


def test_short_answers_are_gone_on_with(tmp_path: Path) -> None:
    file = lazy_file(tmp_path, Bytes(most=1000))
    assert file.read(0, SIZE, 5.0) == DATA
    assert file.missing == 0
    file.close()


def test_each_block_is_fetched_once_whoever_asks(tmp_path: Path) -> None:
    source = Bytes()
    source.free.clear()
    file = lazy_file(tmp_path, source)
    with ThreadPoolExecutor(9) as pool:
        reads = [pool.submit(file.read, 0, SIZE, 60.0) for _ in range(8)]
        filling = pool.submit(file.fill, 0, file.blocks)
        until(lambda: file.waiting == 8)
        source.free.set()
        assert {read.result() for read in reads} == {DATA}
        filling.result()
    assert sum(length for _, length in source.asked) == SIZE
    file.close()


def test_a_read_waits_so_long_for_a_source_that_is_away_and_goes_on(tmp_path: Path) -> None:
    source, told = Bytes(), []  # type: ignore[var-annotated]
    source.away = True
    file = lazy_file(tmp_path, source, lambda why, lost: told.append((why, lost)), patience=0.0)
    with pytest.raises(ImageServiceDown, match="it is away"):
        file.read(0, 10, 0.2)
    assert told == [("it is away", False)]
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(file.read, 0, 10, 60.0)
        before = len(source.asked)
        until(lambda: len(source.asked) > before)
        source.away = False
        assert read.result() == DATA[:10]
    assert told == [("it is away", False), ("", False)]
    file.close()


def test_what_the_source_says_it_hasnt_is_lost_when_it_goes_on_saying_so(tmp_path: Path) -> None:
    source, told = Bytes(), []  # type: ignore[var-annotated]
    source.away, source.trouble = True, ImageMissing("none")
    file = lazy_file(tmp_path, source, lambda why, lost: told.append((why, lost)), patience=0.01)
    with pytest.raises(ImageMissing):
        file.fill(0, 1, lambda: len(source.asked) == 1)
    assert (told, file.lost) == ([("none", False)], False)
    with pytest.raises(ImageMissing):
        file.fill(0, 1, lambda: file.lost)
    assert told == [("none", False), ("none", True)]
    source.away = False  # it was restored
    assert file.read(0, 10, 1.0) == DATA[:10]
    assert (told[2:], file.lost) == ([("", False)], False)
    file.close()


def test_closing_ends_all_waiting(tmp_path: Path) -> None:
    source = Bytes()
    source.away = True
    file = lazy_file(tmp_path, source)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(file.read, 0, 10, 3600.0)
        until(lambda: file.waiting)
        file.close()
        with pytest.raises(ImageServiceDown):
            read.result()


# -- the journal ----------------------------------------------------------------------


def journal(path: Path, about: str = "a", blocks: int = 100) -> Journal:
    made = Journal(path, blocks, about)
    made.open()
    return made


def test_a_journal_tells_what_was_committed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = journal(path)
    first.add(3, 4)
    first.add(7, 2)
    first.commit(first.take_pending())
    first.add(50, 1)
    assert first.has(50)
    first.close()
    second = journal(path)
    assert [n for n in range(100) if second.has(n)] == list(range(3, 9))
    assert second.missing == 94
    assert second.next_missing(3) == 9
    second.close()
    other = journal(path, about="b")
    assert other.missing == 100
    other.close()


def test_a_journal_that_was_cut_or_spoilt_anywhere_makes_nothing_up(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    made = journal(path)
    for first in (0, 10, 20):
        made.add(first, 2)
        made.commit(made.take_pending())
    made.close()
    whole = path.read_bytes()
    true = {0, 1, 10, 11, 20, 21}
    for at in range(len(whole)):
        for told in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(told)
            found = journal(path)
            assert {n for n in range(100) if found.has(n)} <= true
            found.add(90, 1)
            found.commit(found.take_pending())
            found.close()
            again = journal(path)
            assert again.has(90)
            again.close()


def test_what_isnt_committed_is_fetched_again(tmp_path: Path) -> None:
    file = lazy_file(tmp_path, Bytes())
    file.read(0, BLOCK, 1.0)
    # No close: as if the process had been killed.
    source = Bytes()
    again = lazy_file(tmp_path, source)
    assert again.read(0, BLOCK, 1.0) == DATA[:BLOCK]
    assert source.asked
    again.close()
    file.close()


# -- kill -9 ------------------------------------------------------------------------

ALGORITHM = ("sha256", sha256(DATA).hexdigest())
KEY = key_of("image", "raw", ALGORITHM)
ORDER = Order(KEY, "token", "image", SIZE, "raw", "raw", SIZE, *ALGORITHM)


def complete(folder: Path) -> None:
    """Do what worker and process do, from where it stands."""
    cache, files = ImageCache(folder), Files(folder, KEY)
    with cache.locked(KEY):
        if cache.lookup(KEY) is not None:
            filling.forget_lazy(files)
            return
        if orders.read(files.order) is None or not files.lazy.exists():
            make_sparse(files.lazy, files.journal, SIZE, DATA[: 2 * BLOCK])
            orders.write(files, ORDER)
    base = FillingBase(files, ORDER, Bytes(most=3 * BLOCK), 1.0)
    base.open()
    base.read(0, 10)
    Filler(base, cache, AT_ONCE)._complete()
    base.close()


def killed_at(line: int, folder: Path) -> bool:
    """Run ``complete`` in a child that is killed at its n-th line; tell whether it got so far."""
    pid = os.fork()
    if not pid:
        left = line

        def trace(frame: FrameType, event: str, _arg: Any) -> Any:
            nonlocal left
            if not re.search(r"/novalite/(bases/|virt/disks)", frame.f_code.co_filename):
                return None
            if event == "line":
                left -= 1
                if left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        try:
            sys.settrace(trace)
            complete(folder)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def test_kill_at_any_line_leaves_nothing_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "inspect", lambda path, disk_format: ("raw", path.stat().st_size))
    folder = tmp_path / "cache"
    folder.mkdir()
    cache, files = ImageCache(folder), Files(folder, KEY)
    line = kills = 1
    while line < 1500:
        # The state that a kill has left is what the next one, some lines on, begins with.
        kills += killed_at(line, folder)
        with cache.locked(KEY):
            base = cache.lookup(KEY)
        if base is not None:
            assert base.path.read_bytes() == DATA
            for path in folder.iterdir():
                path.unlink()
        elif files.lazy.exists() and files.journal.exists():
            source = Bytes()
            file = LazyFile(files.lazy, files.journal, SIZE, source)
            file.open()
            there = [n for n in range(file.blocks) if file.has(n * BLOCK, 1)]
            data = files.lazy.read_bytes()
            assert all(data[n * BLOCK : (n + 1) * BLOCK] == DATA[n * BLOCK : (n + 1) * BLOCK] for n in there)
            file.close()
        line += 11
    complete(folder)
    base = cache.lookup(KEY)
    assert base is not None
    assert base.path.read_bytes() == DATA
    assert kills > 50
    assert not files.lazy.exists()
    assert not files.journal.exists()


def test_an_export_ends_with_a_whole_sector(tmp_path: Path) -> None:
    files = Files(tmp_path, KEY)
    make_sparse(files.lazy, files.journal, SIZE, b"")
    base = FillingBase(files, ORDER, Bytes(), 1.0)
    base.open()
    assert base.size == -(-SIZE // 512) * 512
    assert base.read(base.size - 1024, 1024) == DATA[base.size - 1024 :].ljust(1024, b"\0")
    assert base.has(base.size - 1, 1)
    base.close()
    whole = CompleteBase(files, ORDER, files.lazy)
    assert whole.read(whole.size - 1, 1) == b"\0"
    whole.close()


# -- verification -----------------------------------------------------------------------


def test_a_wrong_byte_discards_the_base_and_ends_its_reads(tmp_path: Path) -> None:
    cache, files = ImageCache(tmp_path), Files(tmp_path, KEY)
    make_sparse(files.lazy, files.journal, SIZE, b"")
    orders.write(files, ORDER)
    base = FillingBase(files, ORDER, Bytes(DATA[:-1] + bytes([DATA[-1] ^ 1])), 1.0)
    base.open()
    assert base.read(0, 10) == DATA[:10]
    Filler(base, cache, AT_ONCE)._complete()
    with pytest.raises(OSError, match="digest isn't"):
        base.read(0, 10)
    assert cache.lookup(KEY) is None
    bad = orders.read_json(files.bad("token"))
    assert bad is not None
    assert bad["inode"] == base.inode
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bad-token", ".lock", ".trace"]
    base.close()


def test_a_base_that_is_lost_goes_with_its_last_guest(tmp_path: Path) -> None:
    cache, files = ImageCache(tmp_path), Files(tmp_path, KEY)
    make_sparse(files.lazy, files.journal, SIZE, b"")
    orders.write(files, ORDER)
    (tmp_path / "guest").hardlink_to(files.lazy)
    source = Bytes()
    source.away, source.trouble = True, ImageMissing("none")
    base = FillingBase(files, ORDER, source, 60.0, 0.0)
    base.open()
    filler = Filler(base, cache, AT_ONCE)
    base.recorder.add(0, 10)
    filler.start()
    until(lambda: base.file.lost)
    assert orders.read_json(files.trouble) == {"image": "image", "why": "none", "lost": True}
    with pytest.raises(OSError, match="none"):
        base.read(0, 10)
    assert files.order.exists()
    (tmp_path / "guest").unlink()
    filler.thread.join(60)
    assert not filler.thread.is_alive()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".trace"]
    base.close()


def test_a_base_whose_order_was_removed_is_given_up(tmp_path: Path) -> None:
    cache, files = ImageCache(tmp_path), Files(tmp_path, KEY)
    make_sparse(files.lazy, files.journal, SIZE, b"")
    orders.write(files, ORDER)
    base = FillingBase(files, ORDER, Bytes(), 1.0)
    base.open()
    base.read(0, 10)
    filling.forget(files)
    filler = Filler(base, cache, AT_ONCE)
    filler.start()
    filler.thread.join(60)
    assert not filler.thread.is_alive()
    assert cache.lookup(KEY) is None
    base.close()
