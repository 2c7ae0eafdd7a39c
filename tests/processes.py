"""Other processes, seen from a test."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path


def freeze(pids: Iterable[int]) -> None:
    """Stop processes with SIGSTOP, and return when each of their threads has stopped.

    The signal alone only says that they shall: a server could still finish
    what it was about to do.
    """
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        until = time.monotonic() + 10
        while not _is_stopped(pid):
            assert time.monotonic() < until, f"process {pid} doesn't stop"
            time.sleep(0.001)


def thaw(pids: Iterable[int]) -> None:
    """Let processes go on after ``freeze``."""
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    """Tell whether no thread runs; see proc_pid_stat(5)."""
    try:
        stats = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):  # a thread has just ended
        return False
    return all(stat.rpartition(")")[2].split()[0] in "TtZX" for stat in stats)
