"""A read-only NBD server on a unix socket.

Fixed newstyle handshake and simple replies, as
https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md has them. What can
be answered at once is, in the connection's own thread; reads that have to wait
do so in others, so that they hold nobody up. Names are secrets: they aren't listed.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

LOG = logging.getLogger(__name__)

_INIT = b"NBDMAGIC"
_OPTION = b"IHAVEOPT"
_REPLY_MAGIC = 0x3E889045565A9
_REQUEST_MAGIC = 0x25609513
_SIMPLE_MAGIC = 0x67446698

_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_HAS_FLAGS, _READ_ONLY, _MULTI_CONN = 1, 2, 1 << 8
_EXPORT_FLAGS = _HAS_FLAGS | _READ_ONLY | _MULTI_CONN

_OPT_EXPORT_NAME, _OPT_ABORT, _OPT_LIST, _OPT_INFO, _OPT_GO = 1, 2, 3, 6, 7
_REP_ACK, _REP_INFO = 1, 3
_REP_ERR_UNSUP, _REP_ERR_POLICY, _REP_ERR_INVALID, _REP_ERR_UNKNOWN = (1 << 31 | n for n in (1, 2, 3, 6))
_INFO_EXPORT, _INFO_BLOCK_SIZE = 0, 3
_CMD_READ, _CMD_WRITE, _CMD_DISC, _CMD_FLUSH = 0, 1, 2, 3

_REQUEST = struct.Struct(">IHHQQI")
_LARGEST = 32 << 20  # bytes of one read, as clients are told
_LARGEST_OPTION = 8 << 10
_BLOCK_SIZES = (1, 64 << 10, _LARGEST)
_WAITERS = 64


class Export(Protocol):
    """What is served under a name."""

    size: int

    def has(self, offset: int, length: int) -> bool:
        """Tell whether a read is answered without waiting."""

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes inside the export; an OSError is the guest's read error."""


class _GoneError(Exception):
    """The client has gone, or says what nobody understands."""


class NbdServer:
    """Serves what ``find`` knows: it maps a name to an export, or to None."""

    def __init__(self, path: Path, find: Callable[[str], Export | None]) -> None:
        self._path = path
        self._find = find
        self._listener: socket.socket | None = None
        self._clients: dict[socket.socket, Export | None] = {}
        self._lock = threading.Lock()
        self._waiters = ThreadPoolExecutor(_WAITERS, thread_name_prefix="nbd-read")

    def open(self) -> None:
        """Listen; who has the directory's lock takes the socket's name over."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._path))
        self._path.chmod(0o666)  # QEMU runs as a user of its own; a name is what it needs
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="nbd-accept", daemon=True).start()

    def close(self) -> None:
        """End all connections."""
        if self._listener is not None:
            _shut(self._listener)
        with self._lock:
            for client in self._clients:
                _shut(client)
        self._waiters.shutdown(wait=False, cancel_futures=True)

    def clients(self, export: Export | None = None) -> int:
        """Count the connections, those to one export or all."""
        with self._lock:
            found = self._clients.values()
            return len(found) if export is None else sum(each is export for each in found)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError), listener:
            while True:
                client, _ = listener.accept()
                with self._lock:
                    self._clients[client] = None
                threading.Thread(target=self._serve, args=(client,), name="nbd-client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            export = self._shake_hands(client)
            if export is not None:
                with self._lock:
                    self._clients[client] = export
                self._transmit(client, export)
        except (_GoneError, OSError) as error:
            LOG.debug("a client has gone: %s", error)
        except Exception:
            LOG.exception("a client's request went wrong")
        finally:
            with self._lock:
                self._clients.pop(client, None)
            client.close()

    # -- handshake ------------------------------------------------------------

    def _shake_hands(self, client: socket.socket) -> Export | None:
        """Agree upon an export; None when the client wants none after all."""
        client.sendall(_INIT + _OPTION + struct.pack(">H", _FIXED_NEWSTYLE | _NO_ZEROES))
        (flags,) = struct.unpack(">I", _receive(client, 4))
        if not flags & _FIXED_NEWSTYLE or flags & ~(_FIXED_NEWSTYLE | _NO_ZEROES):
            raise _GoneError(f"it wants handshake flags {flags:#x}")
        while True:
            magic, option, length = struct.unpack(">8sII", _receive(client, 16))
            if magic != _OPTION or length > _LARGEST_OPTION:
                raise _GoneError("that is no option")
            data = _receive(client, length)
            if option == _OPT_EXPORT_NAME:
                return self._by_name(client, data, padded=not flags & _NO_ZEROES)
            if option == _OPT_ABORT:
                _reply(client, option, _REP_ACK)
                return None
            if option in (_OPT_INFO, _OPT_GO):
                export = self._told(client, option, data)
                if export is not None and option == _OPT_GO:
                    return export
            elif option == _OPT_LIST:
                _reply(client, option, _REP_ERR_POLICY, b"the names aren't told")
            else:
                _reply(client, option, _REP_ERR_UNSUP)

    def _by_name(self, client: socket.socket, name: bytes, *, padded: bool) -> Export:
        """Answer the old way to ask, which has no way to refuse."""
        export = self._find(name.decode(errors="replace"))
        if export is None:
            raise _GoneError("there is no such export")
        client.sendall(struct.pack(">QH", export.size, _EXPORT_FLAGS) + b"\0" * (124 if padded else 0))
        return export

    def _told(self, client: socket.socket, option: int, data: bytes) -> Export | None:
        """Tell about an export; None when it's refused."""
        try:
            (length,) = struct.unpack_from(">I", data)
            name = data[4 : 4 + length]
            (count,) = struct.unpack_from(">H", data, 4 + length)
            if len(name) != length or len(data) != 6 + length + 2 * count:
                raise struct.error
        except struct.error:
            _reply(client, option, _REP_ERR_INVALID)
            return None
        export = self._find(name.decode(errors="replace"))
        if export is None:
            _reply(client, option, _REP_ERR_UNKNOWN, b"there is no such export")
            return None
        _reply(client, option, _REP_INFO, struct.pack(">HQH", _INFO_EXPORT, export.size, _EXPORT_FLAGS))
        _reply(client, option, _REP_INFO, struct.pack(">HIII", _INFO_BLOCK_SIZE, *_BLOCK_SIZES))
        _reply(client, option, _REP_ACK)
        return export

    # -- transmission -----------------------------------------------------------

    def _transmit(self, client: socket.socket, export: Export) -> None:
        sending = threading.Lock()
        while True:
            magic, _flags, kind, cookie, offset, length = _REQUEST.unpack(_receive(client, _REQUEST.size))
            if magic != _REQUEST_MAGIC:
                raise _GoneError("that is no request")
            if kind == _CMD_DISC:
                return
            if kind == _CMD_READ:
                if length > _LARGEST or offset + length > export.size:
                    _answer(client, sending, cookie, errno.EINVAL)
                elif export.has(offset, length):
                    _read(client, sending, export, cookie, offset, length)
                else:
                    self._waiters.submit(_read, client, sending, export, cookie, offset, length)
            elif kind == _CMD_WRITE:
                if length > _LARGEST:
                    raise _GoneError("it writes more than is taken")
                _receive(client, length)
                _answer(client, sending, cookie, errno.EPERM)
            elif kind == _CMD_FLUSH:
                _answer(client, sending, cookie, 0)
            else:
                _answer(client, sending, cookie, errno.EINVAL)


def _read(
    client: socket.socket, sending: threading.Lock, export: Export, cookie: int, offset: int, length: int
) -> None:
    try:
        data, failed = export.read(offset, length), 0
    except OSError as error:
        LOG.warning("a guest's read of %d bytes from %d on failed: %s", length, offset, error)
        data, failed = b"", errno.EIO
    with suppress(OSError):  # gone: its own thread sees that
        _answer(client, sending, cookie, failed, data)


def _answer(
    client: socket.socket, sending: threading.Lock, cookie: int, failed: int, data: bytes = b""
) -> None:
    head = struct.pack(">IIQ", _SIMPLE_MAGIC, failed, cookie)
    with sending:
        if len(data) < 64 << 10:
            client.sendall(head + data)
        else:
            client.sendall(head)
            client.sendall(data)


def _reply(client: socket.socket, option: int, kind: int, data: bytes = b"") -> None:
    client.sendall(struct.pack(">QIII", _REPLY_MAGIC, option, kind, len(data)) + data)


def _receive(client: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = client.recv_into(view)
        if not count:
            raise _GoneError("it hung up")
        view = view[count:]
    return bytes(data)


def _shut(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
