"""Python programs as processes of their own that have their imports behind them.

An OpenStack client takes two seconds of CPU to import what a call needs a
tenth of. So a process of each program imports it once, and each run is a
fork of that one: with its own command line, environment, files, signals and
exit status. What a start itself is like (imports that are missing or slow, a
second start of the program by itself) shows only when it is run for real.

``python -m tests.warm`` with a socket is the process that is forked.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from select import select
from typing import IO, NoReturn

ROOT = Path(__file__).parents[1]
# By the program's name what it imports in the end; "name.*" is a package with all that is in it.
IMPORTS: Mapping[str, Sequence[str]] = {
    "openstack": (
        *("openstackclient.shell", "openstackclient.common.*", "openstackclient.compute.*"),
        *("openstackclient.identity.*", "openstackclient.image.*", "openstackclient.network.*"),
        *("openstackclient.object.*", "openstackclient.volume.*", "openstackclient.accelerator.*"),
        *("openstackclient.share.*", "manilaclient.osc.*", "cliff.formatters.*", "openstack.connection"),
        *("keystoneauth1.loading._plugins.*", "keystoneauth1.extras.*", "swiftclient.authv1"),
    ),
    "novalite-all": (
        *("novalite.app", "novalite.scheduler.hooks", "novalite.scheduler.simple", "novalite.virt.fake"),
        *("novalite.worker", "oslo_messaging._drivers.impl_rabbit", "oslo_messaging.opts"),
        *(
            "novalite.metadata",
            "novalite.serialproxy",
            "novalite.api.serial.proxy",
            "kombu.transport.pyamqp",
            "sqlalchemy.dialects.sqlite",
        ),
        "gunicorn.workers.gthread",
    ),
    "glance": ("glanceclient.shell", "glanceclient.v2.*", "keystoneauth1.loading._plugins.*"),
    "glancelike": (
        *("glancelike.cli", "glancelike.cli_embedded", "glancelike.app", "glancelike.app_registry"),
        *("glancelike.stores.*", "glancelike.web.*", "glancelike.registry.memory"),
        *("glancelike.registry.remote", "glancelike.registry.sql.migrations", "sqlalchemy.dialects.sqlite"),
        *("rich._emoji_codes", "gunicorn.app.base", "gunicorn.workers.gthread"),
    ),
}
# Programs that are forked from another's process.
SAME = {
    "glancelike-api": "glancelike",
    "glancelike-registry": "glancelike",
    "glancelike-worker": "glancelike",
    "novalite-api": "novalite-all",
    "novalite-compute": "novalite-all",
    "novalite-metadata": "novalite-all",
    "novalite-serialproxy": "novalite-all",
    "novalite-scheduler": "novalite-all",
    "novalite_child.py": "novalite-all",
}


class Process:
    """A running program, used as a ``subprocess.Popen``."""

    def __init__(self, told: socket.socket) -> None:
        self._told = told
        self._lines = told.makefile("rb")
        self.pid = int(self._lines.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status; raise ``subprocess.TimeoutExpired``."""
        if self.returncode is None:
            if timeout is not None and not select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = int(self._lines.readline())
            # Until then the process is a zombie, so its id is nobody else's.
            self._told.shutdown(socket.SHUT_WR)
            self._lines.read()
            self._lines.close()
            self._told.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Parent:
    """The process that has imported a program."""

    def __init__(self, program: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(theirs.fileno()), *IMPORTS[program]],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
            )
        atexit.register(self.stop)

    def fork(self, request: Mapping[str, object], files: Sequence[int]) -> Process:
        told, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._socket, [json.dumps(request).encode()], [*files, theirs.fileno()])
        return Process(told)

    def stop(self) -> None:
        self._socket.close()
        self._process.wait(60)


_parents: dict[str, _Parent] = {}


def start(
    command: Sequence[str | Path],
    *,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | int = subprocess.DEVNULL,
    stderr: IO[bytes] | int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> Process:
    """Start a program of Python whose imports are in IMPORTS; its files are open ones."""
    words = [str(word) for word in command]
    name = Path(words[0]).name
    name = SAME.get(name, name)
    if name not in _parents:
        _parents[name] = _Parent(name)
    request = {
        "command": words,
        "env": dict(os.environ if env is None else env),
        "cwd": str(cwd or Path.cwd()),
    }
    with Path(os.devnull).open("r+b") as null:
        given = [null if each == subprocess.DEVNULL else each for each in (stdin, stdout, stderr)]
        files = [each if isinstance(each, int) else each.fileno() for each in given]
        return _parents[name].fork(request, files)


def run(
    command: Sequence[str | Path],
    *,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    timeout: float = 120.0,
) -> subprocess.CompletedProcess[str]:
    """Run such a program to its end and return what it printed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(command, stdin=stdin, stdout=out, stderr=err, env=env, cwd=cwd)
        try:
            process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        printed = []
        for file in (out, err):
            file.seek(0)
            printed.append(file.read().decode())
        return subprocess.CompletedProcess(list(command), process.wait(), *printed)


def serve(listening: socket.socket) -> list[str]:
    """Fork for each request until the tests end; return in the fork with its command line."""
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        message, files, _, _ = socket.recv_fds(listening, 1 << 20, 4)
        if not message:
            sys.exit()
        if os.fork() == 0:
            break
        for each in files:
            os.close(each)
    # A process between, which tells of the other's end.
    listening.close()
    request = json.loads(message)
    told = socket.socket(fileno=files.pop())
    if pid := os.fork():
        _tell_the_end(pid, told)
    told.close()
    for number, each in enumerate(files):
        os.dup2(each, number)
        os.close(each)
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    time.tzset()
    os.chdir(request["cwd"])
    return list(request["command"])


def _tell_the_end(pid: int, told: socket.socket) -> NoReturn:
    os.closerange(3, told.fileno())
    os.closerange(told.fileno() + 1, 64)
    told.sendall(f"{pid}\n".encode())
    status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert status is not None
    code = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
    with suppress(OSError):
        told.sendall(f"{code}\n".encode())
        told.recv(1)
    os.waitpid(pid, 0)
    os._exit(0)


def main() -> None:
    sys.path.insert(0, str(ROOT))
    for name in sys.argv[2:]:
        # What isn't there any more, the program will import by itself, or not need.
        with suppress(ImportError):
            module = importlib.import_module(name.removesuffix(".*"))
            if name.endswith(".*"):
                for found in pkgutil.walk_packages(module.__path__, f"{module.__name__}."):
                    importlib.import_module(found.name)
    gc.collect()
    gc.freeze()
    command = serve(socket.socket(fileno=int(sys.argv[1])))
    sys.argv[:] = command
    sys.modules.pop("__main__")
    runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main()
