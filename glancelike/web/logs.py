"""Logging of the programs: one line an event, whatever callers put into it.

Names, paths and messages of peers turn up in log lines. A line break or an
escape sequence in them must neither forge a line nor drive a terminal.
"""

from __future__ import annotations

import logging
import textwrap
from typing import Any

FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"


class Formatter(logging.Formatter):
    """Escape what can't be printed; indent tracebacks, so that no line begins as ours do."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).splitlines()
        return textwrap.indent("\n".join(map(printable, lines)), "  ")


def printable(text: str) -> str:
    """Return the text with escapes for what isn't printable: one line in any case."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def configure(*, debug: bool = False) -> None:
    """Log to standard error, unless the program's host has set up logging already."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(FORMAT))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])
