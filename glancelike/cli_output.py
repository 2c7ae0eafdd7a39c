"""What the commands print: tables, errors, and how far a transfer is."""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Self

REDRAWN_SECONDS = 0.1
MIB = 1 << 20


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of text below their columns' names.

    Names of images are other people's: what a terminal would obey is shown
    as an escape (``\\x1b``).
    """
    lines = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(width, cells)) for cells in zip(columns, *lines, strict=True)]
    for line in (columns, ["-" * each for each in widths], *lines):
        padded = (cell + " " * (most - width(cell)) for cell, most in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def shown(text: str) -> str:
    """Return the text with escapes for all that can't be printed."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def width(text: str) -> int:
    """Return how many cells of a terminal a printable text takes."""
    return sum(
        0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )


def complain(said: object) -> None:
    """Print an error, in red on a terminal."""
    text = "\n".join(map(shown, f"glancelike: {said}".split("\n")))
    print(f"\x1b[31m{text}\x1b[0m" if sys.stderr.isatty() else text, file=sys.stderr)


class Progress:
    """Tells on standard error how much has moved: as it moves on a terminal, else at the end."""

    def __init__(self, name: str, total: int | None) -> None:
        self._name = name
        self._total = total
        self._moved = 0
        self._began = time.monotonic()
        self._drawn = 0.0
        self._redrawn = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._draw(time.monotonic())
        print(file=sys.stderr)

    def advance(self, moved: int) -> None:
        """Add bytes."""
        self._moved += moved
        now = time.monotonic()
        if self._redrawn and now - self._drawn >= REDRAWN_SECONDS:
            self._draw(now)

    def _draw(self, now: float) -> None:
        self._drawn = now
        rate = self._moved / max(now - self._began, 0.001)
        words = [f"{self._name}  {self._moved / MIB:.1f}"]
        if self._total:
            words.append(f"of {self._total / MIB:.1f} MiB  {100 * self._moved // self._total}%")
        else:
            words.append("MiB")
        words.append(f" {rate / MIB:.1f} MiB/s")
        if self._total and rate and self._moved < self._total:
            minutes, seconds = divmod(round((self._total - self._moved) / rate), 60)
            words.append(f" {minutes}:{seconds:02} left")
        start, end = ("\r", "\x1b[K") if self._redrawn else ("", "")
        print(start + " ".join(words) + end, end="", file=sys.stderr, flush=True)
