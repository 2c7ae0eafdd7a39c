"""Choose a libvirt that works here, and start a private one where none does."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Self
from xml.etree import ElementTree

from novalite.errors import ConfigError, HypervisorDown
from novalite.quickstart.supervisor import pid_file, socket_uri
from novalite.virt.connection import Connection

LOG = logging.getLogger(__name__)

_SYSTEM_SOCKET = "/run/libvirt/libvirt-sock"
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


def choose(
    state: Path, *, uri: str = "", place: Path | None = None, guests_outlive: bool = False
) -> Hypervisor:
    """Return a libvirt that answers and whose guests can reach ``place``.

    An explicit ``uri`` is taken or fails. Else the system's libvirt is tried
    where we may use it, then the session's; as root, who has no session, a
    private one is started under ``state`` (see ``start_private``).
    Raises HypervisorDown or ConfigError.
    """
    if uri:
        _ask(uri)
        return Hypervisor(uri)
    root = os.geteuid() == 0
    if root or os.access(_SYSTEM_SOCKET, os.W_OK):
        try:
            _ask("qemu:///system", place)
            return Hypervisor("qemu:///system")
        except HypervisorDown as exc:
            LOG.info("qemu:///system can't be used: %s", exc)
    if root:
        return start_private(state, guests_outlive=guests_outlive)
    _ask("qemu:///session", place)
    return Hypervisor("qemu:///session")


def start_private(
    state: Path,
    *,
    guests_outlive: bool = False,
    name: str | None = None,
    certificates: Path | None = None,
) -> Hypervisor:
    """Start a private libvirtd under ``state``; needs root.

    It ends with our process, however that ends. ``guests_outlive`` leaves
    guests running when our process dies without ``stop()``; the next start on
    the same ``state`` finds them again. ``name`` has it be another host, to
    which guests that run can be sent. ``certificates`` is a directory with
    what QEMU proves itself with when guests are sent encrypted, in files of
    libvirt's names: it reads them each time. Either way what a former one
    left behind is taken over, not doubled.
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
    if name is not None:
        argv += ["--name", name]
    if certificates is not None:
        argv += ["--certificates", str(certificates.resolve())]
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


def _ask(uri: str, place: Path | None = None) -> None:
    """Raise HypervisorDown unless a libvirt with a qemu driver answers.

    With ``place``, its guests must be able to reach that directory, too.
    """
    connection = Connection(uri)
    try:
        capabilities = str(connection.call(uri, lambda live: live.getCapabilities()))
    finally:
        connection.close()
    if place is not None:
        _check_reachable(place, ElementTree.fromstring(capabilities))  # noqa: S314 - from libvirt itself


def _check_reachable(place: Path, capabilities: ElementTree.Element) -> None:
    """Raise HypervisorDown when the user that guests run as can't come to ``place``.

    The system's libvirt runs guests as a user without rights of its own, for
    whom a clone in somebody's home directory may be out of reach.
    """
    for model in capabilities.iterfind("host/secmodel"):
        label = model.findtext("baselabel[@type='qemu']", "")
        match = re.fullmatch(r"\+?(\d+):\+?(\d+)", label) if model.findtext("model") == "dac" else None
        if match is None or int(match[1]) == 0:
            continue
        uid, gid = int(match[1]), int(match[2])
        for folder in reversed([place.absolute(), *place.absolute().parents]):
            if folder.exists() and not _may_enter(folder.stat(), uid, gid):
                raise HypervisorDown(f"its guests run as user {uid}, who can't enter {folder}")


def _may_enter(found: os.stat_result, uid: int, gid: int) -> bool:
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
