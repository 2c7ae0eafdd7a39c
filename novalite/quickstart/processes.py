"""Child processes of the quickstart: none outlives it, whatever ends it."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from novalite.errors import ConfigError, NovaliteError

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
TAIL_LINES = 12


class QuickstartError(NovaliteError):
    """The run can't go on; the message says why, for the person who started it."""

    code = "quickstart"


def _end_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Server:
    """One server as a child process, with its output in a log file."""

    def __init__(self, name: str, argv: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A Ctrl-C is for us: we end the servers, in the right order.
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def check(self) -> None:
        """Raise QuickstartError when the server has ended."""
        status = self._process.poll()
        if status is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            told = "\n".join(f"  {line}" for line in tail)
            raise QuickstartError(f"{self.name} ended with status {status}; it said:\n{told}")

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until ``ready()``; raise QuickstartError when it takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise QuickstartError(f"{self.name} doesn't answer within {seconds:.0f} s; see {self.log}")
            time.sleep(0.05)

    def stop(self, seconds: float = 20.0) -> None:
        """End the server: politely, then by force."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def check_port_free(port: int, what: str, flag: str) -> None:
    """Raise ConfigError when the port is taken, before anything is started."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                f"port {port} for the {what} can't be had: {error.strerror}; choose another with {flag}"
            ) from error
