"""169.254.169.254 on this machine, for as long as guests may ask there.

QEMU's own address translation connects from this machine wherever a guest
connects to. So that a guest reaches the metadata service the address has to
be here; but on a machine of a cloud it is that cloud's, and must stay so.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

ADDRESS = "169.254.169.254"
PORT = 80
_DEVICE = "lo"
_ANSWER_SECONDS = 0.5


def hindrance() -> str | None:
    """Tell why the address can't be had here, None when it can."""
    if os.geteuid() != 0:
        return "that takes root"
    if shutil.which("ip") is None:
        return "iproute2 isn't installed"
    with socket.socket() as probe:
        probe.settimeout(_ANSWER_SECONDS)
        if probe.connect_ex((ADDRESS, PORT)) == 0:
            return f"something answers at {ADDRESS} already, as on a cloud's own machine"
    return None


def take() -> None:
    """Give this machine the address; one left by a killed run is taken over."""
    _ip("replace")


def give_back() -> None:
    """Take the address away."""
    _ip("del")


def _ip(what: str) -> None:
    subprocess.run(["ip", "address", what, f"{ADDRESS}/32", "dev", _DEVICE], check=False)
