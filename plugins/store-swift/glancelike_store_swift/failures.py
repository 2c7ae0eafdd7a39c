"""What Swift's answers mean: one table of statuses."""

from __future__ import annotations

from glancelike.errors import (
    BlobExists,
    BlobNotFound,
    InvalidRange,
    StoreDenied,
    StoreError,
    StoreFault,
    StoreFull,
    StoreUnavailable,
)

_BY_STATUS: dict[int, type[StoreError]] = {
    401: StoreDenied,
    403: StoreDenied,
    404: BlobNotFound,
    412: BlobExists,
    413: StoreFull,
    416: InvalidRange,
    507: StoreFull,
}
# The server was too slow, or asks to be asked more slowly.
_LATER = {408, 429, 498, 499}


class Undecided(StoreUnavailable):
    """Nobody can tell whether the last request was carried out: what it names must stay."""


def passing(status: int) -> bool:
    """Tell whether the same request may well succeed a moment later."""
    return status in _LATER or (status >= 500 and status != 507)


def failure(status: int, what: str) -> StoreError:
    """Return the error that a status means; ``what`` says what was asked, without a secret."""
    kind = StoreUnavailable if passing(status) else _BY_STATUS.get(status, StoreFault)
    if status == 404 and what.startswith(("PUT", "POST")):
        kind = StoreFault  # no container: what is to be written can't be missing
    return kind(f"Swift answered {status} to {what}")
