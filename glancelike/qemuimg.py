"""Run qemu-img on data nobody vouches for: formats named, resources bounded.

Shared with novalite. qemu-img is never left to guess a format (it would
open what the guess refers to), and never runs without limits: a header can
make it take all memory (CVE-2015-5162).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glancelike.errors import ConfigError, StoreFull, UnsafeImage

GIB = 1 << 30
BEAT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one qemu-img may use. Seconds and bytes; 0 leaves a file's size open."""

    cpu_seconds: int = 30
    address_space: int = 2 * GIB
    file_bytes: int = 0
    wall_seconds: int = 120


#: Reading headers is quick; a header that makes it slow is an attack.
QUICK = Limits(cpu_seconds=8, address_space=GIB)


def run(args: Sequence[str], limits: Limits = QUICK, beat: Callable[[], None] = lambda: None) -> str:
    """Run qemu-img under ``limits`` and return what it printed.

    ``args`` begin with the command and hold ``-f`` with the format of what
    is read: without it qemu-img would guess, and believe the data. ``beat``
    is called every few seconds; what it raises ends qemu-img.
    Raises UnsafeImage when it fails or a limit ends it, StoreFull when its
    output can't be stored, and ConfigError when a program is missing.
    """
    if "-f" not in args:
        raise ValueError(f"qemu-img {args[0]} without the format of what it reads")
    argv = ["prlimit", f"--cpu={limits.cpu_seconds}", f"--as={limits.address_space}", "--core=0"]
    if limits.file_bytes:
        argv.append(f"--fsize={limits.file_bytes}")
    argv += ["qemu-img", *args]
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin", "LC_ALL": "C"},
            umask=0o077,  # a disk is nobody else's to read
        )
    except FileNotFoundError as error:
        raise ConfigError("qemu-img needs prlimit (util-linux), which isn't installed") from error
    with child:
        try:
            out, err = _wait(child, limits.wall_seconds, beat)
        except subprocess.TimeoutExpired as error:
            raise UnsafeImage(f"qemu-img {args[0]} took over {limits.wall_seconds} s") from error
        finally:
            child.kill()
    told = err.decode(errors="replace").strip()
    if child.returncode == 0:
        return out.decode()
    if "No space left on device" in told:
        raise StoreFull(f"qemu-img {args[0]}: {told}")
    if child.returncode in (126, 127):  # prlimit's, when it can't execute
        raise ConfigError(f"qemu-img can't be run: {told}")
    ended = f"was ended by signal {-child.returncode} at a resource limit" if child.returncode < 0 else told
    raise UnsafeImage(f"qemu-img {args[0]}: {ended[:500]}")


def _wait(child: subprocess.Popen[bytes], seconds: float, beat: Callable[[], None]) -> tuple[bytes, bytes]:
    waited = 0.0
    while True:
        try:
            return child.communicate(timeout=min(BEAT_SECONDS, seconds))
        except subprocess.TimeoutExpired:
            waited += BEAT_SECONDS
            if waited >= seconds:
                raise
            beat()


def info(path: Path | str, fmt: str) -> dict[str, Any]:
    """Return what qemu-img tells of an image, a file or a URL, whose format is known.

    ``-U``: a guest may be writing to it.
    """
    told: dict[str, Any] = json.loads(run(["info", "-U", "--output=json", "-f", fmt, str(path)]))
    return told
