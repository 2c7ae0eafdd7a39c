"""Other processes, seen from a test."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the processes that a process's main thread has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def freeze(pid: int) -> Sequence[int]:
    """Stop a process and its children with SIGSTOP; return who was stopped, when none of them runs any more.

    The signal alone only says that they shall: a server could still finish
    what it was about to do.
    """
    _stop(pid)
    # Which it can't make more of meanwhile.
    below = children(pid)
    for each in below:
        _stop(each)
    return [pid, *below]


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Keep a process and its children from running for a while."""
    pids = freeze(pid)
    try:
        yield
    finally:
        for each in pids:
            os.kill(each, signal.SIGCONT)


class Breakable(ABC):
    """A server that runs in ``directory``, made to be killed, paused and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None:
        """Start it on its ports and wait until it serves."""

    @abstractmethod
    def kill(self) -> None:
        """Kill all of its processes, as a power cut would."""

    @contextmanager
    def down(self) -> Iterator[None]:
        """Have it killed for a while."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep it silent for a while: connections stay, and the kernel takes new ones."""
        assert self._process is not None
        with frozen(self._process.pid):
            yield

    def log(self) -> str:
        """Return the end of what it has written."""
        return (self.directory / "out").read_text(errors="replace")[-4000:]


def _stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + 60
    while not _is_stopped(pid):
        assert time.monotonic() < until, f"process {pid} doesn't stop"
        time.sleep(0.001)


def _is_stopped(pid: int) -> bool:
    """Tell whether no thread runs; see proc_pid_stat(5)."""
    try:
        stats = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):  # a thread has just ended
        return False
    return all(stat.rpartition(")")[2].split()[0] in "TtZX" for stat in stats)
