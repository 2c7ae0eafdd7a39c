"""Swap disks: raw files with a swap area on them, which are made anew rather than carried.

A file's name tells its size. So what a guest was before a resize and what it
is now have their own, and what neither of them names is of no use any more.
"""

from __future__ import annotations

from pathlib import Path

from novalite.virt import formatting


def make(path: Path, size: int) -> None:
    """Make a swap disk of ``size`` bytes, all or nothing; one that is there stays.

    Raises ConfigError without mkswap, and Unavailable when it fails.
    """
    if not path.exists():
        formatting.make("a swap disk", path, size, ("mkswap",), "util-linux")
