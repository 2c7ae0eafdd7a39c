"""Stores in directories, and small file systems to put them on."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from glancelike.stores.file import FileStore

MIB = 1 << 20
DATADIR = "filesystem_store_datadir"
DATADIRS = "filesystem_store_datadirs"


def opened(*paths: Path | str, **options: Any) -> FileStore:
    """Open a store in one directory, or in several."""
    where = {DATADIR: str(paths[0])} if len(paths) == 1 else {DATADIRS: list(map(str, paths))}
    store = FileStore({**where, **options})
    store.open()
    return store


def put(store: FileStore, key: str, data: bytes = b"data") -> None:
    store.write(key, io.BytesIO(data), size=len(data))


def content(store: FileStore, key: str) -> bytes:
    return b"".join(store.read(key))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def taken(path: Path) -> int:
    """Tell the bytes that a file takes on its disk."""
    return path.stat().st_blocks * 512


def free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


@contextmanager
def mounted_tmpfs(where: Path, *, mib: int) -> Iterator[Path]:
    """Mount a small file system in memory; skip the test where that isn't allowed."""
    with _mounted(where, ["-t", "tmpfs", "-o", f"size={mib}m", "tmpfs"]) as path:
        yield path


@contextmanager
def mounted_xfs(where: Path) -> Iterator[Path]:
    """Mount a file system that shares blocks; skip the test where that isn't allowed."""
    image = where.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(320 * MIB)  # the smallest XFS there is has 300 MiB
    if not shutil.which("mkfs.xfs"):
        pytest.skip("mkfs.xfs isn't installed")
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    with _mounted(where, ["-o", "loop", str(image)]) as path:
        yield path


@contextmanager
def _mounted(where: Path, arguments: list[str]) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    where.mkdir()
    said = subprocess.run(["mount", *arguments, where], capture_output=True, text=True)
    if said.returncode:
        pytest.skip(f"nothing can be mounted here: {said.stderr}")
    try:
        yield where
    finally:
        # Lazily: a test that failed may have left files open.
        subprocess.run(["umount", "-l", where], check=True)
