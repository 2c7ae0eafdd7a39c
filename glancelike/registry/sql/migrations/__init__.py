"""Alembic's environment; ``versions`` holds one module a schema revision.

A revision is a four-digit number that begins its module's name; they form
one line, so that the highest is the head.
"""

from __future__ import annotations

from pathlib import Path

VERSION_TABLE = "glancelike_version"


def revisions() -> list[str]:
    """List the revisions this code knows, oldest first."""
    versions = Path(__file__).parent / "versions"
    return sorted(path.name[:4] for path in versions.glob("[0-9][0-9][0-9][0-9]_*.py"))
