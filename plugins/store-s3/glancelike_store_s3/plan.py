"""How large the parts of an upload are, so that 10,000 of them are enough."""

from __future__ import annotations

from glancelike.errors import StoreFull

MIB = 1 << 20
MAX_PARTS = 10_000
MIN_PART = 5 * MIB
MAX_PART = 5 << 30
# With 5 MiB to begin with, doubling each 900 parts reaches far more than 5 TiB,
# and yet a part never has more than a 400th of what was sent before it.
STEP = 900


def part_size(number: int, chunk: int, size: int | None) -> int:
    """Return the bytes of part ``number``, from 1, of an image of ``size`` bytes.

    ``chunk`` is the least. Of a known size all parts but the last are
    equal; of an unknown one they grow with their number.
    """
    if size is None:
        return int(min(MAX_PART, chunk << ((number - 1) // STEP)))
    return max(chunk, -(-size // MAX_PARTS // MIB) * MIB)


def check_size(size: int) -> None:
    """Raise StoreFull for more than 10,000 of the largest parts can hold."""
    if size > MAX_PARTS * MAX_PART:
        raise StoreFull(f"{size} bytes are more than an object can have")
