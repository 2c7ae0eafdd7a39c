"""The NBD server, with QEMU's and libnbd's clients and with one that misbehaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from novalite.bases.nbd import NbdServer
from novalite.virt.base import NbdExport
from tests.waiting import until

DATA = os.urandom((3 << 20) + 512)
NAME = "base.secret"


class Export:
    """Bytes in memory; those from ``held`` on have to be waited for, those of ``broken`` can't be read."""

    size = len(DATA)

    def __init__(self) -> None:
        self.held = self.size
        self.broken = range(0)
        self.free = threading.Event()

    def has(self, offset: int, length: int) -> bool:
        return offset + length <= self.held

    def read(self, offset: int, length: int) -> bytes:
        if not self.has(offset, length):
            self.free.wait()
        if offset in self.broken:
            raise OSError(errno.EIO, "broken")
        return DATA[offset : offset + length]


@pytest.fixture
def export() -> Export:
    return Export()


@pytest.fixture
def server(short_dir: Path, export: Export) -> Iterator[NbdServer]:
    made = NbdServer(short_dir / "nbd", {NAME: export}.get)
    made.open()
    yield made
    export.free.set()
    made.close()


@pytest.fixture
def url(server: NbdServer, short_dir: Path) -> str:
    return NbdExport(short_dir / "nbd", NAME).url


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("nbdcopy") is None, reason="libnbd-bin isn't installed")
def test_libnbd_reads_all(url: str, tmp_path: Path) -> None:
    told = json.loads(run("nbdinfo", "--json", url))
    assert told["protocol"] == "newstyle-fixed"
    (export,) = told["exports"]
    assert export["export-size"] == len(DATA)
    assert export["is_read_only"]
    assert export["can_multi_conn"]
    run("nbdcopy", url, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == DATA


@pytest.mark.libvirt
@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="QEMU isn't installed")
def test_qemu_reads_all(url: str, tmp_path: Path) -> None:
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", url, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes()[: len(DATA)] == DATA
    (extent,) = json.loads(run("qemu-img", "map", "--output=json", "-f", "raw", url))
    assert extent["data"]


@pytest.mark.libvirt
@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="QEMU isn't installed")
def test_qemu_cant_write(url: str) -> None:
    done = subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "write 0 512", url], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0


class Client:
    """Speaks the protocol byte by byte."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        assert self.take(18) == b"NBDMAGICIHAVEOPT\0\3"
        self.socket.sendall(struct.pack(">I", 3))

    def take(self, length: int) -> bytes:
        return self.socket.recv(length, socket.MSG_WAITALL) if length else b""

    def option(self, option: int, data: bytes = b"") -> int:
        """Send an option; return the type of the last reply to it."""
        self.socket.sendall(struct.pack(">8sII", b"IHAVEOPT", option, len(data)) + data)
        while True:
            magic, same, kind, length = struct.unpack(">QIII", self.take(20))
            assert (magic, same) == (0x3E889045565A9, option)
            self.take(length)
            if kind != 3:
                return int(kind)

    def go(self, name: str = NAME) -> int:
        return self.option(7, struct.pack(">I", len(name)) + name.encode() + struct.pack(">H", 0))

    def send(self, kind: int, cookie: int, offset: int, length: int, data: bytes = b"") -> None:
        self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, kind, cookie, offset, length) + data)

    def answer(self) -> tuple[int, int]:
        """Return error and cookie of the next reply, whose data is still to be taken."""
        magic, failed, cookie = struct.unpack(">IIQ", self.take(16))
        assert magic == 0x67446698
        return failed, cookie

    def hung_up(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def client(server: NbdServer, short_dir: Path) -> Iterator[Client]:
    made = Client(short_dir / "nbd")
    yield made
    made.socket.close()


def test_names_arent_told_and_unknown_ones_not_served(client: Client) -> None:
    assert client.option(3) == 0x80000002
    assert client.go("base.guess") == 0x80000006
    assert client.option(8) == 0x80000001  # structured replies
    assert client.option(7, b"\0\0\1\0short") == 0x80000003
    assert client.go() == 1


def test_what_cant_be_read_is_an_error_and_no_more(client: Client, export: Export) -> None:
    export.broken = range(5, 6)
    assert client.go() == 1
    for kind, offset, length, data, failed in (
        (0, export.size - 1, 2, b"", errno.EINVAL),
        (0, 5, 1, b"", errno.EIO),
        (1, 0, 4, b"xxxx", errno.EPERM),
        (6, 0, 4, b"", errno.EINVAL),
        (3, 0, 0, b"", 0),
    ):
        client.send(kind, 7, offset, length, data)
        assert client.answer() == (failed, 7)
    client.send(0, 8, 1, 9)
    assert client.answer() == (0, 8)
    assert client.take(9) == DATA[1:10]


def test_a_read_that_waits_holds_no_other_up(client: Client, export: Export) -> None:
    export.held = 1000
    assert client.go() == 1
    client.send(0, 1, 2000, 10)
    client.send(0, 2, 0, 10)
    assert client.answer() == (0, 2)
    assert client.take(10) == DATA[:10]
    export.free.set()
    assert client.answer() == (0, 1)
    assert client.take(10) == DATA[2000:2010]


def test_who_speaks_no_nbd_is_hung_up_on(client: Client, server: NbdServer) -> None:
    client.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert client.hung_up()
    until(lambda: not server.clients())


def test_clients_are_counted(client: Client, server: NbdServer, export: Export) -> None:
    assert client.go() == 1
    until(lambda: server.clients(export) == 1)
    client.send(2, 0, 0, 0)
    assert client.hung_up()
    until(lambda: not server.clients())
