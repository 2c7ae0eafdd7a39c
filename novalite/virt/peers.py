"""Whose guest is at the other end of a connection, by what the kernel knows.

A guest behind the hypervisor's own address translation (``user`` networking)
has no address that anybody could know it by: its QEMU makes each of its
connections. So the kernel is asked which process that socket belongs to, and
which guest's disk that process has open for writing. Nothing that a guest, or
another user of this host, can send or forge has a part in it: nobody else may
open the disk so.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from novalite.errors import InvalidInput
from novalite.virt.domain import Layout, check_id

Address = tuple[str, int]

_TCP = Path("/proc/net/tcp")
_PROCESSES = "/proc"
# What QEMU calls itself: a shortcut past all other processes, and no proof of anything.
_NAMES = ("qemu", "kvm")
_LOCAL, _REMOTE, _INODE = 1, 2, 9  # columns of /proc/net/tcp; proc_net_tcp.txt of the kernel


class GuestSockets:
    """Finds the guests of this host's ``user`` network; thread-safe."""

    def __init__(self, instances_path: Path) -> None:
        self._instances_path = Path(os.path.realpath(instances_path))

    def holder(self, ours: Address, theirs: Address) -> str | None:
        """Return the id of the guest that connects from ``theirs`` to ``ours``.

        None when it is no guest of this host, or we mayn't look: that takes
        root, or the user that QEMU runs as.
        """
        inode = _inode_of(local=theirs, remote=ours)
        if inode is None:
            return None
        wanted = f"socket:[{inode}]"
        for process in _emulators():
            files = list(_open_files(process))
            if any(target == wanted for _, target in files):
                return self._guest_of(files)
        return None

    def _guest_of(self, files: list[tuple[str, str]]) -> str | None:
        """Tell whose root disk is among a process's open files."""
        below = f"{self._instances_path}/"
        disks = {target for link, target in files if target.startswith(below) and _written(link)}
        found = {Path(disk).parent.name for disk in disks if self._is_root_disk(Path(disk))}
        return found.pop() if len(found) == 1 else None

    def _is_root_disk(self, path: Path) -> bool:
        try:
            folder = self._instances_path / check_id(path.parent.name)
        except InvalidInput:
            return False
        return Layout(folder).disk == path


def _inode_of(local: Address, remote: Address) -> int | None:
    """Return the inode of the socket at the other end; None when it's closed already."""
    wanted = (_kernels(local), _kernels(remote))
    if None in wanted:
        return None
    with _TCP.open() as table:
        for line in table:
            columns = line.split()
            if (columns[_LOCAL], columns[_REMOTE]) == wanted:
                return int(columns[_INODE]) or None
    return None


def _kernels(address: Address) -> str | None:
    """Write an IPv4 address and a port as the kernel does; None for other addresses."""
    try:
        (number,) = struct.unpack("=I", socket.inet_pton(socket.AF_INET, address[0]))
    except OSError:
        return None
    return f"{number:08X}:{address[1]:04X}"


# All of a host's emulators are gone through, so no Path is made of each file.


def _emulators() -> Iterator[str]:
    with os.scandir(_PROCESSES) as processes:
        for process in processes:
            if process.name.isdigit():
                with contextlib.suppress(OSError):  # it ended meanwhile
                    if Path(process.path, "comm").read_text().startswith(_NAMES):
                        yield process.path


def _open_files(process: str) -> Iterator[tuple[str, str]]:
    with contextlib.suppress(OSError), os.scandir(f"{process}/fd") as links:  # or not ours to look at
        for link in links:
            with contextlib.suppress(OSError):
                yield link.path, os.readlink(link.path)  # noqa: PTH115 - see above


def _written(link: str) -> bool:
    """Tell whether a file is open for writing: the kernel gives its link that mode."""
    try:
        return bool(os.lstat(link).st_mode & stat.S_IWUSR)
    except OSError:
        return False
