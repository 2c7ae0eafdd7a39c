"""Whose guest a connection is: asked of the real kernel, with processes that do as QEMU does."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from novalite.virt.peers import GuestSockets

CHILD = """
import os, socket, sys
disk, mode, port = sys.argv[1:]
opened = os.open(disk, os.O_RDWR if mode == "w" else os.O_RDONLY)
connected = socket.create_connection(("127.0.0.1", int(port)))
connected.recv(1)  # until the test has looked
"""


class Guests:
    """A directory of instances, a service, and what connects to it."""

    def __init__(self, directory: Path, listener: socket.socket) -> None:
        self.directory = directory
        self.sockets = GuestSockets(directory)
        self._listener = listener
        self.emulator = directory.parent / "qemu-system-test"
        self.emulator.symlink_to(sys.executable)

    def disk(self, name: str = "disk.qcow2", instance: str | None = None) -> Path:
        path = self.directory / (instance or str(uuid.uuid4())) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    @contextlib.contextmanager
    def connection(self, disk: Path, mode: str = "w", program: Path | None = None) -> Iterator[str | None]:
        """Have a process connect that has a disk open; yield whom the kernel's word names."""
        port = str(self._listener.getsockname()[1])
        argv = [str(program or self.emulator), "-S", "-c", CHILD, str(disk), mode, port]
        with subprocess.Popen(argv) as child:
            accepted, _ = self._listener.accept()
            with accepted:
                yield self.sockets.holder(accepted.getsockname(), accepted.getpeername())
            assert child.wait(30) == 0


@pytest.fixture
def guests(tmp_path: Path) -> Iterator[Guests]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Guests(tmp_path / "instances", listener)


def test_the_guest_is_whose_disk_the_process_writes(guests: Guests) -> None:
    others = guests.disk()
    for _ in range(2):
        disk = guests.disk()
        with guests.connection(disk) as found:
            assert found == disk.parent.name != others.parent.name


def test_reading_a_disk_makes_nobody_its_guest(guests: Guests) -> None:
    with guests.connection(guests.disk(), mode="r") as found:
        assert found is None


def test_only_a_root_disk_of_this_host_counts(guests: Guests, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / str(uuid.uuid4()) / "disk.qcow2"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.touch()
    for disk in (guests.disk("config.iso"), guests.disk(instance="not-a-uuid"), elsewhere):
        with guests.connection(disk) as found:
            assert found is None, disk


def test_a_process_that_is_no_emulator_is_no_guest(guests: Guests) -> None:
    with guests.connection(guests.disk(), program=Path(sys.executable)) as found:
        assert found is None


def test_nobody_is_found_behind_a_connection_that_isnt_there(guests: Guests) -> None:
    with guests.connection(guests.disk()):
        assert guests.sockets.holder(("127.0.0.1", 1), ("127.0.0.1", 2)) is None
        assert guests.sockets.holder(("::1", 1), ("::1", 2)) is None
