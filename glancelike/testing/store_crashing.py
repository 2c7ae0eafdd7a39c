"""Conformance: kill -9, restart, and memory, in real child processes."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from glancelike.stores.base import Cap, Store
from glancelike.testing.sources import EndlessSource, WatchedSource, payload
from glancelike.testing.store_child import Job
from glancelike.testing.store_kit import MIB, StoreKit, clause
from glancelike.testing.store_parts import PART

ALLOWED_GROWTH = 64 * MIB
KILLED_SIZE = 12 * MIB

#: Keeps glibc from holding back freed blocks in an arena for each thread of a client library, by
#: chance up to tens of MiB: what is measured is what the driver holds. Only glibc reads it.
PLAIN_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(MIB)}


class Crashing(StoreKit):
    """Tests of the clauses 1 and 6 for stores that survive their process."""

    def test_blob_survives_reopening(self, bare: Store) -> None:
        self._needs_process()
        key = self.seeded(b"to stay")
        again = self.reopened()
        self.check_content(again, key, b"to stay", 1, "another driver doesn't find the blob")

    def test_killed_write(self, bare: Store) -> None:
        self._needs_process(Cap.WRITE)
        key = self.key("killed")
        with self._child(self._job("write", bare, key, KILLED_SIZE)) as child:
            self._kill_halfway(child)
        self.check_absent(bare, key, 1, "after kill -9 of its writer")
        again = self.reopened()
        self.check_absent(again, key, 1, "after kill -9 of its writer and a restart")
        again.write(key, WatchedSource(b"second try"), size=10)
        self.check_content(again, key, b"second try", 1, "kill -9 spoiled the key")

    def test_killed_part(self, bare: Store) -> None:
        self._needs_process(Cap.PARTS)
        key = self.key("killed-part")
        upload = self.begun(bare, key)
        first = payload(PART)
        bare.put_part(key, upload, 1, WatchedSource(first), size=PART)
        with self._child(self._job("part", bare, key, KILLED_SIZE, upload)) as child:
            self._kill_halfway(child)
        again = self.reopened()
        found = [info.number for info in again.parts(key, upload)]
        assert found == [1], clause(1, f"after kill -9 in part 2 there are the parts {found}")
        again.put_part(key, upload, 2, WatchedSource(b"resumed"), size=7)
        again.complete(key, upload)
        self.check_content(again, key, first + b"resumed", 1, "kill -9 spoiled the upload")

    def test_memory_is_flat(self, bare: Store) -> None:
        self._needs_process(Cap.WRITE, Cap.DELETE)
        key = self.key("large")
        with self._child(self._job("flat", bare, key, self.flat_size)) as child:
            answer, complaint = child.communicate(timeout=10 * self.patience)
            assert child.returncode == 0, clause(6, f"the child process failed: {complaint.decode()}")
        grown = json.loads(answer)
        source, crc = EndlessSource(self.flat_size), 0
        while block := source.read(MIB):
            crc = zlib.crc32(block, crc)
        assert grown["count"] == self.flat_size, clause(
            1, f"{grown['count']} of {self.flat_size} bytes came back"
        )
        assert grown["crc"] == crc, clause(1, "other bytes came back than were written")
        for what in ("written", "read", "sent as a part and completed"):
            said = f"{self.flat_size // MIB} MiB {what} took {grown[what] // MIB} MiB of memory"
            assert grown[what] < ALLOWED_GROWTH, clause(6, said)

    def _needs_process(self, *caps: Cap) -> None:
        self.needs(*caps)
        if not self.spawnable:
            pytest.skip("the store doesn't survive its process")

    def _job(self, task: str, driver: Store, key: str, size: int, upload: str = "") -> Job:
        below = None if self.below is None else (type(self.below), dict(self.below.settings))
        return Job(task, type(driver), dict(driver.settings), key, size, upload, below)

    @contextmanager
    def _child(self, job: Job) -> Iterator[subprocess.Popen[bytes]]:
        """Run a job in a process of its own, which is dead at the end."""
        try:
            pickled = pickle.dumps(job)
        except (pickle.PicklingError, AttributeError) as error:
            pytest.fail(f"a spawnable driver must be importable, its settings plain values: {error}")
        child = subprocess.Popen(
            [sys.executable, "-m", "glancelike.testing.store_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **PLAIN_MALLOC, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            assert child.stdin is not None
            child.stdin.write(pickled)
            child.stdin.close()
            child.stdin = None
            yield child
        finally:
            child.kill()
            child.communicate()

    def _kill_halfway(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        said = child.stdout.readline()
        child.kill()
        _, complaint = child.communicate()
        assert said == b"half\n", clause(6, f"the child process never read half: {complaint.decode()}")
