"""Conformance: kill -9 at each point of what changes a store."""

from __future__ import annotations

import subprocess
import time

import pytest

from glancelike.errors import BlobExists, BlobNotFound
from glancelike.stores.base import Cap, Store
from glancelike.testing.sources import EndlessSource, WatchedSource, payload
from glancelike.testing.store_crashing import Crashing
from glancelike.testing.store_kit import MIB, clause
from glancelike.testing.store_parts import PART

SIZE = 6 * MIB + 5
# Seconds after its last step was begun at which a process is killed: some land before, some in the midst.
DELAYS = (0.0, 0.2)


class Killing(Crashing):
    """Tests of clause 1 for stores that survive their process; ``Crashing`` kills in the middle."""

    @pytest.mark.parametrize("point", ["start", "end"])
    def test_killed_write_at(self, bare: Store, point: str) -> None:
        self._needs_process(Cap.WRITE)
        key = self.key(f"killed-{point}")
        with self._child(self._job(f"write-{point}", bare, key, SIZE)) as child:
            self._kill(child)
        self.check_absent(bare, key, 1, f"after kill -9 of its writer at the {point} of the source")
        self._check_retry(self.reopened(), key)

    @pytest.mark.parametrize("delay", DELAYS)
    def test_killed_publishing(self, bare: Store, delay: float) -> None:
        self._needs_process(Cap.WRITE)
        key = self.key("killed-late")
        with self._child(self._job("write-on", bare, key, SIZE)) as child:
            self._kill(child, delay)
        whole = _drained(EndlessSource(SIZE))
        again = self.reopened()
        if not self._complete_or_absent(again, key, whole, "its writer had read the whole source"):
            self._check_retry(again, key)

    @pytest.mark.parametrize("delay", DELAYS)
    def test_killed_copy(self, bare: Store, delay: float) -> None:
        self._needs_process(Cap.WRITE, Cap.COPY)
        data = payload(SIZE)
        source, target = self.seeded(data, "from"), self.key("to")
        with self._child(self._job("copy", bare, target, SIZE, source)) as child:
            self._kill(child, delay)
        again = self.reopened()
        self.check_content(again, source, data, 1, "kill -9 in copy() spoiled the original")
        if not self._complete_or_absent(again, target, data, "copy() had begun"):
            again.copy(source, target)
            self.check_content(again, target, data, 1, "kill -9 in copy() spoiled the key")

    @pytest.mark.parametrize("delay", DELAYS)
    def test_killed_complete(self, bare: Store, delay: float) -> None:
        self._needs_process(Cap.PARTS)
        key = self.key("joined")
        upload = self.begun(bare, key)
        parts = [payload(PART), payload(17)]
        for number, part in enumerate(parts, 1):
            bare.put_part(key, upload, number, WatchedSource(part), size=len(part))
        with self._child(self._job("complete", bare, key, 0, upload)) as child:
            self._kill(child, delay)
        again = self.reopened()
        whole = b"".join(parts)
        if not self._complete_or_absent(again, key, whole, "complete() had begun"):
            try:
                again.complete(key, upload)
            except (BlobExists, BlobNotFound) as error:
                # A backend may go on after the one who asked has died.
                self.check_content(again, key, whole, 1, f"after kill -9 in complete() it raised {error!r}")
        self.check_content(again, key, whole, 1, "kill -9 in complete() spoiled the upload")

    def _complete_or_absent(self, store: Store, key: str, whole: bytes, when: str) -> bool:
        """Fail when there is a part of a blob; tell whether there is all of it."""
        try:
            store.stat(key)
        except BlobNotFound:
            self.check_absent(store, key, 1, f"after kill -9 when {when}")
            return False
        self.check_content(store, key, whole, 1, f"after kill -9 when {when}")
        return True

    def _check_retry(self, store: Store, key: str) -> None:
        store.write(key, WatchedSource(b"second try"), size=10)
        self.check_content(store, key, b"second try", 1, "kill -9 spoiled the key")

    def _kill(self, child: subprocess.Popen[bytes], delay: float = 0.0) -> None:
        """Kill a child some time after it has said that it is there."""
        assert child.stdout is not None
        said = child.stdout.readline()
        time.sleep(delay)
        child.kill()
        _, complaint = child.communicate()
        assert said == b"there\n", clause(6, f"the child process never got there: {complaint.decode()}")


def _drained(source: EndlessSource) -> bytes:
    return b"".join(iter(lambda: source.read(MIB), b""))
