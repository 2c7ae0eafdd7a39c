"""The image cache: one fetch for all, nothing half, never worse than no cache."""

from __future__ import annotations

import hashlib
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from glancelike import config
from glancelike.cache import ImageCache, blocks
from glancelike.errors import ConfigError, StoreUnavailable
from glancelike.model import CachedImage, Image
from glancelike.streams import Part
from tests.waiting import until

MIB = 1 << 20
DATA = os.urandom(5 * MIB + 17)
ID = "11111111-2222-4333-8444-555555555555"


def image_of(data: bytes = DATA, image_id: str = ID) -> Image:
    return Image(image_id, size=len(data), hash_algo="sha256", hash_value=hashlib.sha256(data).hexdigest())


class Remote:
    """Image data far away: counts its reads, and waits where it's told to."""

    def __init__(self, data: bytes = DATA, *, block: int = MIB) -> None:
        self.data = data
        self.reads: list[int] = []
        self.fail_at: int | None = None
        self.hold_at: int | None = None
        self.held = threading.Event()
        self.go_on = threading.Event()
        self._block = block

    def __call__(self, offset: int, length: int) -> Iterator[bytes]:
        self.reads.append(offset)
        return self._blocks(offset, min(offset + length, len(self.data)))

    def _blocks(self, at: int, end: int) -> Iterator[bytes]:
        while at < end:
            if self.fail_at is not None and at >= self.fail_at:
                self.fail_at = None
                raise StoreUnavailable("the store went away")
            if self.hold_at is not None and at >= self.hold_at:
                self.held.set()
                assert self.go_on.wait(30)
            yield self.data[at : min(at + self._block, end)]
            at += self._block


@pytest.fixture
def remote() -> Remote:
    return Remote()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ImageCache]:
    made = ImageCache(tmp_path / "cache", node="here")
    made.open()
    yield made
    made.close()


def cached(cache: ImageCache) -> list[str]:
    return [each.image_id for each in cache.entries()]


def incomplete(cache: ImageCache) -> list[Path]:
    return list((cache._directory.path / "incomplete").iterdir())


def whole(cache: ImageCache, remote: Remote, image: Image | None = None) -> bytes:
    image = image or image_of(remote.data)
    return b"".join(cache.read(image, 0, len(remote.data), remote))


def test_a_miss_fills_and_a_hit_asks_no_store(cache: ImageCache, remote: Remote) -> None:
    added: list[CachedImage] = []
    cache.added = added.append
    assert whole(cache, remote) == DATA
    until(lambda: added)
    assert [(each.node, each.image_id, each.size) for each in added] == [("here", ID, len(DATA))]
    assert whole(cache, remote) == DATA
    file = cache.open_local(image_of())
    assert file is not None
    with file:
        assert file.read() == DATA
    assert remote.reads == [0]
    (entry,) = cache.entries()
    assert (entry.image_id, entry.size, entry.hits) == (ID, len(DATA), 2)
    assert entry.last_accessed >= entry.last_modified
    assert incomplete(cache) == []


def test_many_first_readers_are_one_read_of_the_store(cache: ImageCache, remote: Remote) -> None:
    remote.hold_at = 2 * MIB
    with ThreadPoolExecutor(20) as pool:
        readers = [pool.submit(whole, cache, remote) for _ in range(20)]
        time.sleep(0.3)
        remote.go_on.set()
        assert all(reader.result(30) == DATA for reader in readers)
    assert remote.reads == [0]
    until(lambda: cached(cache) == [ID])


def test_a_reader_that_goes_away_stops_nobody(cache: ImageCache, remote: Remote) -> None:
    remote.hold_at = 2 * MIB
    first = cache.read(image_of(), 0, len(DATA), remote)
    second = cache.read(image_of(), 0, len(DATA), remote)
    assert next(first) == DATA[:MIB]
    first.close()  # type: ignore[attr-defined]
    remote.go_on.set()
    assert b"".join(second) == DATA
    until(lambda: cached(cache) == [ID])
    assert remote.reads == [0]


def test_what_isnt_the_records_data_becomes_no_entry(cache: ImageCache, remote: Remote) -> None:
    other = replace(image_of(), hash_value=hashlib.sha256(b"other").hexdigest())
    assert whole(cache, remote, other) == DATA
    until(lambda: not cache._threads)
    assert cached(cache) == []
    assert incomplete(cache) == []


@pytest.mark.parametrize(
    "image",
    [
        replace(image_of(), hash_value=None),
        replace(image_of(), hash_algo=None),
        replace(image_of(), hash_algo="rot13"),
        replace(image_of(), id="../escape"),
    ],
)
def test_what_cant_be_verified_or_named_isnt_cached(cache: ImageCache, remote: Remote, image: Image) -> None:
    assert cache.check_cacheable(image) is not None
    assert whole(cache, remote, image) == whole(cache, remote, image) == DATA
    assert remote.reads == [0, 0]
    assert not cache.fetch(image, remote)
    assert not cache._threads


def test_a_store_that_fails_in_the_middle(cache: ImageCache, remote: Remote) -> None:
    remote.fail_at = 3 * MIB
    assert whole(cache, remote) == DATA
    # The reader has gone on by itself, from where it was.
    assert remote.reads[0] == 0
    assert len(remote.reads) == 2
    until(lambda: not cache._threads)
    assert cached(cache) == []
    assert whole(cache, remote) == DATA
    until(lambda: cached(cache) == [ID])


def test_a_store_that_is_away_fails_before_the_first_block(cache: ImageCache) -> None:
    def away(offset: int, length: int) -> Iterator[bytes]:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        cache.read(image_of(), 0, len(DATA), away)


def test_ranges_from_an_entry_and_while_it_grows(cache: ImageCache, remote: Remote) -> None:
    remote.hold_at = 3 * MIB
    image = image_of()
    everything = cache.read(image, 0, len(DATA), remote)
    until(lambda: incomplete(cache)[0].stat().st_size == 3 * MIB)

    def part(offset: int, length: int) -> bytes:
        return b"".join(cache.read(image, offset, length, remote, fill=False))

    assert part(MIB + 5, MIB) == DATA[MIB + 5 : 2 * MIB + 5]
    assert remote.reads == [0]
    assert remote.held.wait(30)
    remote.hold_at = None
    # Not here yet: had from the store, without waiting for what is before it.
    assert part(4 * MIB, 10) == DATA[4 * MIB : 4 * MIB + 10]
    assert remote.reads == [0, 4 * MIB]
    remote.go_on.set()
    assert b"".join(everything) == DATA
    until(lambda: cached(cache) == [ID])
    assert part(4 * MIB + 1, 10) == DATA[4 * MIB + 1 : 4 * MIB + 11]
    assert remote.reads == [0, 4 * MIB]


def test_a_range_alone_fills_nothing(cache: ImageCache, remote: Remote) -> None:
    assert b"".join(cache.read(image_of(), 7, 9, remote, fill=False)) == DATA[7:16]
    assert cached(cache) == []
    assert incomplete(cache) == []


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Make every file that grows beyond ``size`` fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_fails_no_download(cache: ImageCache, remote: Remote) -> None:
    with largest_file(2 * MIB + 5):
        assert whole(cache, remote) == DATA
        until(lambda: not cache._threads)
    assert cached(cache) == []
    assert incomplete(cache) == []


def test_a_directory_that_is_gone_fails_no_download(
    cache: ImageCache, remote: Remote, tmp_path: Path
) -> None:
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    assert whole(cache, remote) == DATA
    assert cache.open_local(image_of()) is None


def test_the_least_recently_used_makes_room(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache", max_size=300)
    cache.open()
    removed: list[str] = []
    cache.removed = removed.extend
    images = {name: Remote(os.urandom(100)) for name in "abcd"}

    def fetch(name: str) -> bool:
        return cache.fetch(image_of(images[name].data, name), images[name])

    assert all(fetch(name) for name in "abc")
    whole(cache, images["a"], image_of(images["a"].data, "a"))
    assert fetch("d")
    assert (removed, cached(cache)) == (["b"], ["c", "a", "d"])
    large = Remote(os.urandom(301))
    assert not cache.fetch(image_of(large.data, "large"), large)
    assert whole(cache, large, image_of(large.data, "large")) == large.data
    assert cached(cache) == ["c", "a", "d"]


def test_what_is_on_its_way_counts(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache", max_size=250)
    cache.open()
    slow, quick = Remote(os.urandom(200), block=50), Remote(os.urandom(100))
    slow.hold_at = 100
    reading = cache.read(image_of(slow.data, "slow"), 0, 200, slow)
    assert not cache.fetch(image_of(quick.data, "quick"), quick)
    slow.go_on.set()
    assert b"".join(reading) == slow.data
    until(lambda: cached(cache) == ["slow"])
    assert cache.fetch(image_of(quick.data, "quick"), quick)
    assert cached(cache) == ["quick"]


def test_prune_follows_a_lower_limit(cache: ImageCache, tmp_path: Path) -> None:
    for name in "abc":
        data = Remote(os.urandom(100))
        assert cache.fetch(image_of(data.data, name), data)
    smaller = ImageCache(tmp_path / "cache", max_size=150)
    smaller.open()
    assert smaller.prune() == (2, 200)
    assert smaller.prune() == (0, 0)
    assert cached(smaller) == ["c"]


def test_new_data_of_an_image_isnt_served_from_the_old(cache: ImageCache, remote: Remote) -> None:
    assert cache.fetch(image_of(), remote)
    newer = Remote(os.urandom(len(DATA)))
    assert cache.open_local(image_of(newer.data)) is None
    assert whole(cache, newer) == newer.data
    until(lambda: not cache._threads)
    assert cached(cache) == [ID]
    assert cache.open_local(image_of()) is None


def test_an_entry_that_lost_data_isnt_served(cache: ImageCache, remote: Remote, tmp_path: Path) -> None:
    assert cache.fetch(image_of(), remote)
    (file,) = (path for path in (tmp_path / "cache").iterdir() if path.name.startswith(ID))
    os.truncate(file, 10)
    assert whole(cache, remote) == DATA
    assert remote.reads == [0, 0]


def test_what_is_dropped_while_it_grows_never_becomes_an_entry(cache: ImageCache, remote: Remote) -> None:
    remote.hold_at = 2 * MIB
    reading = cache.read(image_of(), 0, len(DATA), remote)
    cache.drop([ID])
    remote.go_on.set()
    assert b"".join(reading) == DATA
    until(lambda: not cache._threads)
    assert cached(cache) == []
    assert remote.reads == [0]


def test_a_dropped_fill_never_publishes_that_of_its_successor(cache: ImageCache, remote: Remote) -> None:
    remote.hold_at = 4 * MIB
    first = cache.read(image_of(), 0, len(DATA), remote)
    cache.drop([ID])
    later = Remote()
    later.hold_at = MIB
    second = cache.read(image_of(), 0, len(DATA), later)
    remote.go_on.set()
    assert b"".join(first) == DATA
    until(lambda: len(cache._threads) == 1)
    assert cached(cache) == []
    assert len(incomplete(cache)) == 1
    later.go_on.set()
    assert b"".join(second) == DATA
    until(lambda: cached(cache) == [ID])
    assert (remote.reads, later.reads) == ([0], [0])


def test_clean_gives_up_what_stalls(tmp_path: Path, remote: Remote) -> None:
    cache = ImageCache(tmp_path / "cache", stall_time=0.1)
    cache.open()
    remote.hold_at = 2 * MIB
    reading = cache.read(image_of(), 0, len(DATA), remote)
    until(lambda: incomplete(cache)[0].stat().st_size == 2 * MIB)
    time.sleep(0.2)
    cache.clean()
    assert incomplete(cache) == []
    remote.go_on.set()
    assert b"".join(reading) == DATA
    until(lambda: not cache._threads)
    assert cached(cache) == []


def test_a_reader_of_a_stuck_fill_turns_to_the_store(
    cache: ImageCache, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.hold_at = 2 * MIB
    reading = cache.read(image_of(), 0, len(DATA), remote)
    assert next(reading) == DATA[:MIB]
    assert next(reading) == DATA[MIB : 2 * MIB]
    monkeypatch.setattr(blocks, "PATIENCE", 0.2)
    assert remote.held.wait(30)
    stuck, remote.hold_at = remote.go_on, None
    assert b"".join(reading) == DATA[2 * MIB :]
    assert remote.reads == [0, 2 * MIB]
    stuck.set()


FILLER = """
import sys, time
from pathlib import Path
from tests.unit.test_cache import ImageCache, image_of, MIB

data = sys.stdin.buffer.read()

def remote(offset, length):
    for at in range(offset, 2 * MIB, MIB):
        yield data[at : at + MIB]
    print("half", flush=True)
    time.sleep(60)

cache = ImageCache(Path(sys.argv[1]))
cache.open()
cache.fetch(image_of(data), remote)
"""


def test_readers_go_on_when_the_filler_is_killed(cache: ImageCache, remote: Remote, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", FILLER, str(tmp_path / "cache")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        child.stdin.write(DATA)
        child.stdin.close()
        assert child.stdout.readline() == b"half\n"
        with ThreadPoolExecutor(5) as pool:
            readers = [pool.submit(whole, cache, remote) for _ in range(5)]
            time.sleep(0.3)
            assert remote.reads == []  # all follow the other process
            child.kill()
            child.wait()
            assert all(reader.result(30) == DATA for reader in readers)
    assert remote.reads == [0]  # and one of them took over
    until(lambda: cached(cache) == [ID])
    assert incomplete(cache) == []


def test_stopping_leaves_the_rest_to_another_process(
    cache: ImageCache, remote: Remote, tmp_path: Path
) -> None:
    remote.hold_at = 2 * MIB
    first = ImageCache(tmp_path / "cache")
    first.open()
    abandoned = first.read(image_of(), 0, len(DATA), remote)
    quick = Remote()
    reading = cache.read(image_of(), 0, len(DATA), quick)
    assert quick.reads == []
    first.stop()
    remote.go_on.set()
    first.close()
    assert b"".join(reading) == DATA
    assert quick.reads == [0]
    abandoned.close()  # type: ignore[attr-defined]


def test_the_queue_keeps_its_order_over_a_restart(cache: ImageCache, tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        cache.enqueue(name)
    cache.enqueue("b")
    again = ImageCache(tmp_path / "cache")
    again.open()
    assert again.queued() == ("b", "a", "c")
    with cache.taken_up("b") as mine, again.taken_up("b") as others:
        assert (mine, others) == (True, False)
    again.dequeue(["a"])
    assert cache.queued() == ("b", "c")
    cache.dequeue()
    assert cache.queued() == ()


def test_an_unusable_directory_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="image_cache_dir .*/absent/cache' can't be used"):
        ImageCache(tmp_path / "absent" / "cache").open()


@pytest.mark.parametrize(("offset", "length"), [(0, 10), (3, 4), (9, 1), (4, 6), (0, 0)])
def test_part_of_a_stream(offset: int, length: int) -> None:
    closed = []

    def stream() -> Iterator[bytes]:
        try:
            yield from (b"012", b"3", b"", b"4567", b"89")
        finally:
            closed.append(True)

    assert b"".join(Part(stream(), offset, length)) == b"0123456789"[offset : offset + length]
    assert closed or not length


def test_more_fills_at_once_than_allowed_are_read_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glancelike.cache.MOST_FILLS", 1)
    cache = ImageCache(tmp_path / "cache")
    cache.open()
    slow, other = Remote(), Remote(os.urandom(100))
    slow.hold_at = MIB
    reading = cache.read(image_of(), 0, len(DATA), slow)
    assert whole(cache, other, image_of(other.data, "other")) == other.data
    slow.go_on.set()
    assert b"".join(reading) == DATA
    until(lambda: not cache._threads)
    assert cached(cache) == [ID]
    assert whole(cache, other, image_of(other.data, "other")) == other.data
    until(lambda: sorted(cached(cache)) == sorted([ID, "other"]))


def test_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "glancelike.conf"
    path.write_text("[DEFAULT]\nbind_port = 1234\n")
    assert config.load(["--config-file", str(path)]).cache is None
    path.write_text("[DEFAULT]\nbind_port = 1234\nimage_cache_dir = /srv/cache\nimage_cache_max_size = 5\n")
    found = config.load(["--config-file", str(path)]).cache
    assert found == config.CacheConfig(Path("/srv/cache"), 5, 86400, f"http://{socket.gethostname()}:1234")
