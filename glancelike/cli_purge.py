"""What a ``db purge`` is told, and in which portions it goes: the image service's and the compute's."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

BATCH = 1000  # records of each kind in one transaction
EVERYTHING = -1


def add_purge_arguments(parser: argparse.ArgumentParser, records: str) -> None:
    """Add the options, which are glance-manage's; ``records`` says what is counted."""
    parser.add_argument(
        *("--age-in-days", "--age_in_days"),
        type=int,
        default=30,
        metavar="DAYS",
        help="spare what was deleted since (30)",
    )
    parser.add_argument(
        *("--max-rows", "--max_rows"),
        type=int,
        default=EVERYTHING,
        metavar="N",
        help=f"no more {records} than that; {EVERYTHING} drops all ({EVERYTHING})",
    )


def cutoff(arguments: argparse.Namespace, error: type[Exception]) -> datetime:
    """Return the time before which what was deleted goes; raise ``error`` for options that make no sense."""
    days, rows = arguments.age_in_days, arguments.max_rows
    if rows < EVERYTHING:
        raise error(f"--max-rows must be {EVERYTHING} or more, not {rows}")
    if days < 0:
        raise error(f"--age-in-days must not be negative: {days}")
    try:
        return datetime.now(UTC) - timedelta(days=days)
    except OverflowError:
        raise error(f"--age-in-days: no date lies {days} days back") from None


def batches(arguments: argparse.Namespace) -> Iterator[int]:
    """Yield how many records the next transaction may drop, as long as there may be one."""
    left = arguments.max_rows
    while left:
        limit = BATCH if left == EVERYTHING else min(BATCH, left)
        yield limit
        left -= limit if left != EVERYTHING else 0
