"""A process of the stress test: ``python chunks_child.py <role> <directory> <seed> <log>``.

Roles: a writer writes, copies and joins blobs, a deleter deletes some, a
reader reads, a collector collects. Each logs one line a deed; the parent
kills some of them.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Thread

from chunks_below import dawdle, directory, stacked
from glancelike_store_chunks import ChunkStore
from glancelike_store_chunks.collector import Collector
from glancelike_store_chunks.lower import Lower

from glancelike.errors import BlobExists, BlobNotFound, SizeMismatch
from glancelike.model import utcnow

PIECE = 4096
WRITERS = 4  # threads of a writer
# Few, so that everybody relies on the chunks of everybody; more than are in use at a time.
POOL = [random.Random(f"piece {number}").randbytes(PIECE) for number in range(120)]


def content(key: str) -> bytes:
    """Return what every blob of this key holds."""
    chance = random.Random(key.split("_")[0])
    return b"".join(chance.choice(POOL) for _ in range(chance.randrange(1, 8)))


class Slow(io.BytesIO):
    """Take time at the end, when all chunks are relied upon, and nothing says so but the session."""

    def read(self, size: int | None = -1, /) -> bytes:
        if not (block := super().read(size)):
            time.sleep(random.random() * 0.1)
        return block


def write(store: ChunkStore, key: str, chance: random.Random) -> None:
    data = content(key)
    if chance.random() < 0.7:
        store.write(key, Slow(data), size=len(data))
        return
    upload = store.begin(key)
    for number, at in enumerate(range(0, len(data), PIECE), 1):
        store.put_part(key, upload, number, io.BytesIO(data[at : at + PIECE]), size=PIECE)
    if chance.random() < 0.1:
        store.abort(key, upload)
        raise SizeMismatch("aborted")
    store.complete(key, upload)


def writer(store: ChunkStore, name: str, chance: random.Random, log: Path) -> None:
    with log.open("a", buffering=1) as said:
        for number in range(1_000_000):
            key = f"{chance.randrange(30)}_{name}-{number}"
            try:
                write(store, key, chance)
                said.write(f"written {key}\n")
                if chance.random() < 0.4:
                    store.copy(key, f"{key}-copy")
                    said.write(f"written {key}-copy\n")
            except (BlobNotFound, SizeMismatch):
                pass  # deleted before it was copied; aborted


def deleter(store: ChunkStore, name: str, chance: random.Random, log: Path) -> None:
    with log.open("a", buffering=1) as said:
        while True:
            for info in list(store.list()):
                if chance.random() < 0.9:
                    said.write(f"deleting {info.key}\n")
                    with contextlib.suppress(BlobNotFound):
                        store.delete(info.key)


def reader(store: ChunkStore, name: str, chance: random.Random, log: Path) -> None:
    with log.open("a", buffering=1) as said:
        while True:
            for info in list(store.list()):
                try:
                    if b"".join(store.read(info.key)) != content(info.key):
                        said.write(f"wrong {info.key}\n")
                except BlobNotFound:
                    continue
                said.write(f"read {info.key}\n")


def collector(store: ChunkStore, name: str, chance: random.Random, log: Path) -> None:
    # Sessions are ended by the parent alone, who knows which are dead.
    collecting = Collector(Lower(store.below))
    with log.open("a", buffering=1) as said:
        while True:
            said.write(f"collected {collecting.collect(utcnow() + timedelta(minutes=1))}\n")
            time.sleep(0.01)


def end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    role, path, name, log = sys.argv[1:]
    Thread(target=end_with_parent, daemon=True).start()
    chance = random.Random(name)
    below = directory(Path(path))
    below.hook = dawdle
    store = stacked(below, "fixed", chunk_store_threads=2)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    if role != "writer":
        {"deleter": deleter, "reader": reader, "collector": collector}[role](store, name, chance, Path(log))
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [
            pool.submit(
                writer, store, f"{name}-{number}", random.Random(f"{name} {number}"), Path(f"{log}{number}")
            )
            for number in range(WRITERS)
        ]
        for each in writers:
            each.result()


if __name__ == "__main__":
    try:
        main()
    except BlobExists as error:
        sys.exit(f"no key is written twice: {error}")
