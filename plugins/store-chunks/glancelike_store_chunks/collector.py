"""Removes the chunks that nothing lists any more, while writers go on.

The danger: a writer finds a chunk and relies on it, and a collector that saw
no manifest with it deletes it, before the writer's manifest is there. All
that two processes share is the store below: atomic write-if-absent, and
lists that show what was there when they began. What makes it safe:

1.  A writer announces a *session*, then reads which chunks are condemned and
    which generation it is, then looks for chunks. It relies on none that is
    condemned, names those it writes by the generation, publishes its manifest,
    and ends the session last. Copying and joining manifests are writing, too:
    a condemned chunk is stored anew for them, never listed again.
2.  A collector condemns chunks in a *round*, one blob. Only when that is
    there it lists the sessions, and the round waits for all of these. A
    session announced later has the round before its eyes. So once they have
    ended, no manifest with a chunk of the round can come up: those there are
    can only become fewer.
3.  Then, not before, it looks through the manifests. A chunk of the round
    that none lists can never be listed again, and is deleted. What is listed
    after all stays condemned, in a new round that is written before the old
    one goes: at no moment from its first condemnation to its end is a chunk
    in no round. That costs a later writer a second copy, never a chunk.
4.  A chunk's name is never used again after its deletion, so a collector
    that was slow, or asleep, deletes nothing new. Before a round is written there is
    a generation above that of every chunk in it. A writer of an older generation was
    announced before, so the round waits for it; a newer one uses another name.

Any number of collectors may run: each step is safe by itself, whoever did
those before, and a round's waiting list, whoever writes it, is younger than
the round. Killed anywhere, a collector leaves a round, which the next one
ends; a writer leaves chunks in no manifest and its session. No clock decides
which chunk goes. One decides when a session is taken for dead: when it's
older than ``before``, which by the contract of ``sweep`` no upload is that
still goes on. One that does all the same finds its session gone, and fails.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from glancelike.errors import BlobExists, BlobNotFound
from glancelike_store_chunks.chunks import CHUNKS, named, unpacked
from glancelike_store_chunks.lower import Lower
from glancelike_store_chunks.manifest import Manifest
from glancelike_store_chunks.names import BLOBS, LONG, MARKER, UPLOADS
from glancelike_store_chunks.sessions import (
    CONDEMNED,
    GENERATIONS,
    SESSIONS,
    WAITING,
    began,
    condemned,
    generation,
    members,
)

# Bounds what is held in memory, here and by each writer: 100 bytes and more each.
ROUND = 100_000


class Collector:
    """Collects in one store below; holds nothing between two calls."""

    def __init__(self, lower: Lower) -> None:
        self._lower = lower

    def end_sessions(self, before: datetime) -> int:
        """Take sessions that began ``before`` for dead; return how many."""
        ended = 0
        for info in self._lower.list(SESSIONS):
            with suppress(BlobNotFound):
                if began(self._lower, info) < before:
                    self._lower.delete(info.key)
                    ended += 1
        return ended

    def collect(self, before: datetime) -> int:
        """Remove chunks that nothing lists; return how many.

        A chunk younger than ``before`` isn't condemned: it may be of an
        upload that goes on. That saves work; it isn't what makes it safe.
        """
        removed = 0
        self._drop_waiting()
        while True:
            more = self._condemn(before)
            ended = self._end_rounds()
            removed += ended
            if not (more and ended):
                self._drop_generations(before)
                return removed

    def _condemn(self, before: datetime) -> bool:
        """Condemn what nothing lists; tell whether there may be more."""
        known = condemned(self._lower)
        doomed: set[bytes] = set()
        for batch in self._batches(known, before):
            doomed |= self._unlisted(batch)
            if len(doomed) >= ROUND:
                break
        if not doomed:
            return False
        needed = 1 + max(unpacked(each).generation for each in doomed)
        if generation(self._lower) < needed:
            with suppress(BlobExists):
                self._lower.write(f"{GENERATIONS}{needed}", b"")
        self._write_round(doomed)
        return len(doomed) >= ROUND

    def _batches(self, known: set[bytes], before: datetime) -> Iterator[set[bytes]]:
        batch: set[bytes] = set()
        for info in self._lower.list(CHUNKS):
            chunk = named(info.key)
            if chunk is None or (info.modified is not None and info.modified >= before):
                continue
            if (packed := chunk.packed()) not in known:
                batch.add(packed)
            if len(batch) >= ROUND:
                yield batch
                batch = set()
        if batch:
            yield batch

    def _end_rounds(self) -> int:
        """End each round that has nobody to wait for; return how many chunks went."""
        removed = 0
        for info in list(self._lower.list(CONDEMNED)):
            with suppress(BlobNotFound):  # another collector was faster
                removed += self._end_round(info.key)
        return removed

    def _end_round(self, name: str) -> int:
        doomed = members(self._lower, name)
        waiting = name.replace(CONDEMNED, WAITING)
        with suppress(BlobExists):
            # The round is there, so whoever isn't in this list has it before his eyes.
            self._lower.write(waiting, "\n".join(self._sessions()).encode())
        if self._sessions() & set(self._lower.read(waiting).decode().split()):
            return 0
        unlisted = self._unlisted(doomed)
        removed = 0
        for each in unlisted:
            with suppress(BlobNotFound):
                self._lower.delete(unpacked(each).name)
                removed += 1
        if unlisted or not doomed:
            if listed := doomed - unlisted:
                self._write_round(listed)
            self._lower.delete(name)
            self._lower.delete(waiting)
        return removed

    def _write_round(self, doomed: set[bytes]) -> None:
        self._lower.write(f"{CONDEMNED}{uuid.uuid4().hex}", b"".join(sorted(doomed)))

    def _sessions(self) -> set[str]:
        return {info.key for info in self._lower.list(SESSIONS)}

    def _unlisted(self, candidates: set[bytes]) -> set[bytes]:
        """Return those that no manifest lists; raise StoreFault when one can't be read."""
        left = set(candidates)
        for prefix in (UPLOADS, BLOBS, LONG):
            for info in self._lower.list(prefix):
                if not left:
                    return left
                if not info.key.endswith(MARKER):
                    with suppress(BlobNotFound):
                        left.difference_update(Manifest(self._lower, info.key).packed())
        return left

    def _drop_waiting(self) -> None:
        """Remove waiting lists whose round has ended."""
        lists = [info.key for info in self._lower.list(WAITING)]
        # After the lists: a round is there before its list, and is never written twice.
        rounds = {info.key for info in self._lower.list(CONDEMNED)}
        for name in lists:
            if name.replace(WAITING, CONDEMNED) not in rounds:
                with suppress(BlobNotFound):
                    self._lower.delete(name)

    def _drop_generations(self, before: datetime) -> None:
        """Remove generations that have had a successor since ``before``.

        Every session that goes on began after that, and has seen the successor.
        """
        old = {
            int(info.key.removeprefix(GENERATIONS))
            for info in self._lower.list(GENERATIONS)
            if info.modified is not None and info.modified < before
        }
        for number in sorted(old)[:-1]:
            with suppress(BlobNotFound):
                self._lower.delete(f"{GENERATIONS}{number}")
