"""How close each store's driver comes to the bare client of its backend, and how flat memory is.

    python -m benchmarks.stores [STORE ...] [--size-mib 256] [--repeats 5] [--rss [MIB]] [--json FILE]

Driver and client take turns in the same run, each with new data, so look at
the ratios (1 is as fast as the client, more is faster). ``--rss`` moves
4 GiB (or so many MiB) through the driver in a process of its own, and through a server.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import peers
from benchmarks.backends import BACKENDS, BLOCK, Backend, Missing
from benchmarks.client import Server
from benchmarks.measuring import growth
from glancelike import plugins
from glancelike.client import ImageClient
from glancelike.stores.base import Store
from glancelike.stores.guard import Guard

FLAT_MIB = 64
GOAL = 0.9


class Endless:
    """A source of any size that takes no memory of its own to speak of."""

    def __init__(self, mib: int) -> None:
        self.left, self._blocks = mib, [random.randbytes(BLOCK) for _ in range(8)]

    def read(self, _size: int, /) -> bytes:
        self.left -= 1
        return self._blocks[self.left % 8] if self.left >= 0 else b""


class Nowhere:
    """A target that costs nothing."""

    def write(self, data: bytes) -> int:
        return len(data)

    def seek(self, _to: int) -> None: ...
    def truncate(self) -> None: ...


def opened(name: str, settings: dict[str, Any], below: dict[str, Any]) -> Store:
    driver = plugins.load("glancelike.stores", name, Store)(settings)
    if below:
        driver.below = Guard(opened("file", below, {}), store_id="below")  # type: ignore[attr-defined]
    driver.open()
    return driver


def seconds(work: Callable[[], Any]) -> float:
    os.sync()  # what others have left to write is none of ours
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def one_turn(driver: Store, peer: Any, key: str, mib: int, ours_first: bool) -> list[tuple[str, float]]:
    """Write and read the same data by driver and client; who is first changes with each turn."""
    data = b"".join(random.randbytes(BLOCK) for _ in range(mib))
    pairs: list[tuple[str, Callable[[], Any]]] = [
        ("write", lambda: driver.write(key, io.BytesIO(data), size=len(data))),
        ("peer write", lambda: peer.write(key, io.BytesIO(data), len(data))),
        ("read", lambda: sum(map(len, driver.read(key)))),
        ("peer read", lambda: peer.read(key)),
    ]
    took = []
    for both in (pairs[:2], pairs[2:]):
        took += [(what, seconds(work)) for what, work in (both if ours_first else both[::-1])]
    driver.delete(key)
    peer.delete(key)
    return took


def throughput(name: str, backend: Backend, mib: int, repeats: int) -> dict[str, Any]:
    """Let driver and client take turns; return the medians in MiB/s."""
    driver = opened(name, backend.settings, backend.below)
    took: dict[str, list[float]] = {what: [] for what in ("write", "peer write", "read", "peer read")}
    for turn in range(repeats):
        for what, time_taken in one_turn(driver, backend.peer, f"bench-{turn}", mib, turn % 2 == 0):
            took[what].append(time_taken)
    driver.close()
    speed = {what: mib / statistics.median(times) for what, times in took.items()}
    return {
        "MiB/s": {what: round(value) for what, value in speed.items()},
        "write ratio": round(speed["write"] / speed["peer write"], 2),
        "read ratio": round(speed["read"] / speed["peer read"], 2),
    }


def child(job: dict[str, Any]) -> None:
    """Move data through a driver in this process; tell how much its memory grew."""
    driver, mib = opened(job["store"], job["settings"], job["below"]), job["mib"]
    driver.write("rss-warm", Endless(8), size=8 * BLOCK)
    sum(map(len, driver.read("rss-warm")))
    driver.delete("rss-warm")
    source = Endless(mib)
    grown = {}
    for what, work in (
        ("upload", lambda: driver.write("rss", source, size=mib * BLOCK)),
        ("download", lambda: sum(map(len, driver.read("rss")))),
    ):
        grown[what] = growth(os.getpid(), work) >> 20
    driver.delete("rss")
    driver.close()
    sys.stdout.write(json.dumps(grown))


def rss_of_driver(name: str, backend: Backend, mib: int) -> dict[str, int]:
    job = {"store": name, "settings": backend.settings, "below": backend.below, "mib": mib}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stores", "--child", json.dumps(job)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout))


def rss_of_server(name: str, backend: Backend, folder: Path, mib: int) -> dict[str, int]:
    """Send an image to a server and fetch it; tell how much the largest of its processes grew."""
    settings = {"bench": (name, backend.settings), "below": ("file", backend.below)}
    stores = {store: each for store, each in settings.items() if each[1]}
    with peers.ours(folder, stores=stores, programs=Path(sys.executable).parent) as server:
        return _through(server, mib)


def _through(server: Server, mib: int) -> dict[str, int]:
    values = {"disk_format": "raw", "container_format": "bare"}
    with ImageClient(f"http://127.0.0.1:{server.port}") as client:
        warm = client.create_image(values)["id"]
        client.upload(warm, Endless(8), size=8 * BLOCK)
        client.download(warm, Nowhere())  # type: ignore[arg-type]
        image = client.create_image(values)["id"]
        source = Endless(mib)
        grown = {}
        for what, work in (
            ("upload", lambda: client.upload(image, source, size=mib * BLOCK)),
            ("download", lambda: client.download(image, Nowhere())),  # type: ignore[arg-type]
        ):
            grown[what] = growth(server.pid, work) >> 20
        client.delete_image(image)
    return grown


def measured(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure one store; say so where it can't be."""
    if name not in plugins.available("glancelike.stores"):
        return {"said": "not installed"}
    try:
        with BACKENDS[name](folder) as backend:
            result = throughput(name, backend, arguments.size_mib, arguments.repeats)
            if arguments.rss:
                result["driver grew, MiB"] = rss_of_driver(name, backend, arguments.rss)
                result["server grew, MiB"] = rss_of_server(
                    name, backend, folder / "server-state", arguments.rss
                )
            return result
    except Missing as missing:
        return {"said": f"not measured: {missing}"}


def table_of(results: dict[str, dict[str, Any]], title: str) -> Table:
    heads = ("Store", "Write", "Client", "Ratio", "Read", "Client", "Ratio", "Driver grew", "Server grew")
    table = Table(*heads, title=title)
    for name, found in results.items():
        if "said" in found:
            table.add_row(name, found["said"])
            continue
        speed = found["MiB/s"]
        cells = []
        for what in ("write", "read"):
            ratio = found[f"{what} ratio"]
            color = "green" if ratio >= GOAL else "red"
            cells += [str(speed[what]), str(speed[f"peer {what}"]), f"[{color}]{ratio:.2f}[/]"]
        for grew in (found.get("driver grew, MiB"), found.get("server grew, MiB")):
            marks = [f"[{'green' if mib < FLAT_MIB else 'red'}]{mib}[/]" for mib in (grew or {}).values()]
            cells.append(" / ".join(marks))
        table.add_row(name, *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", nargs="*", choices=[[], *BACKENDS], metavar="STORE")
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rss", type=int, nargs="?", const=4096, metavar="MIB", help="measure memory, too")
    parser.add_argument("--directory", type=Path, help="where to write; the temporary directory by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    results = {}
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        for name in arguments.stores or BACKENDS:
            folder = Path(directory) / name
            folder.mkdir()
            results[name] = measured(name, arguments, folder)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    title = f"{arguments.size_mib} MiB, medians of {arguments.repeats}, MiB/s"
    if arguments.rss:
        title += f"; MiB of memory that {arguments.rss} MiB up / down took"
    Console(width=110).print(table_of(results, title))


if __name__ == "__main__":
    main()
