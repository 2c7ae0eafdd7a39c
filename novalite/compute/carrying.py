"""Disks on their way to another host: the old host gives, the new one fetches.

A disk is a file that needs no other, under a name that says whose it is. The
old host gives it by HTTP to whoever knows the secret that the server's record
has while it is on its way, so to those that may read the database; TLS keeps
it from others. Size and digest are in the record as well. The new host goes
on where it was cut short, and looks at every byte before it uses any.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.server
import logging
import re
import shutil
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import urllib3

from novalite.config import MigrationSettings
from novalite.db import Database
from novalite.errors import ConfigError, NotFound, Unavailable
from novalite.model import Server, TaskState
from novalite.virt.base import Snapshot

LOG = logging.getLogger(__name__)
_BLOCK = 1 << 20
_TRIES = 5
_REFUSAL_SECONDS = 2.0
_REFUSAL_READS = 16
_GIVEN = (TaskState.RESIZE_MIGRATED, TaskState.LIVE_PREPARING)
_RANGE = re.compile(r"bytes=(\d+)-")
Check = Callable[[], None]
#: The disks of a server, as its record and their places call them.
ROOT, EPHEMERAL = "disk", "ephemeral"


@dataclass(frozen=True, slots=True)
class Disk:
    """What a record says of a disk that is to be fetched; sizes in bytes."""

    format: str
    virtual_size: int
    size: int
    sha256: str
    secret: str


class Places:
    """Where disks on their way lie, beside the instances' own."""

    def __init__(self, instances_path: Path) -> None:
        self._folder = instances_path / "_moving"

    def leaving(self, server_id: str, which: str = ROOT) -> Path:
        return self._folder / (f"{server_id}.leaving" if which == ROOT else f"{server_id}.{which}.leaving")

    def arriving(self, server_id: str, disk: Disk) -> Path:
        """Name the file of this very move: one of an earlier isn't gone on with."""
        return self._folder / f"{server_id}.{hashlib.sha256(disk.secret.encode()).hexdigest()[:16]}.arriving"

    def all(self) -> dict[str, list[Path]]:
        """Map ids of servers to what is here of their disks."""
        found: dict[str, list[Path]] = {}
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                found.setdefault(path.name.partition(".")[0], []).append(path)
        return found

    def put(self, server_id: str, made: Snapshot, secret: str, check: Check, which: str = ROOT) -> Disk:
        """Take a snapshot as the disk that is given from now on."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        target = self.leaving(server_id, which)
        part = target.with_suffix(".part")
        shutil.move(made.path, part)
        digest = hashlib.sha256()
        with part.open("rb") as file:
            while block := file.read(_BLOCK):
                check()
                digest.update(block)
        size = part.stat().st_size
        part.replace(target)
        return Disk(made.format, made.virtual_size, size, digest.hexdigest(), secret)

    def make_room(self) -> None:
        """Make the directory."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o711)

    def drop(self, server_id: str) -> None:
        """Remove whatever is here of a server's disk on its way; nothing may be."""
        for path in self.all().get(server_id, ()):
            path.unlink(missing_ok=True)


def told(disk: Disk, which: str = ROOT) -> dict[str, Any]:
    """Return what a record keeps of a disk."""
    return {which: asdict(disk)}


def disk_of(server: Server, which: str = ROOT) -> Disk:
    """Return a disk that a server's record tells of."""
    return Disk(**server.task_args[which])


class DiskServer:
    """Gives the disks of servers that leave this host; ``url`` is known when it is open."""

    def __init__(
        self, settings: MigrationSettings, host: str, my_ip: str, database: Database, places: Places
    ):
        self._settings = settings
        self._host = host
        self._address = my_ip
        self._database = database
        self._places = places
        self._server: _Server | None = None
        self.url = ""

    def open(self) -> None:
        """Listen; raise ConfigError where that can't be."""
        told, scheme = self._settings, "http"
        if bool(told.cert) != bool(told.key):
            raise ConfigError("[migration] cert and key need each other")
        try:
            server = _Server((told.listen, told.port), self._find)
            if told.cert:
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=told.cafile)
                context.load_cert_chain(told.cert, told.key)
                if told.cafile:
                    context.verify_mode = ssl.CERT_REQUIRED  # only hosts of these are given any
                # The handshake is the handler's: a silent client mustn't keep others out.
                server.context, scheme = context, "https"
        except OSError as error:
            raise ConfigError(f"[migration] listen {told.listen}, port {told.port}: {error}") from error
        name = f"[{self._address}]" if ":" in self._address else self._address
        self.url = f"{scheme}://{name}:{server.server_address[1]}"
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.1,), name="disks", daemon=True).start()

    def close(self) -> None:
        """Stop listening; what is being given breaks off."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def _find(self, server_id: str, which: str, secret: str) -> Path | None:
        """Return the file of a server's disk, None for those that may not have it."""
        if which not in (ROOT, EPHEMERAL):
            return None
        server = self._database.servers.find([server_id]).get(server_id)
        if server is None or server.task_state not in _GIVEN:
            return None
        if server.task_args["source_host"] != self._host or not server.task_args.get(which):
            return None
        known = disk_of(server, which).secret
        return self._places.leaving(server_id, which) if hmac.compare_digest(known, secret) else None


def _path(server_id: str, which: str) -> str:
    return f"/disks/{server_id}" if which == ROOT else f"/disks/{server_id}/{which}"


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], find: Callable[[str, str, str], Path | None]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.find = find
        self.context: ssl.SSLContext | None = None
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without looking one's own name up, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; by TLS it is the handler that shakes hands."""
        connection, address = super().get_request()
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log it shortly: who breaks off comes again."""
        LOG.info("a disk was being given to %s when that broke off", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60.0
    server: _Server

    def setup(self) -> None:
        """Shake hands first, on this thread."""
        if self.server.context is not None:
            self.request.settimeout(self.timeout)
            try:
                self.request.do_handshake()
            except ssl.SSLError as error:
                LOG.warning("%s isn't given any disk: %s", self.client_address[0], error)
                _hear_out(self.request)
                raise
        super().setup()

    def do_GET(self) -> None:
        """Give the rest of a disk, from where the client says."""
        self.close_connection = True
        place, server_id, which, *_ = *self.path.strip("/").split("/"), "", ""
        secret = self.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            path = self.server.find(server_id, which or ROOT, secret) if place == "disks" else None
        except Exception as error:  # noqa: BLE001 - the database is away, most likely
            LOG.warning("a disk can't be given now: %s", error)
            self.send_error(503)
            return
        if path is None:
            self.send_error(403)
            return
        try:
            file = path.open("rb")
        except FileNotFoundError:
            self.send_error(404)
            return
        with file:
            found = _RANGE.fullmatch(self.headers.get("Range", "bytes=0-"))
            size = path.stat().st_size
            begin = min(int(found[1]), size) if found else 0
            file.seek(begin)
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(size - begin))
            self.send_header("Content-Type", "application/octet-stream")
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
            self.end_headers()
            shutil.copyfileobj(file, self.wfile, _BLOCK)

    def log_message(self, format: str, *args: Any) -> None:
        """Log as everything else does."""
        LOG.info("disks: %s: %s", self.client_address[0], format % args)


def _hear_out(connection: socket.socket) -> None:
    """Read what a refused client sends, until it has read why it was refused.

    Closed at once, with that unread, the connection would be reset, and the reason lost.
    """
    with contextlib.suppress(OSError):
        connection.settimeout(_REFUSAL_SECONDS)
        connection.shutdown(socket.SHUT_WR)  # which ends TLS, too: what is read is thrown away
        for _ in range(_REFUSAL_READS):
            if not connection.recv(_BLOCK):
                break


class DiskFetcher:
    """Fetches disks from other hosts."""

    def __init__(self, settings: MigrationSettings) -> None:
        self._settings = settings

    def fetch(
        self,
        where: Callable[[], str],
        server_id: str,
        disk: Disk,
        target: Path,
        check: Check,
        which: str = ROOT,
    ) -> None:
        """Write a disk to a file, going on behind what is there.

        ``where`` tells the URL of the old host's DiskServer, which may become
        another when that is started again. ``check`` is called between blocks;
        what it raises ends the transfer. Raises Unavailable, also when the
        bytes are others than those told of, and NotFound when the old host
        hasn't the disk any more.
        """
        told = self._settings
        ours = {"cert_file": told.cert, "key_file": told.key, "ca_certs": told.cafile}
        certificates: Mapping[str, Any] = {name: path for name, path in ours.items() if path}
        with urllib3.PoolManager(retries=False, timeout=told.timeout, **certificates) as http:
            for last in range(_TRIES, -1, -1):
                check()
                url = where()
                try:
                    self._rest(http, url + _path(server_id, which), disk, target, check)
                    break
                except (urllib3.exceptions.SSLError, ssl.SSLError) as error:
                    raise Unavailable(
                        f"the disk of {server_id} can't be fetched from {url}: {error}; both hosts' "
                        "[migration] cert and cafile have to agree"
                    ) from error
                except (urllib3.exceptions.HTTPError, OSError) as error:
                    if not last:
                        raise Unavailable(
                            f"the disk of {server_id} can't be fetched from {url}: {error}"
                        ) from error
                    LOG.info("server %s: %s; trying again", server_id, error)
                    threading.Event().wait((_TRIES - last) * 0.5)
        with target.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == disk.sha256:
                return
        target.unlink()
        raise Unavailable(f"the disk of {server_id} from {url} isn't what its host gave away")

    def _rest(self, http: urllib3.PoolManager, url: str, disk: Disk, target: Path, check: Check) -> None:
        """Fetch what isn't here yet; raise HTTPError or OSError where it breaks off."""
        with target.open("ab") as file:
            begin = file.tell()
            if begin > disk.size:
                file.truncate(0)
                begin = 0
            if begin == disk.size:
                return
            headers = {"Authorization": f"Bearer {disk.secret}", "Range": f"bytes={begin}-"}
            answer = http.request("GET", url, headers=headers, preload_content=False)
            try:
                if answer.status in (403, 404):
                    raise NotFound(f"{url}: HTTP {answer.status}: the disk isn't given there any more")
                if answer.status != (206 if begin else 200):
                    raise urllib3.exceptions.HTTPError(f"HTTP {answer.status}")
                for block in answer.stream(_BLOCK):
                    check()
                    file.write(block)
            finally:
                answer.close()
            if file.tell() != disk.size:
                raise urllib3.exceptions.HTTPError(f"{file.tell()} of {disk.size} bytes came")
