"""What the tests of uploads in pieces share: clients, and a proxy that stops in the middle."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from tusclient.client import TusClient

from tests.server_fixtures import Server

NODE = Path(sys.prefix) / "node" / "node_modules"
SCRIPT = Path(__file__).with_name("tus_client.cjs")
PART = 8 << 20
TUS = {"Tus-Resumable": "1.0.0"}
OFFSET_OCTETS = "application/offset+octet-stream"

needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "tus-js-client").is_dir(),
    reason="needs node, and tus-js-client, which `tools/prepare test` installs where there is npm",
)


def create(server: Server | Proxy, **values: object) -> str:
    """Create an image and return its id."""
    body = {"disk_format": "raw", "container_format": "bare", **values}
    made = requests.post(f"{server.url}/v2/images", json=body, timeout=60)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def uploads_url(server: Server | Proxy, image_id: str) -> str:
    """Return where uploads to an image are begun."""
    return f"{server.url}/v2/images/{image_id}/uploads"


def begin(server: Server | Proxy, image_id: str, length: int | None = None, **headers: str) -> str:
    """Begin an upload and return its URL."""
    told = {"Upload-Length": str(length)} if length is not None else {"Upload-Defer-Length": "1"}
    made = requests.post(uploads_url(server, image_id), headers={**TUS, **told, **headers}, timeout=60)
    assert made.status_code == 201, made.text
    return made.headers["Location"]


def send(url: str, offset: int, data: bytes, **headers: str) -> requests.Response:
    """Send a piece."""
    told = {**TUS, "Upload-Offset": str(offset), "Content-Type": OFFSET_OCTETS, **headers}
    return requests.patch(url, data=data, headers=told, timeout=120)


def offset_of(url: str) -> int:
    """Ask how much is there."""
    told = requests.head(url, headers=TUS, timeout=60)
    assert told.status_code == 200, told.status_code
    return int(told.headers["Upload-Offset"])


def record(server: Server | Proxy, image_id: str) -> dict[str, Any]:
    """Return an image's record."""
    found: dict[str, Any] = requests.get(f"{server.url}/v2/images/{image_id}", timeout=60).json()
    return found


def assert_active(server: Server | Proxy, image_id: str, data: bytes) -> None:
    """Check status, digest and bytes of an image, and that nothing is left of how it came."""
    found = record(server, image_id)
    assert (found["status"], found["size"]) == ("active", len(data))
    assert found["os_hash_value"] == hashlib.sha256(data).hexdigest()
    assert not [name for name in found if name.startswith("os_glance_")]
    assert requests.get(f"{server.url}/v2/images/{image_id}/file", timeout=120).content == data


def files(server: Server) -> list[str]:
    """List every file that the stores of a server hold: blobs, parts, what is being written."""
    state = server.config_file.parent
    kept = [state / "images", state / "staging"]
    return sorted(str(path.relative_to(state)) for top in kept for path in top.rglob("*") if path.is_file())


class _Kept(io.BytesIO):
    """A file for tuspy, which closes what it goes on to read, and leaves open what it has opened."""

    def close(self) -> None:
        pass


def tuspy(endpoint: str, path: Path, **options: Any) -> Any:
    """Return an uploader of tuspy."""
    return TusClient(endpoint).uploader(file_stream=_Kept(path.read_bytes()), **options)


def states(server: Server) -> dict[str, str]:
    """Read from the database how far the upload to each image is."""
    with closing(sqlite3.connect(server.config_file.parent / "glancelike.db", timeout=30)) as database:
        return defaultdict(str, database.execute("SELECT image_id, state FROM uploads").fetchall())


def parts_recorded(server: Server) -> int:
    """Read from the database how many parts all uploads have."""
    with closing(sqlite3.connect(server.config_file.parent / "glancelike.db")) as database:
        return int(database.execute("SELECT coalesce(sum(parts), 0) FROM uploads").fetchone()[0])


def tus_js(endpoint: str, path: Path, **options: Any) -> dict[str, Any]:
    """Upload with tus-js-client; return its URL, or the status that it failed with."""
    given = json.dumps({"endpoint": endpoint, "file": str(path), **options})
    done = subprocess.run(
        ["node", str(SCRIPT), given],
        env={**os.environ, "NODE_PATH": str(NODE)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.stdout, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


class Proxy:
    """Passes connections on to a server, and can stop after so many bytes.

    ``sent`` counts what the clients have sent in all.
    """

    def __init__(self, server: Server) -> None:
        self.target = server.port
        self.sent = 0
        self.stop_at: int | None = None
        self.stopped = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End all connections, and take no more."""
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End all connections that there are."""
        opened, self._open = self._open, []
        for each in opened:
            with _gone():
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            self._open += [client, server]
            for source, target, counts in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=(source, target, counts), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with _gone():
            while True:
                most = 65536
                if counts and self.stop_at is not None:
                    most = min(most, self.stop_at - self.sent)
                    if most <= 0:
                        self.stopped.set()
                        return
                block = source.recv(most)
                if not block:
                    target.shutdown(socket.SHUT_WR)
                    return
                try:
                    target.sendall(block)
                except OSError:
                    source.shutdown(socket.SHUT_RDWR)  # nobody reads it any more
                    return
                if counts:
                    self.sent += len(block)


class _gone:
    """A peer that is gone is no news here."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return isinstance(error, OSError)


def in_thread(call: Callable[[], object]) -> threading.Thread:
    """Run something that may fail beside the test."""

    failures: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:  # the test looks at what came of it
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
