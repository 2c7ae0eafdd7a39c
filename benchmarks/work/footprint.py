"""What it takes to be there: memory, packages, time to the first answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator

from benchmarks import installs, peers
from benchmarks.client import Server, asked
from benchmarks.measuring import Reading, cpu_seconds, in_turns, memory, processes, proportional
from benchmarks.report import Goal, Row, compared
from benchmarks.stage import Stage

START, IDLE, INSTALL = "start to first answer", "idle", "core install"
WORK = (IDLE, INSTALL, START)
FIRST = "/v2/images?limit=1"
MIB = 1 << 20
Starter = Callable[[int], Reading]


def measure(stage: Stage, wanted: Collection[str]) -> Iterator[Row]:
    if START in wanted or IDLE in wanted:
        yield from _running(stage, wanted)
    if INSTALL in wanted:
        ours, glance = installs.ours(), installs.glance()
        yield Row(INSTALL, "packages", ours.packages, goal=Goal(most=40))
        yield Row(INSTALL, "packages", ours.packages, "Glance", glance.packages)
        yield Row(INSTALL, "MiB", ours.size / MIB, "Glance", glance.size / MIB, Goal(most=0.5))


def _running(stage: Stage, wanted: Collection[str]) -> Iterator[Row]:
    """Start each server some times, with nothing in its database."""
    ours = peers.Ours(stage.folder / "start-ours", stage.database())
    glance = peers.Glance(stage.folder / "start-glance", stage.database())

    def start_ours(_turn: int) -> Reading:
        began = time.perf_counter()
        program = ours.start()
        try:
            program.wait(FIRST)
            return _read(program, time.perf_counter() - began)
        finally:
            program.stop()

    def starting(under: str) -> Starter:
        def start(_turn: int) -> Reading:
            began = time.perf_counter()
            with glance.running(under) as server, asked(server, "GET", FIRST):
                return _read(server, time.perf_counter() - began)

        return start

    stage.say("start")
    glances = {f"Glance, {under}": starting(under) for under in ("uWSGI", "gunicorn")}
    start_ours(0)  # compiles what isn't yet
    probed = {name: start(0) for name, start in glances.items()}
    found = in_turns({"ours": start_ours, **glances}, stage.repeats)
    if IDLE in wanted:
        name = min(probed, key=lambda each: probed[each]["worker, MiB"])
        goals = {"worker, MiB": Goal(most=0.5), "all processes, MiB": None}
        yield from compared(IDLE, found, "ours", name, goals)
    if START in wanted:
        name = min(probed, key=lambda each: probed[each]["seconds"])
        goals = {"seconds": Goal(most=0.3), "CPU seconds": None}
        yield from compared(START, found, "ours", name, goals)


def _read(server: Server, seconds: float) -> Reading:
    pids = processes(server.pid)
    return {
        "seconds": seconds,
        "CPU seconds": cpu_seconds(server.pid),
        # The one worker is the largest of its processes.
        "worker, MiB": max(memory(pid) for pid in pids) / MIB,
        "all processes, MiB": sum(proportional(pid) for pid in pids) / MIB,
    }
