"""What the virt drivers do with qemu-img, in this package's errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glancelike import errors, qemuimg
from glancelike.qemuimg import QUICK, Limits
from novalite.errors import ConfigError, ImageUnusable, Unavailable


def run(args: Sequence[str], limits: Limits = QUICK) -> str:
    """Run qemu-img under ``limits`` and return what it printed.

    Raises ImageUnusable when it fails or a limit ends it, Unavailable when
    its output can't be stored, and ConfigError when a program is missing.
    """
    try:
        return qemuimg.run(args, limits)
    except errors.UnsafeImage as exc:
        raise ImageUnusable(str(exc)) from exc
    except errors.StoreFull as exc:
        raise Unavailable(str(exc)) from exc
    except errors.ConfigError as exc:
        raise ConfigError(str(exc)) from exc


def info(path: Path | str, fmt: str) -> dict[str, Any]:
    """Return what qemu-img tells of an image whose format is known."""
    try:
        return qemuimg.info(path, fmt)
    except errors.UnsafeImage as exc:
        raise ImageUnusable(str(exc)) from exc
    except errors.ConfigError as exc:
        raise ConfigError(str(exc)) from exc


def overlay(path: Path, base: Path | str, base_format: str, size: int) -> None:
    """Make the qcow2 file ``path`` of ``size`` bytes upon ``base``, a file or a URL.

    What a URL names isn't opened for that.
    """
    if isinstance(base, str):
        run(["create", "-q", "-f", "qcow2", "-u", "-F", base_format, "-b", base, str(path), str(size)])
        return
    run(["create", "-q", "-f", "qcow2", "-F", base_format, "-b", str(base), str(path), str(size)])


def blank(path: Path, size: int) -> None:
    """Make an empty qcow2 file of ``size`` bytes."""
    run(["create", "-q", "-f", "qcow2", str(path), str(size)])


def grow(path: Path, size: int) -> None:
    """Make a qcow2 file's disk ``size`` bytes large; one as large already stays so."""
    if int(info(path, "qcow2")["virtual-size"]) < size:
        run(["resize", "-q", "-f", "qcow2", str(path), str(size)])


def to_qcow2(source: Path, source_format: str, target: Path, virtual_size: int) -> None:
    """Convert to qcow2; what grows past its virtual size is ended."""
    room = virtual_size + virtual_size // 8 + (64 << 20)  # tables and rounding of small disks
    limits = Limits(cpu_seconds=1800, file_bytes=room, wall_seconds=7200)
    run(["convert", "-f", source_format, "-O", "qcow2", str(source), str(target)], limits)
