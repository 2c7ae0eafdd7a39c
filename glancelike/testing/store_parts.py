"""Conformance: resumable and parallel uploads."""

from __future__ import annotations

from functools import partial

import pytest

from glancelike.errors import BlobExists, BlobNotFound, InvalidRange, SizeMismatch
from glancelike.stores.base import Cap, PartInfo
from glancelike.stores.guard import Guard
from glancelike.testing.sources import WatchedSource, payload
from glancelike.testing.store_kit import MIB, AnyStore, Blame, StoreKit, Task, clause, refusal
from glancelike.testing.store_looking import NO_UPLOAD
from glancelike.testing.store_writing import SOURCE_ERRORS, ClientGone

# Object stores want 5 MiB at least of every part but the last.
PART = 5 * MIB
SIZES = {1: PART, 2: PART + 1, 3: 17}


def part(number: int, seed: int = 0) -> bytes:
    return payload(SIZES[number], seed=100 * seed + number)


class Parts(StoreKit):
    """Tests of PARTS; the clauses 1, 2, 3 and 7 hold for uploads, too."""

    def test_parts_in_any_order(self, store: AnyStore) -> None:
        self.needs(Cap.PARTS)
        key = self.key("sub/parts")
        upload = self.begun(store, key)
        assert store.parts(key, upload) == (), clause(Cap.PARTS, "a new upload has parts")
        for number in (3, 1, 2):
            self._send(store, key, upload, number)
            self.check_absent(store, key, 1, f"after part {number} of an upload")
        self._check_parts(store, key, upload, [1, 2, 3])
        info = store.complete(key, upload)
        whole = b"".join(part(number) for number in (1, 2, 3))
        assert (info.key, info.size) == (key, len(whole)), clause(Cap.PARTS, f"complete() returned {info}")
        self.check_content(store, key, whole, Cap.PARTS, "the parts were joined otherwise")
        with refusal(7, BlobNotFound, "parts() of a completed upload"):
            store.parts(key, upload)
        with refusal(7, BlobNotFound, "put_part() to a completed upload"):
            store.put_part(key, upload, 3, WatchedSource(b"late"), size=4)
        store.abort(key, upload)
        self.check_content(store, key, whole, 1, "a part or abort() after complete() changed the blob")

    def test_parts_in_parallel(self, store: AnyStore) -> None:
        self.needs(Cap.PARTS)
        key = self.key()
        upload = self.begun(store, key)
        tasks = [Task(partial(self._send, store, key, upload, number)) for number in SIZES]
        for task in tasks:
            task.result(self.patience)
        store.complete(key, upload)
        whole = b"".join(part(number) for number in SIZES)
        self.check_content(store, key, whole, 8, "parts sent in parallel were joined otherwise")

    def test_part_replaced(self, store: AnyStore) -> None:
        self.needs(Cap.PARTS)
        key = self.key()
        upload = self.begun(store, key)
        self._send(store, key, upload, 1)
        other = payload(PART + 99, seed=9)
        store.put_part(key, upload, 1, WatchedSource(other), size=len(other))
        assert [p.size for p in store.parts(key, upload)] == [len(other)], clause(
            Cap.PARTS, "sending a part again must replace it"
        )
        store.complete(key, upload)
        self.check_content(store, key, other, Cap.PARTS, "the replaced part came back")

    def test_part_replaced_between_others(self, store: AnyStore) -> None:
        self.needs(Cap.PARTS)
        key = self.key()
        upload = self.begun(store, key)
        for number in SIZES:
            self._send(store, key, upload, number)
        other = payload(PART + 99, seed=9)
        store.put_part(key, upload, 2, WatchedSource(other), size=len(other))
        store.complete(key, upload)
        whole = part(1) + other + part(3)
        self.check_content(
            store, key, whole, Cap.PARTS, "a part that has another size now was joined otherwise"
        )

    def test_part_missing(self, store: AnyStore) -> None:
        self.needs(Cap.PARTS)
        key = self.key()
        upload = self.begun(store, key)
        for sent in (None, 2, 3):
            if sent is not None:
                self._send(store, key, upload, sent)
            with refusal(Cap.PARTS, SizeMismatch, "complete() without part 1"):
                store.complete(key, upload)
            self.check_absent(store, key, 1, "after complete() without part 1")
        self._send(store, key, upload, 1)
        assert store.complete(key, upload).size == sum(SIZES.values()), clause(
            Cap.PARTS, "it can't be mended"
        )

    def test_part_source_raises(self, store: AnyStore) -> None:
        self.needs(Cap.PARTS)
        key = self.key()
        upload = self.begun(store, key)
        self._send(store, key, upload, 1)
        for number in (1, 2):
            error = ClientGone(f"in part {number}")
            source = WatchedSource(part(number), fail_at=MIB, error=error)
            with pytest.raises(ClientGone) as caught:
                store.put_part(key, upload, number, source, size=SIZES[number])
            assert caught.value is error, clause(
                2, f"the source raised {error!r}, the store {caught.value!r}"
            )
        for other in SOURCE_ERRORS:
            source = WatchedSource(b"x" * 99, fail_at=50, error=other)
            self._raises(partial(store.put_part, key, upload, 2, source, size=99), other)
        self._check_parts(store, key, upload, [1], of=2)
        store.complete(key, upload)
        self.check_content(store, key, part(1), 2, "a part that failed replaced the one before")

    def test_part_of_another_size(self, guard: Guard) -> None:
        self.needs(Cap.PARTS)
        key = self.key()
        upload = self.begun(guard, key)
        for size in (SIZES[1] - 1, SIZES[1] + 1):
            with refusal(2, SizeMismatch, f"put_part(size={size}) of {SIZES[1]} bytes"):
                guard.put_part(key, upload, 1, WatchedSource(part(1)), size=size)
        assert guard.parts(key, upload) == (), clause(2, "a part of another size than declared was kept")
        for number in (-1, 0, 10_001):
            with refusal(Cap.PARTS, InvalidRange, f"part {number}"):
                guard.put_part(key, upload, number, WatchedSource(b"x"), size=1)

    def test_aborted(self, store: AnyStore) -> None:
        self.needs(Cap.PARTS)
        key = self.key()
        upload = self.begun(store, key)
        self._send(store, key, upload, 1)
        store.abort(key, upload)
        store.abort(key, upload)
        self._check_unknown(store, key, upload)
        self.check_absent(store, key, 1, "after abort()")
        again = self.begun(store, key)
        assert again != upload, clause(Cap.PARTS, "an upload id was used twice")
        assert store.parts(key, again) == (), clause(Cap.PARTS, "a new upload has an aborted one's parts")

    def test_unknown_upload(self, store: AnyStore) -> None:
        self.needs(Cap.PARTS)
        upload = self.begun(store, self.key("one"))
        for key, unknown in (
            (self.key("two"), upload),
            (self.key(), NO_UPLOAD),
            (self.key(), "../../etc"),
            (self.key(), ""),
        ):
            self._check_unknown(store, key, unknown)
            store.abort(key, unknown)

    def test_uploads_keep_existing(self, store: AnyStore) -> None:
        self.needs(Cap.PARTS)
        key = self.key()
        uploads = [self.begun(store, key) for _ in range(3)]
        for seed, upload in enumerate(uploads):
            data = part(1, seed=seed)
            store.put_part(key, upload, 1, WatchedSource(data), size=len(data))
        store.complete(key, uploads[1])
        with refusal(3, BlobExists, "complete() to an existing key"):
            store.complete(key, uploads[0])
        with refusal(3, BlobExists, "begin() for an existing key"):
            store.begin(key)
        self.check_content(store, key, part(1, seed=1), 3, "complete() replaced the old bytes")
        self._check_parts(store, key, uploads[2], [1])

    def test_race_of_completes(self, store: AnyStore) -> None:
        self.needs(Cap.PARTS)
        key = self.key()
        uploads = [self.begun(store, key) for _ in range(4)]
        for seed, upload in enumerate(uploads):
            store.put_part(key, upload, 1, WatchedSource(payload(1000, seed=seed)), size=1000)

        def complete(upload: str) -> bool:
            try:
                store.complete(key, upload)
            except BlobExists:
                return False
            return True

        tasks = [Task(partial(complete, upload)) for upload in uploads]
        won = [seed for seed, task in enumerate(tasks) if task.result(self.patience)]
        assert len(won) == 1, clause(3, f"{len(won)} racing complete() believe they have won")
        self.check_content(store, key, payload(1000, seed=won[0]), 3, "the winner isn't stored")

    def test_upload_after_reopen(self, store: AnyStore) -> None:
        self.needs(Cap.PARTS)
        if not self.spawnable:
            pytest.skip("the store doesn't survive its process")
        key = self.key()
        upload = self.begun(store, key)
        self._send(store, key, upload, 2)
        self.reopened()
        again = Guard(self.driver, store_id="kit") if isinstance(store, Guard) else self.driver
        self._check_parts(again, key, upload, [2])
        self._send(again, key, upload, 1)
        again.complete(key, upload)
        self.check_content(again, key, part(1) + part(2), Cap.PARTS, "a restart broke the upload")

    def _send(self, store: AnyStore, key: str, upload: str, number: int) -> None:
        source = WatchedSource(part(number), steps=[65_537])
        info = store.put_part(key, upload, number, source, size=SIZES[number])
        assert not source.faults, clause(6, "; ".join(source.faults))
        said = f"put_part() of part {number}, {SIZES[number]} bytes, returned {info!r}"
        assert isinstance(info, PartInfo), clause(Cap.PARTS, said)
        assert (info.number, info.size) == (number, SIZES[number]), clause(Cap.PARTS, said)

    def _check_parts(
        self, store: AnyStore, key: str, upload: str, numbers: list[int], of: Blame = Cap.PARTS
    ) -> None:
        found = [(info.number, info.size) for info in store.parts(key, upload)]
        said = f"parts() gave {found}, complete are {numbers}"
        assert found == [(number, SIZES[number]) for number in numbers], clause(of, said)

    def _check_unknown(self, store: AnyStore, key: str, upload: str) -> None:
        with refusal(7, BlobNotFound, "parts() of an unknown upload"):
            store.parts(key, upload)
        with refusal(7, BlobNotFound, "put_part() to an unknown upload"):
            store.put_part(key, upload, 1, WatchedSource(b"x"), size=1)
        with refusal(7, BlobNotFound, "complete() of an unknown upload"):
            store.complete(key, upload)
