"""Files of instances: links to bases, and removing directories."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from novalite.errors import ImageUnusable
from novalite.virt.base import BootFiles
from novalite.virt.domain import Layout


def link(base: Path, target: Path) -> Path:
    """Link the base into the instance's directory, so that pruning can't take it.

    Across file systems that can't be, and the base's own path is used.
    """
    try:
        target.hardlink_to(base)
    except FileNotFoundError as exc:
        raise ImageUnusable(f"base image {base} is gone") from exc
    except OSError:
        return base
    return target


def put_boot_files(boot: BootFiles | None, layout: Layout) -> None:
    """Have a kernel and its ramdisk in an instance's directory, as links or as copies."""
    if boot is None:
        return
    for source, target in ((boot.kernel, layout.kernel), (boot.ramdisk, layout.ramdisk)):
        if source is not None and link(source, target) != target:
            shutil.copyfile(source, target)


def rmtree(folder: Path) -> None:
    """Remove a directory with all in it; no error when it's gone."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
