"""Files of instances: links to bases, and removing directories."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from novalite.errors import ImageUnusable


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


def rmtree(folder: Path) -> None:
    """Remove a directory with all in it; no error when it's gone."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
