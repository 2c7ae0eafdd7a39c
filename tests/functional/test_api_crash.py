"""kill -9 in the middle of an upload: the image comes back, nothing is half."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

from tests.leases import ends, run_out
from tests.server_fixtures import Server, start
from tests.waiting import SECONDS, wait_for

DATA = os.urandom(5_000_000)


def call(
    server: Server, method: str, path: str, body: bytes | None = None, kind: str = "json"
) -> tuple[int, bytes]:
    client = server.connect()
    client.request(method, path, body, {"Content-Type": f"application/{kind}"} if body is not None else {})
    answer = client.getresponse()
    return answer.status, answer.read()


def upload(server: Server, image_id: str) -> int:
    """Upload; return the status, or 0 when the server refused before all was sent."""
    try:
        return call(server, "PUT", f"/v2/images/{image_id}/file", DATA, "octet-stream")[0]
    except (BrokenPipeError, ConnectionResetError):
        return 0


def status(server: Server, image_id: str) -> str:
    return str(json.loads(call(server, "GET", f"/v2/images/{image_id}")[1])["status"])


def half_an_upload(server: Server, image_id: str) -> socket.socket:
    """Send half of the data and stop; return the connection."""
    sender = socket.create_connection(("127.0.0.1", server.port))
    head = (
        f"PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(DATA)}\r\n\r\n"
    )
    sender.sendall(head.encode() + DATA[: len(DATA) // 2])
    wait_for("saving", lambda: status(server, image_id) == "saving")
    return sender


def create(server: Server) -> str:
    values = json.dumps({"disk_format": "raw", "container_format": "bare"}).encode()
    return str(json.loads(call(server, "POST", "/v2/images", values)[1])["id"])


def files(server: Server) -> list[Path]:
    return [path for path in (server.config_file.parent / "images").rglob("*") if path.is_file()]


def test_kill_9_in_the_middle_of_an_upload(run_server: Callable[..., Server]) -> None:
    server = run_server(extra="reap_interval = 1")
    reaped, taken_over = create(server), create(server)
    senders = [half_an_upload(server, image_id) for image_id in (reaped, taken_over)]
    server.process.kill()
    server.process.wait()
    for sender in senders:
        sender.close()
    run_out(server.database)
    again = start(server.config_file)
    try:
        # No partial file under a final name, and the dead writers' files are swept.
        assert files(again) == []
        wait_for("the next upload takes over", lambda: upload(again, taken_over) == 204)
        wait_for("the reaper has looked", lambda: status(again, reaped) == "queued")
        assert upload(again, reaped) == 204
        for image_id in (reaped, taken_over):
            assert call(again, "GET", f"/v2/images/{image_id}/file") == (200, DATA)
        assert len(files(again)) == 2
    finally:
        again.stop()


def test_a_slow_upload_is_not_taken_for_dead(run_server: Callable[..., Server]) -> None:
    # Renewed each third of a lease, which the machine may stand still for the rest of.
    server = run_server(extra="upload_lease_seconds = 9\nreap_interval = 1")
    image_id = create(server)
    with half_an_upload(server, image_id) as sender:
        first = ends(server.database)[f"upload:{image_id}"]
        wait_for("it is renewed", lambda: ends(server.database)[f"upload:{image_id}"] > first)
        assert status(server, image_id) == "saving"
        sender.sendall(DATA[len(DATA) // 2 :])
        sender.settimeout(SECONDS)
        assert b" 204 " in sender.recv(1000)
    assert status(server, image_id) == "active"
