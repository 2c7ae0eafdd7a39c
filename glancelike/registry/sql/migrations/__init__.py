"""Alembic's environment; ``versions`` holds one module a schema revision.

A revision is a four-digit number that begins its module's name; they form
one line, so that the highest is the head.

Servers of the version before go on running while the schema is upgraded,
so a revision either only adds, and whatever they do goes on working, or it
contracts: it takes away, or demands, what code that is too old doesn't know
of. Such a one is in CONTRACTING. Where rows have to be brought into a new
form first, its module has two functions more::

    def left(connection) -> bool:           are there rows still to be moved?
    def migrate(connection, limit) -> int:  move up to so many; return how many

Each call is a transaction. A step that was cut short is run again from its
start, and not every database takes back what a failed one has done: use
``glancelike.sql.steps``, or look first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

VERSION_TABLE = "glancelike_version"
# The oldest code that may work with the database, one row.
COMPATIBILITY_TABLE = "glancelike_compatibility"
# Code before this revision doesn't ask whether it may: it takes no schema but its own.
FIRST = "0004"

DIRECTORIES = [Path(__file__).parent / "versions"]
# Contracting revision -> the oldest code, by its head, that works with the schema after it.
CONTRACTING: Mapping[str, str] = {"0006": "0005", "0008": "0007"}


def revisions() -> list[str]:
    """List the revisions this code knows, oldest first."""
    return _revisions_in(*DIRECTORIES)


def described() -> str:
    """Return the revision whose schema ``tables`` describes."""
    return _revisions_in(DIRECTORIES[0])[-1]


def _revisions_in(*directories: Path) -> list[str]:
    found = (path for each in directories for path in each.glob("[0-9][0-9][0-9][0-9]_*.py"))
    return sorted(path.name[:4] for path in found)


def oldest_after(revision: str) -> str:
    """Return the oldest code that works with the schema of a revision this code knows."""
    return max((oldest for each, oldest in CONTRACTING.items() if each <= revision), default=FIRST)


def needed() -> str:
    """Return the revision that this code can't do without: the newest that adds."""
    return max(each for each in revisions() if each not in CONTRACTING)
