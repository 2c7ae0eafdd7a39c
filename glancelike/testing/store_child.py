"""The child process of the crash and memory tests; the kit kills it.

Reads a pickled job from standard input and answers on standard output.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glancelike.stores.base import Cap, Store
from glancelike.stores.guard import Guard
from glancelike.testing.sources import EndlessSource

MIB = 1 << 20


@dataclass(frozen=True)
class Job:
    """``task`` names the method; the store, and one ``below``, are made anew from their settings.

    ``upload`` is the id of an upload, or the key that is copied.
    """

    task: str
    driver: type[Store]
    settings: dict[str, Any]
    key: str
    size: int
    upload: str = ""
    below: tuple[type[Store], dict[str, Any]] | None = None


def memory(field: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def stall_halfway(size: int) -> EndlessSource:
    """Make a source that tells the parent of the half, then never goes on."""

    def hook(at: int) -> None:
        if at >= size // 2:
            sys.stdout.write("half\n")
            sys.stdout.flush()
            time.sleep(600)

    return EndlessSource(size, hook=hook)


def point_at(at: int, size: int, *, go_on: bool = False) -> EndlessSource:
    """Make a source that tells the parent when it is asked for the byte ``at``, and stops there."""
    told = False

    def hook(position: int) -> None:
        nonlocal told
        if position >= at and not told:
            told = True
            _there()
            if not go_on:
                time.sleep(600)

    return EndlessSource(size, hook=hook)


def _there() -> None:
    sys.stdout.write("there\n")
    sys.stdout.flush()


def _change(store: Store, job: Job) -> None:
    """Do what the parent will kill, having told it when."""
    # A read is of a MiB at most, so the source is asked for the last byte alone.
    last = max(0, job.size - 1) // MIB * MIB
    if job.task == "write-start":
        store.write(job.key, point_at(0, job.size), size=job.size)
    elif job.task == "write-end":
        store.write(job.key, point_at(last, job.size), size=job.size)
    elif job.task == "write-on":
        store.write(job.key, point_at(last, job.size, go_on=True), size=job.size)
    elif job.task == "copy":
        _there()
        store.copy(job.upload, job.key)
    elif job.task == "complete":
        _there()
        store.complete(job.key, job.upload)


def _settled(quiet: float = 0.4, patience: float = 10.0) -> None:
    """Wait until memory has stopped growing: on a busy machine reading ahead is slow, too."""
    end = time.monotonic() + patience
    most, since = memory("VmRSS"), time.monotonic()
    while time.monotonic() < min(since + quiet, end):
        time.sleep(0.02)
        if (now := memory("VmRSS")) > most:
            most, since = now, time.monotonic()


def flat(store: Store, job: Job) -> dict[str, int]:
    """Write and read a large blob and tell how the memory grew."""
    store.write(f"{job.key}-warm", EndlessSource(1 << 20), size=1 << 20)
    store.delete(f"{job.key}-warm")
    before = memory("VmRSS")
    store.write(job.key, EndlessSource(job.size), size=job.size)
    written = memory("VmHWM") - before
    count, digest = 0, 0
    for number, block in enumerate(store.read(job.key)):
        if number == 1:
            _settled()  # a consumer that slow must not make the driver read ahead
        count += len(block)
        digest = zlib.crc32(block, digest)
    read = memory("VmHWM") - before
    if Cap.PARTS in store.capabilities:
        joined = f"{job.key}-joined"
        upload = store.begin(joined)
        store.put_part(joined, upload, 1, EndlessSource(job.size // 2), size=job.size // 2)
        store.complete(joined, upload)
        store.delete(joined)
    parts = memory("VmHWM") - before
    return {
        "written": written,
        "read": read,
        "sent as a part and completed": parts,
        "count": count,
        "crc": digest,
    }


def main() -> None:
    job: Job = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - the parent's own
    store = job.driver(job.settings)
    if job.below is not None:
        driver, settings = job.below
        store.below = Guard(driver(settings), store_id="below")
        store.below.open()
    store.open()
    if job.task == "flat":
        sys.stdout.write(json.dumps(flat(store, job)))
    elif job.task == "write":
        store.write(job.key, stall_halfway(job.size), size=job.size)
    elif job.task != "part":
        _change(store, job)
    else:
        store.put_part(job.key, job.upload, 2, stall_halfway(job.size), size=job.size)
    store.close()


if __name__ == "__main__":
    main()
