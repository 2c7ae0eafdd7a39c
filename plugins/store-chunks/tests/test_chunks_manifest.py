"""Long manifests: the right record, after few reads."""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_right
from itertools import accumulate

from glancelike_store_chunks.chunks import HOLE, ChunkId
from glancelike_store_chunks.lower import Lower
from glancelike_store_chunks.manifest import PAGE, Draft, Manifest
from hypothesis import given, settings
from hypothesis import strategies as st

from glancelike.stores.guard import Guard
from glancelike.stores.memory import MemoryStore

KIB, TIB = 1 << 10, 1 << 40


def made(sizes: list[int], holes: set[int]) -> tuple[Lower, list[ChunkId]]:
    lower = Lower(Guard(MemoryStore(), store_id="below"))
    chunks = [
        HOLE if number in holes else ChunkId(hashlib.sha256(b"%d" % number).digest(), number % 3)
        for number in range(len(sizes))
    ]
    with Draft() as draft:
        for chunk, size in zip(chunks, sizes, strict=True):
            draft.add(chunk, size)
        source, length = draft.finish("some/key")
        lower.write_from("blobs/some/key", source, length)
    return lower, chunks


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 4 * PAGE),
    seed=st.integers(0, 10),
    holes=st.sets(st.integers(0, 4 * PAGE), max_size=5),
    places=st.lists(st.floats(0, 1, exclude_max=True), min_size=3, max_size=6),
)
def test_each_offset_is_found(count: int, seed: int, holes: set[int], places: list[float]) -> None:
    chance = random.Random(seed)
    # Holes next to each other become one record; none here.
    holes = {number for number in holes if number < count and number - 1 not in holes}
    sizes = [
        chance.randrange(1, TIB) if number in holes else chance.randrange(1, 4000 * KIB)
        for number in range(count)
    ]
    lower, chunks = made(sizes, holes)
    manifest = Manifest(lower, "blobs/some/key")
    ends = list(accumulate(sizes))
    assert (manifest.key, manifest.size, manifest.count) == ("some/key", ends[-1], count)
    for offset in [0, ends[-1] - 1, *(int(place * ends[-1]) for place in places)]:
        number = bisect_right(ends, offset)
        piece = next(manifest.pieces(offset, offset + 1))
        assert piece == (ends[number] - sizes[number], ends[number], chunks[number])
    assert [piece.chunk for piece in manifest.pieces(0, manifest.size)] == chunks
    assert set(manifest.packed()) == {chunk.packed() for chunk in chunks if chunk != HOLE}


def test_a_look_into_five_tebibytes_takes_few_reads() -> None:
    chance = random.Random(5)
    count = 400_000  # of 13 MiB on average; as many as take a second to make
    sizes = [chance.randrange(1, 26 << 20) for _ in range(count)]
    sizes[1000] = TIB  # a hole, which guessing is misled by
    lower, chunks = made(sizes, {1000})
    manifest = Manifest(lower, "blobs/some/key")
    reads = 0
    read = manifest._bytes

    def counted(first: int, end: int) -> bytes:
        nonlocal reads
        reads += 1
        return read(first, end)

    manifest._bytes = counted  # type: ignore[method-assign]
    ends = list(accumulate(sizes))
    most = 0
    for _ in range(200):
        offset = chance.randrange(manifest.size)
        reads = 0
        assert next(manifest.pieces(offset, offset + 1)).chunk == chunks[bisect_right(ends, offset)]
        most = max(most, reads)
    assert most <= 18
