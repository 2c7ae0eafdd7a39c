"""Run qemu-img on data nobody vouches for: formats named, resources bounded."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from novalite.errors import ConfigError, ImageUnusable, Unavailable

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """What one qemu-img may use. Seconds and bytes; 0 leaves a file's size open."""

    cpu_seconds: int = 30
    address_space: int = 2 * GIB
    file_bytes: int = 0
    wall_seconds: int = 120


#: Reading headers is quick; a header that makes it slow is an attack.
QUICK = Limits(cpu_seconds=8, address_space=GIB)


def run(args: Sequence[str], limits: Limits = QUICK) -> str:
    """Run qemu-img under ``limits`` and return what it printed.

    Raises ImageUnusable when it fails or a limit ends it, Unavailable when
    its output can't be stored, and ConfigError when a program is missing.
    """
    argv = ["prlimit", f"--cpu={limits.cpu_seconds}", f"--as={limits.address_space}", "--core=0"]
    if limits.file_bytes:
        argv.append(f"--fsize={limits.file_bytes}")
    argv += ["qemu-img", *args]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=limits.wall_seconds,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin", "LC_ALL": "C"},
        )
    except FileNotFoundError as exc:
        raise ConfigError("qemu-img needs prlimit (util-linux), which isn't installed") from exc
    except subprocess.TimeoutExpired as exc:
        raise ImageUnusable(f"qemu-img {args[0]} took over {limits.wall_seconds} s") from exc
    told = done.stderr.decode(errors="replace").strip()
    if done.returncode == 0:
        return done.stdout.decode()
    if "No space left on device" in told:
        raise Unavailable(f"qemu-img {args[0]}: {told}")
    if done.returncode in (126, 127):  # prlimit's, when it can't execute
        raise ConfigError(f"qemu-img can't be run: {told}")
    ended = f"was ended by signal {-done.returncode} at a resource limit" if done.returncode < 0 else told
    raise ImageUnusable(f"qemu-img {args[0]}: {ended[:500]}")


def info(path: Path, fmt: str) -> dict[str, Any]:
    """Return what qemu-img tells of an image whose format is known.

    ``-U``: a guest may be writing to it.
    """
    told: dict[str, Any] = json.loads(run(["info", "-U", "--output=json", "-f", fmt, str(path)]))
    return told


def overlay(path: Path, base: Path, base_format: str, size: int) -> None:
    """Make the qcow2 file ``path`` of ``size`` bytes upon ``base``."""
    run(["create", "-q", "-f", "qcow2", "-F", base_format, "-b", str(base), str(path), str(size)])


def to_qcow2(source: Path, source_format: str, target: Path, virtual_size: int) -> None:
    """Convert to qcow2; what grows past its virtual size is ended."""
    room = virtual_size + virtual_size // 8 + (64 << 20)  # tables and rounding of small disks
    limits = Limits(cpu_seconds=1800, file_bytes=room, wall_seconds=7200)
    run(["convert", "-f", source_format, "-O", "qcow2", str(source), str(target)], limits)
