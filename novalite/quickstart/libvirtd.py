"""Choose a libvirt that works here, and start a private one where none does."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from novalite.errors import ConfigError, HypervisorDown
from novalite.quickstart.supervisor import pid_file, socket_uri
from novalite.virt.connection import Connection

LOG = logging.getLogger(__name__)

_START_SECONDS = 40.0
_STOP_SECONDS = 60.0
#: A unix socket's address has 108 bytes, its end included.
_SOCKET_PATH_BYTES = 107


class Hypervisor:
    """A libvirt to use; ``stop()`` ends it when it is ours, and only then."""

    def __init__(self, uri: str, supervisor: subprocess.Popen[bytes] | None = None) -> None:
        self.uri = uri
        self._supervisor = supervisor

    @property
    def private(self) -> bool:
        return self._supervisor is not None

    def stop(self, *, end_guests: bool = True) -> None:
        """End a private libvirtd and, unless told otherwise, its guests."""
        if self._supervisor is None:
            return
        self._supervisor.send_signal(signal.SIGTERM if end_guests else signal.SIGUSR1)
        try:
            self._supervisor.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            LOG.warning("the supervisor of %s hangs; killing it", self.uri)
            self._supervisor.kill()
            self._supervisor.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def choose(state: Path, *, uri: str = "", guests_outlive: bool = False) -> Hypervisor:
    """Return a libvirt that answers.

    An explicit ``uri`` is taken or fails; else the system's libvirt as root, the
    session's otherwise; else, as root, a private one under ``state`` (see
    ``start_private``). Raises HypervisorDown or ConfigError.
    """
    if uri:
        _ask(uri)
        return Hypervisor(uri)
    root = os.geteuid() == 0
    usual = "qemu:///system" if root or os.access("/run/libvirt/libvirt-sock", os.W_OK) else "qemu:///session"
    try:
        _ask(usual)
    except HypervisorDown as exc:
        if not root:
            raise
        LOG.info("%s doesn't answer (%s); starting a private libvirtd", usual, exc)
        return start_private(state, guests_outlive=guests_outlive)
    return Hypervisor(usual)


def start_private(state: Path, *, guests_outlive: bool = False) -> Hypervisor:
    """Start a private libvirtd under ``state``; needs root.

    It ends with our process, however that ends. ``guests_outlive`` leaves
    guests running when our process dies without ``stop()``; the next start on
    the same ``state`` finds them again. Either way what a former one left
    behind is taken over, not doubled.
    Raises ConfigError when it can't be started here, HypervisorDown when it
    doesn't come up.
    """
    state = state.resolve()
    if os.geteuid() != 0:
        raise ConfigError("a private libvirtd needs root; start one for your session instead")
    if shutil.which("libvirtd") is None:
        raise ConfigError("libvirtd isn't installed (Debian: libvirt-daemon, libvirt-daemon-driver-qemu)")
    if len(bytes(state / "run" / "libvirt-sock")) > _SOCKET_PATH_BYTES - len("-ro"):
        raise ConfigError(f"{state} is too long a path for libvirtd's sockets; use a shorter one")
    state.mkdir(parents=True, exist_ok=True, mode=0o711)
    argv = [sys.executable, "-m", "novalite.quickstart.supervisor", str(state), "--parent", str(os.getpid())]
    if guests_outlive:
        argv.append("--guests-outlive")
    with (state / "supervisor.log").open("wb") as output:
        supervisor = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C is for us; we decide what follows from it
            cwd="/",
        )
    hypervisor = Hypervisor(socket_uri(state), supervisor)
    try:
        _wait_for(hypervisor, supervisor, state)
    except BaseException:
        hypervisor.stop()
        raise
    return hypervisor


def _wait_for(hypervisor: Hypervisor, supervisor: subprocess.Popen[bytes], state: Path) -> None:
    """Return when our own libvirtd answers, not one of a former run that's ending."""
    deadline = time.monotonic() + _START_SECONDS
    why = "another one is in charge of its directory"
    while supervisor.poll() is None and time.monotonic() < deadline:
        if _in_charge(state) == supervisor.pid:
            try:
                return _ask(hypervisor.uri)
            except HypervisorDown as exc:
                why = str(exc)
        time.sleep(0.1)
    told = (state / "supervisor.log").read_text(errors="replace").strip()[-1000:]
    raise HypervisorDown(f"the private libvirtd in {state} doesn't come up: {why}; its log ends: {told}")


def _in_charge(state: Path) -> int:
    try:
        return int(pid_file(state).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def _ask(uri: str) -> None:
    """Raise HypervisorDown unless a libvirt with a qemu driver answers."""
    connection = Connection(uri)
    try:
        connection.call(uri, lambda live: live.getVersion())
    finally:
        connection.close()
