"""Config drives: an iso labelled config-2 that tells a guest who it is.

What is on one ``novalite.guestdata`` says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from novalite.errors import ConfigError, InvalidInput, Unavailable

LABEL = "config-2"
_TOOLS = ("genisoimage", "xorrisofs", "mkisofs")
_BUILD_SECONDS = 60


def build(files: Mapping[str, bytes], target: Path) -> None:
    """Write an iso 9660 file system of ``files`` to ``target``, all or nothing.

    The file is readable by its owner only: user data holds secrets. Raises
    InvalidInput for a path that leaves the drive, ConfigError when no tool
    that makes iso files is installed, and Unavailable when writing fails.
    """
    tool = next(filter(None, map(shutil.which, _TOOLS)), None)
    if tool is None:
        raise ConfigError(f"a config drive needs one of {', '.join(_TOOLS)}; install genisoimage")
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        # beside the target: mode 0700, on the same file system, swept with the instance
        with tempfile.TemporaryDirectory(prefix=".config-", dir=target.parent) as folder:
            for name, content in files.items():
                path = Path(folder, _inside(name))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            fresh.touch(mode=0o600)
            _run([tool, "-quiet", "-o", str(fresh), "-V", LABEL, "-r", "-J", "-l", folder])
        with fresh.open("rb") as written:
            os.fsync(written.fileno())
        fresh.replace(target)
    except OSError as exc:
        raise Unavailable(f"config drive {target}: {exc}") from exc
    finally:
        fresh.unlink(missing_ok=True)


def _run(argv: list[str]) -> None:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_BUILD_SECONDS
        )
    except subprocess.TimeoutExpired as exc:
        raise Unavailable(f"{argv[0]} took over {_BUILD_SECONDS} s") from exc
    if done.returncode:
        raise Unavailable(f"{argv[0]}: {done.stderr.decode(errors='replace').strip()[:500]}")


def _inside(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise InvalidInput(f"config drive: {name!r} is no path inside the drive")
    return str(PurePosixPath(name))
