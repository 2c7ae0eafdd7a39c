"""Files that are formatted as disks, by programs that are kept within limits."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from novalite.errors import ConfigError, Unavailable

_SECONDS = 300
_CPU_SECONDS = 60
_ADDRESS_SPACE = 2 << 30
#: Where such programs are on Debian, also for those whose PATH has no sbin.
_SBIN = "/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Return the path of a program, None where it isn't installed."""
    return shutil.which(program) or shutil.which(program, path=_SBIN)


def make(what: str, path: Path, size: int, command: Sequence[str], package: str) -> None:
    """Make a file of ``size`` bytes and format it, all or nothing; what was there goes.

    ``what`` is what errors call it. ``command`` is the program, which is of ``package``,
    and what it is told before the file's name. Raises ConfigError without it, and
    Unavailable when it fails.
    """
    name, *options = command
    program = find(name)
    if program is None:
        raise ConfigError(f"{what} needs {name}; install {package}")
    limits = [f"--cpu={_CPU_SECONDS}", f"--as={_ADDRESS_SPACE}", "--core=0", f"--fsize={size}"]
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.touch(mode=0o600)
        os.truncate(fresh, size)
        done = subprocess.run(
            ["prlimit", *limits, program, *options, str(fresh)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip()[-500:]
            raise Unavailable(f"{name} {path}: {told or f'exit status {done.returncode}'}")
        fresh.replace(path)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Unavailable(f"{name} {path}: {exc}") from exc
    finally:
        fresh.unlink(missing_ok=True)
