"""Swap disks: raw files with a swap area on them, which are made anew rather than carried.

A file's name tells its size. So what a guest was before a resize and what it
is now have their own, and what neither of them names is of no use any more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from novalite.errors import ConfigError, Unavailable

_SECONDS = 60
#: Where it is on Debian, also for those whose PATH has no sbin.
_SBIN = "/usr/sbin:/sbin"


def make(path: Path, size: int) -> None:
    """Make a swap disk of ``size`` bytes, all or nothing; one that is there stays.

    Raises ConfigError without mkswap, and Unavailable when it fails.
    """
    if path.exists():
        return
    tool = shutil.which("mkswap") or shutil.which("mkswap", path=_SBIN)
    if tool is None:
        raise ConfigError("a swap disk needs mkswap; install util-linux")
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.touch(mode=0o600)
        os.truncate(fresh, size)
        done = subprocess.run([tool, str(fresh)], capture_output=True, timeout=_SECONDS, check=False)
        if done.returncode:
            raise Unavailable(f"mkswap {path}: {done.stderr.decode(errors='replace').strip()[:500]}")
        fresh.replace(path)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Unavailable(f"swap disk {path}: {exc}") from exc
    finally:
        fresh.unlink(missing_ok=True)
