"""Sockets of the server: a peer that stalls is a peer that is gone."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from glancelike.web import serve


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> tuple[socket.socket, socket.socket]:
    monkeypatch.setattr(serve, "STALL_SECONDS", 0.2)
    near, far = socket.socketpair()
    ours = serve._Socket(near.family, near.type, near.proto, fileno=near.detach())
    ours.setblocking(True)
    return ours, far


def test_reading_from_a_silent_peer_ends(pair: tuple[socket.socket, socket.socket]) -> None:
    with pair[0] as ours, pair[1] as far:
        far.sendall(b"abc")
        assert ours.recv(10) == b"abc"
        with pytest.raises(ConnectionResetError, match="the peer stalled"):
            ours.recv(10)


def test_writing_to_a_peer_that_takes_nothing_ends(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    with pair[0] as ours, pair[1]:
        with pytest.raises(ConnectionResetError):
            ours.sendall(b"x" * 10_000_000)
        big = tmp_path / "big"
        big.write_bytes(b"x" * 10_000_000)
        with big.open("rb") as file, pytest.raises(ConnectionResetError):
            ours.sendfile(file, offset=0, count=10_000_000)
