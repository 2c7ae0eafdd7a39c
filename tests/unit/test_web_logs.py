"""Lines of the log: one an event, whatever is in it."""

from __future__ import annotations

import logging
import sys

import pytest

from glancelike.web.logs import FORMAT, Formatter, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Bäume, 日本", "Bäume, 日本"),
        ("a\nb\r\n", "a\\nb\\r\\n"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\u2028b\u202ec", "a\\u2028b\\u202ec"),
        ("\x00\x7f\x85", "\\x00\\x7f\\x85"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_no_line_of_a_traceback_begins_as_a_record_does() -> None:
    try:
        raise ValueError("broken\n2026-01-01 00:00:00,000 1 INFO glancelike all is well")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "it %s", ("failed\nforged",), sys.exc_info())
    first, *rest = Formatter(FORMAT).format(record).splitlines()
    assert first.endswith("ERROR x it failed\\nforged")
    assert any("all is well" in line for line in rest)
    assert all(line.startswith("  ") for line in rest)
