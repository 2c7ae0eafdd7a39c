"""How close image transfers come to what the machine can do.

    python benchmarks/transfer.py [--size-mib 1024] [--directory DIR]

Peers and limits are measured in the same run, so look at the ratios: the
absolute figures are the machine's.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

import glancelike
from glancelike.client import ImageClient

BLOCK = 1 << 20
BIN = Path(sys.executable).parent


class Zeros:
    """A source that costs nothing: the same block again and again."""

    def __init__(self, mib: int) -> None:
        self.left, self.block = mib, os.urandom(BLOCK)

    def read(self, _size: int, /) -> bytes:
        self.left -= 1
        return self.block if self.left >= 0 else b""


class Nowhere:
    """A target that costs nothing."""

    def write(self, data: bytes) -> int:
        return len(data)

    def seek(self, _to: int) -> None: ...
    def truncate(self) -> None: ...


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def written(path: Path, source: Zeros, *, digest: bool) -> None:
    """The limit of an upload: write and fsync, with or without a digest in line."""
    state = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        while block := source.read(BLOCK):
            file.write(block)
            if digest:
                state.update(block)
        os.fsync(file.fileno())


def library(folder: Path, mib: int) -> list[tuple[str, float]]:
    me = glancelike.Caller.administrator()
    stores = {"file": f"file://{folder}/library"}
    with glancelike.open_service("memory://", stores=stores) as images:
        image = images.create_image(me, {"disk_format": "raw", "container_format": "bare"})
        up = seconds(lambda: images.upload(me, image.id, Zeros(mib), size=mib * BLOCK))
        down = seconds(lambda: sum(map(len, images.read(me, image.id).chunks())))
    return [("library: upload, sha256, fsync", up), ("library: read", down)]


def server(folder: Path, mib: int) -> list[tuple[str, float]]:
    conf, log = folder / "glancelike.conf", folder / "log"
    conf.write_text(f"[DEFAULT]\nstate_path = {folder}\nbind_port = 0\n")
    subprocess.run([BIN / "glancelike", "--config-file", conf, "db", "upgrade"], check=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [BIN / "glancelike-api", "--config-file", conf], stdout=output, stderr=output
        )
    try:
        while "listens on " not in log.read_text():
            time.sleep(0.1)
        url = log.read_text().split("listens on ")[1].split()[0]
        with ImageClient(url) as client:
            image_id = client.create_image({"disk_format": "raw", "container_format": "bare"})["id"]
            up = seconds(lambda: client.upload(image_id, Zeros(mib), size=mib * BLOCK))
            down = seconds(lambda: client.download(image_id, Nowhere()))  # type: ignore[arg-type]
    finally:
        process.terminate()
        process.wait()
    return [("server: PUT, sha256, fsync", up), ("server: GET, verified by the client", down)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--directory", type=Path, help="where to write; the temporary directory by default")
    arguments = parser.parse_args()
    mib = arguments.size_mib
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        folder = Path(name)
        rows = [
            ("limit: write, fsync", seconds(lambda: written(folder / "plain", Zeros(mib), digest=False))),
            ("limit: and sha256 in line", seconds(lambda: written(folder / "hash", Zeros(mib), digest=True))),
            *library(folder, mib),
            *server(folder, mib),
        ]
    limit = rows[0][1]
    table = Table("What", "MiB/s", "Time, as a multiple of the limit", title=f"{mib} MiB, one at a time")
    for what, took in rows:
        table.add_row(what, f"{mib / took:,.0f}", f"{took / limit:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
