"""How things are measured: in turns, by the wall and by the CPU time of a whole server."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")

Reading = Mapping[str, float]  # measure -> value
Medians = dict[str, dict[str, float]]  # who -> measure -> value


def in_turns(contestants: Mapping[str, Callable[[int], Reading]], repeats: int) -> Medians:
    """Let each do its work, again and again; return the medians of what was read.

    Each turn begins with another one. The work gets the number of the turn.
    """
    seen: dict[str, list[Reading]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            os.sync()  # what others have left to write is none of this one's
            seen[name].append(contestants[name](turn))
    return {name: medians(readings) for name, readings in seen.items()}


def medians(readings: list[Reading]) -> dict[str, float]:
    """Return the median of each measure."""
    return {measure: statistics.median(reading[measure] for reading in readings) for measure in readings[0]}


def timed(work: Callable[[], object], server: int | None = None) -> tuple[float, float]:
    """Do the work; return its seconds, and those of CPU that a server's processes took meanwhile."""
    cpu = cpu_seconds(server) if server else 0.0
    began = time.perf_counter()
    work()
    took = time.perf_counter() - began
    return took, (cpu_seconds(server) if server else 0.0) - cpu


def processes(first: int) -> list[int]:
    """List a process and all below it."""
    found, at = [first], 0
    while at < len(found):
        for children in Path(f"/proc/{found[at]}/task").glob("*/children"):
            found += map(int, children.read_text().split())
        at += 1
    return found


def cpu_seconds(first: int) -> float:
    """Return what a process and all below it have used, threads that have ended included."""
    total = 0
    for pid in processes(first):
        # proc_pid_stat(5): utime, stime, and those of children that were waited for.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / TICK


def settle(pid: int) -> int:
    """Have the peak of a process's memory start anew; return the bytes it has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return memory(pid, "VmRSS")


def memory(pid: int, field: str = "VmRSS") -> int:
    """Return a figure of /proc/PID/status in bytes; 0 of a zombie, which has no memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def proportional(pid: int) -> int:
    """Return a process's memory in bytes, shared pages divided by those who share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise LookupError("Pss")


def growth(first: int, work: Callable[[], object]) -> int:
    """Do the work; return by how many bytes the largest of a server's processes grew at its peak."""
    before = {pid: settle(pid) for pid in processes(first)}
    work()
    return max(memory(pid, "VmHWM") - rss for pid, rss in before.items())


def size_of(paths: Iterable[Path]) -> int:
    """Return the bytes of all files below the paths, links not followed."""
    files = (file for path in paths for file in path.rglob("*"))
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())
