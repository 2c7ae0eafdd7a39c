"""Many small requests: wrk asks, and says how fast it was answered.

wrk takes some percent of a core at these rates; a client in Python would
take as much as the server. ``wrk.lua`` names the requests.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.client import Refused, Server
from benchmarks.measuring import Reading, timed

SCRIPT = Path(__file__).with_name("wrk.lua")
CONNECTIONS = 4
PATIENCE = "30s"  # wrk counts an answer later than this as none; a list of 200 takes Glance seconds


def missing() -> str | None:
    return None if shutil.which("wrk") else "wrk isn't installed"


def ask(
    server: Server, seconds: float, path: str = "/", job: str = "", ids: Path | None = None
) -> tuple[Reading, int]:
    """Ask for ``seconds``; return what was measured, and how many answers there were.

    ``job`` is one of the script's: GET of ``path`` by default. Raises
    Refused when an answer isn't a good one.
    """
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--timeout", PATIENCE]
    command += ["-s", str(SCRIPT)]
    command += [f"-H{name}: {value}" for name, value in server.headers.items()]
    command += [f"http://127.0.0.1:{server.port}{path}", "--", job, str(ids or "")]
    told: Mapping[str, float] = {}

    def run() -> None:
        nonlocal told
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        told = json.loads(done.stdout.rpartition("figures: ")[2])

    _, cpu = timed(run, server.pid)
    # wrk counts an answer of 400 or more; what it can't connect to it counts apart.
    if told["bad"] or not told["requests"]:
        raise Refused(f"{server.name}: {job or path}: {told}")
    reading = {
        "requests/s": told["requests"] / told["seconds"],
        "p99, ms": told["p99"],
        "CPU ms a request": cpu * 1000 / told["requests"],
    }
    return reading, int(told["requests"])
