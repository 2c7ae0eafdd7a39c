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
_PROCESSES = Path("/proc")
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
        for process in _emulators():
            links = dict(_open_files(process))
            if f"socket:[{inode}]" in links.values():
                return self._guest_of(links)
        return None

    def _guest_of(self, links: dict[Path, str]) -> str | None:
        """Tell whose root disk is among a process's open files."""
        found = {
            Path(target).parent.name
            for link, target in links.items()
            if Path(target).parent.parent == self._instances_path and self._is_disk(target) and _written(link)
        }
        return found.pop() if len(found) == 1 else None

    def _is_disk(self, target: str) -> bool:
        try:
            folder = self._instances_path / check_id(Path(target).parent.name)
        except InvalidInput:
            return False
        return Layout(folder).disk == Path(target)


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


def _emulators() -> Iterator[Path]:
    for process in _PROCESSES.iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                if (process / "comm").read_text().startswith(_NAMES):
                    yield process


def _open_files(process: Path) -> Iterator[tuple[Path, str]]:
    with contextlib.suppress(OSError):  # not ours to look at, or ended
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield link, str(link.readlink())


def _written(link: Path) -> bool:
    """Tell whether a file is open for writing: the kernel gives its link that mode."""
    try:
        return bool(link.lstat().st_mode & stat.S_IWUSR)
    except OSError:
        return False
