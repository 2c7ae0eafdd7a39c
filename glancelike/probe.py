"""Try a store out: does it do what it declares, here and now?"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Callable
from contextlib import ExitStack

from glancelike.errors import GlancelikeError
from glancelike.stores.base import Cap, Store
from glancelike.stores.guard import Guard

# Odd on purpose, and larger than one block.
PROBE_BYTES = 3 * 1024 * 1024 + 7


def check_store(store_id: str, store: Store) -> list[tuple[str, str]]:
    """Write, read, list and delete a probe; return (check, result) rows.

    A result starts with ``ok``, ``failed`` or ``not supported``. The probe
    is removed again, whatever happens. The stores that this one stacks on
    are open while it's tried.
    """
    guard = Guard(store, store_id=store_id)
    rows: list[tuple[str, str]] = []
    key = f"probe-{uuid.uuid4().hex}"
    data = os.urandom(PROBE_BYTES)

    def row(check: str, needs: Cap, work: Callable[[], str | None]) -> bool:
        if needs not in store.capabilities:
            rows.append((check, "not supported"))
            return False
        try:
            rows.append((check, f"ok {work() or ''}".strip()))
        except GlancelikeError as error:
            rows.append((check, f"failed: {error}"))
            return False
        return True

    def same(found: bytes, expected: bytes) -> None:
        if found != expected:
            raise GlancelikeError("other bytes came back than were written")

    pile = _pile(guard)
    opened = ExitStack()

    def open_all() -> None:
        for each in pile:
            each.open()
            opened.callback(each.close)

    if not row("open", Cap.NONE, open_all):
        opened.close()
        return rows
    try:
        written = row(
            "write", Cap.WRITE, lambda: str(guard.write(key, io.BytesIO(data), size=len(data)).size)
        )
        if written:
            row("read", Cap.NONE, lambda: same(b"".join(guard.read(key)), data))
            row("range", Cap.RANGE, lambda: same(b"".join(guard.read(key, offset=5, length=9)), data[5:14]))
            row("list", Cap.LIST, lambda: str(sum(blob.key == key for blob in guard.list(key))))
            row("delete", Cap.DELETE, lambda: guard.delete(key))
        row("usage", Cap.USAGE, lambda: _usage(guard))
    finally:
        opened.close()
    return rows


def _pile(store: Guard) -> list[Guard]:
    """Return a store after all those below it, the lowest first."""
    return [*(_pile(store.driver.below) if store.driver.stacks_on else ()), store]


def _usage(store: Store | Guard) -> str:
    usage = store.usage()
    free = "unknown" if usage.free is None else f"{usage.free:,} bytes"
    logical = "" if usage.logical is None else f" for blobs of {usage.logical:,}"
    return f"{usage.used:,} bytes used{logical}, {free} free"
