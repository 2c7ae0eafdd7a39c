"""Imports through real servers and workers, some of which are killed."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pytest

from tests import warm
from tests.leases import run_out
from tests.server_fixtures import Server, command
from tests.waiting import wait_for
from tests.web_server import Request, reply, web_server

DATA = random.Random(3).randbytes(6 << 20)
ANYWHERE = "[import_filtering_opts]\nallowed_ports =\nallowed_networks = 127.0.0.0/8\n"
QUICK = "reap_interval = 1\n"
WORKERS_ONLY = f"{QUICK}[task]\ntask_workers = 0\ntask_poll_interval = 0.3\n{ANYWHERE}"


@dataclass
class Peer:
    """A web server's one file, as slow as wanted, that can break off once."""

    url: str = ""
    pace: float = 0.0  # seconds for each 64 KiB
    break_after: int | None = None  # bytes
    ranges: list[str | None] = field(default_factory=list)

    def __call__(self, request: Request, out: BinaryIO) -> bool:
        asked = request.headers.get("range")
        self.ranges.append(asked)
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked else 0  # type: ignore[index]
        headers = {"ETag": '"v1"', "Content-Length": str(len(DATA) - start)}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
        reply(out, 206 if asked else 200, headers)
        for at in range(start, len(DATA), 65536):
            time.sleep(self.pace)
            out.write(DATA[at : at + 65536])
            if self.break_after is not None and at - start >= self.break_after:
                self.break_after = None
                return False
        return True


@pytest.fixture
def peer() -> Iterator[Peer]:
    with web_server() as server:
        disk = Peer(server.url("/disk"))
        server.answers["/disk"] = disk
        yield disk


class Client:
    """The Image API of a server, as few lines as tests need."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def ask(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        try:
            sent = body if isinstance(body, bytes) or body is None else json.dumps(body)
            headers = {"Accept": "application/json"}
            if body is not None:
                headers["Content-Type"] = kind
            connection.request(method, f"/v2{path}", sent, headers)
            answer = connection.getresponse()
            data = answer.read()
            is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
            return answer.status, json.loads(data) if is_json and data else data
        finally:
            connection.close()

    def create(self) -> str:
        status, image = self.ask("POST", "/images", {"disk_format": "raw", "container_format": "bare"})
        assert status == 201
        return str(image["id"])

    def stage(self, image_id: str, data: bytes = DATA) -> None:
        assert self.ask("PUT", f"/images/{image_id}/stage", data, "application/octet-stream")[0] == 204

    def start(self, image_id: str, method: str, **more: Any) -> int:
        stores = {name: more.pop(name) for name in ("all_stores", "stores") if name in more}
        body = {"method": {"name": method, **more}, **stores}
        return self.ask("POST", f"/images/{image_id}/import", body)[0]

    def image(self, image_id: str) -> dict[str, Any]:
        status, image = self.ask("GET", f"/images/{image_id}")
        assert status == 200
        return dict(image)

    def task(self, image_id: str) -> dict[str, Any]:
        return dict(self.ask("GET", f"/images/{image_id}/tasks")[1]["tasks"][0])

    def until(self, image_id: str, status: str, seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            image = self.image(image_id)
            if image["status"] == status and "os_glance_import_task" not in image:
                return image
            time.sleep(0.1)
        raise AssertionError(f"not {status}: {self.image(image_id)} {self.task(image_id)}")

    def ended(self, image_id: str) -> dict[str, Any]:
        """Return the image's newest task when it has ended, which is after the image has changed."""
        wait_for("the task's end", lambda: self.task(image_id)["status"] in ("success", "failure"))
        return self.task(image_id)

    def is_good(self, image_id: str) -> bool:
        image = self.image(image_id)
        status, data = self.ask("GET", f"/images/{image_id}/file")
        assert image["os_hash_value"] == hashlib.sha256(DATA).hexdigest()
        return status == 200 and data == DATA


@contextmanager
def worker(server: Server) -> Iterator[warm.Process]:
    """Run glancelike-worker beside a server."""
    log = server.config_file.with_name("worker.log")
    with log.open("ab") as output:
        process = warm.start(command(server.config_file, "glancelike-worker"), stdout=output, stderr=output)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        # One that ends before it has begun hasn't taken the signal over yet.
        assert process.wait(30) in (0, -signal.SIGKILL, -signal.SIGTERM), log.read_text()


def stored(server: Server) -> list[str]:
    """List the files of the file store and of the staging area."""
    state = server.config_file.parent
    return sorted(
        path.name
        for folder in ("images", "staging")
        for path in (state / folder).rglob("*")
        if path.is_file() and re.match(r"[0-9a-f]{8}-", path.name)
    )


def test_every_method_in_one_server(run_server: Callable[..., Server], peer: Peer) -> None:
    server = run_server(extra=QUICK + ANYWHERE)
    client = Client(server)
    assert client.ask("GET", "/info/import")[1]["import-methods"]["value"] == [
        "glance-direct",
        "web-download",
        "copy-image",
    ]
    direct = client.create()
    client.stage(direct)
    assert client.image(direct)["status"] == "uploading"
    assert client.start(direct, "glance-direct") == 202
    client.until(direct, "active")
    assert client.is_good(direct)
    assert client.start(direct, "copy-image", all_stores=True) == 202
    assert client.until(direct, "active")["stores"] == "disk,ram"
    web = client.create()
    digest = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    assert client.start(web, "web-download", uri=peer.url, digest=digest) == 202
    client.until(web, "active")
    assert client.is_good(web)
    assert client.ended(web)["status"] == "success"
    assert len(stored(server)) == 2


def test_wrong_digest_is_never_active(run_server: Callable[..., Server], peer: Peer) -> None:
    server = run_server(extra=QUICK + ANYWHERE)
    client = Client(server)
    image_id = client.create()
    assert client.start(image_id, "web-download", uri=peer.url, digest=f"sha256:{'0' * 64}") == 202
    image = client.until(image_id, "queued")
    assert (image["size"], image["os_glance_failed_import"]) == (None, "disk")
    assert "sha256" in client.ended(image_id)["message"]
    assert stored(server) == []
    for digest in ("sha256:12", "crc:12", "sha256", 7):
        assert client.start(image_id, "web-download", uri=peer.url, digest=digest) == 400


def test_a_dropped_connection_is_taken_up_again(run_server: Callable[..., Server], peer: Peer) -> None:
    server = run_server(extra=QUICK + ANYWHERE)
    client = Client(server)
    peer.break_after = 3 << 20
    image_id = client.create()
    assert client.start(image_id, "web-download", uri=peer.url) == 202
    client.until(image_id, "active")
    assert client.is_good(image_id)
    assert peer.ranges[0] is None
    assert int(re.match(r"bytes=(\d+)-", str(peer.ranges[1]))[1]) > 2 << 20  # type: ignore[index]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "http://[::1]/",
        "gopher://127.0.0.1/",
        "disk",
        "",
    ],
)
def test_forbidden_urls(api_server: Server, url: str) -> None:
    client = Client(api_server)
    image_id = client.create()
    images = client.ask("GET", "/images")[1]
    assert client.start(image_id, "web-download", uri=url) == 400
    assert client.image(image_id)["status"] == "queued"
    body = {"import_from": url, "import_from_format": "raw", "image_properties": {}}
    assert client.ask("POST", "/tasks", {"type": "import", "input": body})[0] == 400
    assert client.ask("GET", "/images")[1] == images


def test_legacy_task(run_server: Callable[..., Server], peer: Peer) -> None:
    client = Client(run_server(extra=QUICK + ANYWHERE))
    given = {"import_from": peer.url, "import_from_format": "raw", "image_properties": {"name": "old way"}}
    status, task = client.ask("POST", "/tasks", {"type": "import", "input": given})
    assert (status, task["type"], task["input"]) == (201, "import", given)
    image = client.until(task["image_id"], "active")
    assert (image["name"], image["size"]) == ("old way", len(DATA))
    assert client.ended(image["id"])["status"] == "success"
    status, listed = client.ask("GET", "/tasks?status=success")
    assert (status, [each["id"] for each in listed["tasks"]]) == (200, [task["id"]])
    assert client.ask("DELETE", f"/tasks/{task['id']}")[0] == 405
    assert client.ask("GET", "/tasks/no-such-task")[0] == 404


@pytest.mark.slow
def test_a_killed_worker_is_replaced(run_server: Callable[..., Server], peer: Peer) -> None:
    server = run_server(extra=WORKERS_ONLY)
    client = Client(server)
    peer.pace = 0.3  # half a minute for all
    image_id = client.create()
    assert client.start(image_id, "web-download", uri=peer.url) == 202
    time.sleep(0.5)
    assert client.image(image_id)["status"] == "importing"  # nobody works on it yet
    for _ in range(2):
        with worker(server) as first:
            asked = len(peer.ranges)
            while len(peer.ranges) == asked:
                time.sleep(0.05)
            time.sleep(0.5)
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
        run_out(server.database)
        assert client.image(image_id)["status"] == "importing"
    peer.pace = 0.0
    with worker(server), worker(server):
        client.until(image_id, "active")
    assert client.is_good(image_id)
    assert client.ended(image_id)["status"] == "success"
    assert len(client.ask("GET", f"/images/{image_id}/tasks")[1]["tasks"]) == 1


@pytest.mark.slow
def test_killed_in_the_middle_of_a_store(run_server: Callable[..., Server]) -> None:
    server = run_server(extra=WORKERS_ONLY)
    client = Client(server)
    ids = [client.create() for _ in range(6)]
    for image_id in ids:
        client.stage(image_id)
    for image_id in ids:
        assert client.start(image_id, "glance-direct", stores=["disk"]) == 202
    for number in range(4):
        with worker(server) as process:
            time.sleep(0.6 + 0.15 * number)
            process.kill()
            process.wait()
        run_out(server.database)
    with worker(server):
        for image_id in ids:
            client.until(image_id, "active")
    for image_id in ids:
        assert client.is_good(image_id)


@pytest.mark.slow
def test_the_server_killed_while_staging(run_server: Callable[..., Server]) -> None:
    server = run_server(extra=QUICK + ANYWHERE)
    client = Client(server)
    image_id = client.create()
    connection = server.connect()
    connection.putrequest("PUT", f"/v2/images/{image_id}/stage")
    connection.putheader("Content-Type", "application/octet-stream")
    connection.putheader("Content-Length", str(len(DATA)))
    connection.endheaders()
    connection.send(DATA[: 2 << 20])
    wait_for("it is uploading", lambda: client.image(image_id)["status"] == "uploading")
    connection.close()
    image = client.until(image_id, "queued")
    assert image["size"] is None
    assert stored(server) == []
    client.stage(image_id)
    assert client.start(image_id, "glance-direct") == 202
    client.until(image_id, "active")
