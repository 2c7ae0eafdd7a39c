"""Run a private libvirtd: ``python -m novalite.quickstart.supervisor``.

A small process of its own between us and libvirtd, because it must outlive
us by a moment: it ends libvirtd (and, unless told otherwise, the guests and
networks) when our process is gone, however that died. It also gives libvirtd

- a mount namespace in which the fixed system paths are directories of ours;
- a sub-reaper: qemu daemonizes, and an orphan reaped late by PID 1 looks alive
  to libvirt, which then waits for seconds on each destroy;
- a restart when it dies.

SIGTERM ends libvirtd and all it runs, SIGUSR1 ends only libvirtd.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
import sys
import time
import uuid
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_CLONE_NEWNS, _CLONE_NEWUTS = 0x00020000, 0x04000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_MOUNTS = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
    "etc": "/etc/libvirt",
}
_CONFIG = {
    "libvirtd.conf": 'unix_sock_group = "root"\nunix_sock_rw_perms = "0700"\n'
    'auth_unix_rw = "none"\nauth_unix_ro = "none"\nlog_level = 4\n',
    # As root throughout: /dev/kvm is often root's alone where no udev runs, and
    # then libvirt probes qemu again for each guest. Logs as files: no second
    # daemon whose death would cut the guests' serial ports.
    "qemu.conf": 'user = "root"\ngroup = "root"\ndynamic_ownership = 0\nremember_owner = 0\n'
    'stdio_handler = "file"\nsecurity_driver = "none"\n',
}
_RESTART_SECONDS = 1.0
_END_SECONDS = 20.0
_LIBC = ctypes.CDLL(None, use_errno=True)


def socket_uri(state: Path) -> str:
    return f"qemu+unix:///system?socket={state}/run/libvirt-sock"


def pid_file(state: Path) -> Path:
    """Return the file that names the supervisor in charge."""
    return state / "supervisor.pid"


def main() -> int:
    """Supervise until told to end, or until the parent is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("state", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--guests-outlive", action="store_true")
    parser.add_argument("--name", help="the host's name, as of another one than this")
    parser.add_argument("--certificates", type=Path, help="QEMU's certificates for guests on their way")
    args = parser.parse_args()
    with (args.state / "lock").open("w") as lock:
        try:
            _lock(lock.fileno())
        except BlockingIOError:
            print(f"{args.state} is another libvirtd's", file=sys.stderr)
            return 3
        parent = os.pidfd_open(args.parent)
        if os.getppid() != args.parent:
            return 0  # gone already, its number may be anybody's
        pid_file(args.state).write_text(f"{os.getpid()}\n")
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        _enter_namespace(args.state, args.name, args.certificates)
        return _Supervisor(args.state, parent, guests_outlive=args.guests_outlive).run()


class _Supervisor:
    def __init__(self, state: Path, parent: int, *, guests_outlive: bool) -> None:
        self.state = state
        self.parent = parent
        self.guests_outlive = guests_outlive
        self.ending: int | None = None  # the signal that ends us
        self.daemon = 0  # process id of libvirtd, 0 while there is none
        self.sweeper = 0
        self.dead_since = float("-inf")

    def run(self) -> int:
        """Keep libvirtd running; return when all has ended."""
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        while self.ending is None:
            if not self.daemon and time.monotonic() - self.dead_since >= _RESTART_SECONDS:
                self.daemon = _start_libvirtd(self.state)
            readable, _, _ = select.select([wake_read, self.parent], [], [], _RESTART_SECONDS)
            with contextlib.suppress(BlockingIOError):
                os.read(wake_read, 4096)
            if self.parent in readable:
                self.ending = signal.SIGUSR1 if self.guests_outlive else signal.SIGTERM
            self._reap()
        if self.ending == signal.SIGTERM:
            self._end_guests()
        self._end_libvirtd()
        if self.ending == signal.SIGTERM:
            self._end_rest()
        return 0

    def _on_signal(self, number: int, _frame: object) -> None:
        self.ending = number

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                if pid == self.daemon:
                    self.daemon, self.dead_since = 0, time.monotonic()
                if pid == self.sweeper:
                    self.sweeper = 0

    def _end_guests(self) -> None:
        """End guests and networks in order, through libvirt while it answers."""
        if not self.daemon:
            return
        # a process of its own: a call to a libvirtd that hangs never returns, and
        # we must go on reaping the guests meanwhile
        code = "import sys; from novalite.virt.connection import end_all; end_all(sys.argv[1])"
        argv = [sys.executable, "-c", code, socket_uri(self.state)]
        self.sweeper = os.posix_spawn(sys.executable, argv, os.environ)
        deadline = time.monotonic() + _END_SECONDS
        while self.sweeper and self.daemon and time.monotonic() < deadline:
            time.sleep(0.02)
            self._reap()

    def _end_libvirtd(self) -> None:
        deadline = time.monotonic() + _END_SECONDS
        number = signal.SIGTERM
        while self.daemon:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.daemon, number)
            time.sleep(0.05)
            self._reap()
            if time.monotonic() > deadline:
                number = signal.SIGKILL

    def _end_rest(self) -> None:
        """Kill what is still ours: with a sub-reaper, no process gets away."""
        deadline = time.monotonic() + _END_SECONDS
        while time.monotonic() < deadline:
            self._reap()
            left = children_of(os.getpid())
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    """Return the ids of a process's living children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid and fields[0] != "Z":
                    found.append(int(entry.name))
    return found


def _start_libvirtd(state: Path) -> int:
    """Start libvirtd so that it dies with us; return its process id."""
    supervisor = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == supervisor:
            os.execvp("libvirtd", ["libvirtd", "-p", str(state / "libvirtd.pid")])  # noqa: S606
    finally:
        os._exit(127)


def _enter_namespace(state: Path, host: str | None, certificates: Path | None) -> None:
    """Let the system's libvirt paths be directories of ours, for us alone.

    With the name of a host it is another host: libvirts send guests only to
    one with another name and another id.
    """
    (state / "etc").mkdir(exist_ok=True)
    for name, content in _CONFIG.items():
        if host is not None and name == "libvirtd.conf":
            content += f'host_uuid = "{uuid.uuid5(uuid.NAMESPACE_URL, str(state))}"\n'
        if certificates is not None and name == "qemu.conf":
            content += f'migrate_tls_x509_cert_dir = "{certificates}"\n'
        (state / "etc" / name).write_text(content)
    if host is not None:
        _check(_LIBC.unshare(_CLONE_NEWUTS), "unshare")
        socket.sethostname(host)
    _check(_LIBC.unshare(_CLONE_NEWNS), "unshare")
    _check(_LIBC.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), "mount /")
    for name, target in _MOUNTS.items():
        source = state / name
        source.mkdir(exist_ok=True)
        Path(target).mkdir(parents=True, exist_ok=True)
        flags = ctypes.c_ulong(_MS_BIND)
        _check(_LIBC.mount(bytes(source), target.encode(), None, flags, None), f"mount {target}")


def _lock(descriptor: int) -> None:
    """Take the lock; one that is just ending has a moment to let go of it."""
    deadline = time.monotonic() + _END_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _prctl(option: int, value: int) -> None:
    _check(_LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main())
