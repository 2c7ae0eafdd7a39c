"""The server while its database is killed, silent, and back again."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from glancelike import config
from glancelike.model import Image, Status
from tests.database_servers import DatabaseServer
from tests.server_fixtures import CONFIG, Server, start
from tests.waiting import wait_for

DATA = os.urandom(3_000_000)
# Short limits, so that many requests end within a test; and upkeep that is under way all the time.
LIMITS = """\
upload_lease_seconds = 2
reap_interval = 1
[task]
task_poll_interval = 0.5
[database]
connection = {url}
statement_timeout = 1
lock_timeout = 1
connect_timeout = 2
"""


@pytest.fixture(scope="module")
def server(database_server: DatabaseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run one glancelike-api on a database for all tests: it is never started again."""
    name = f"o{uuid.uuid4().hex[:12]}"
    extra = LIMITS.format(url=database_server.make_database(name))
    directory = tmp_path_factory.mktemp("api")
    path = directory / "glancelike.conf"
    path.write_text(CONFIG.format(state=directory, threads=8, workers=1, extra=extra))
    config.build_registry(config.load(["--config-file", str(path)])).upgrade()
    server = start(path)
    yield server
    assert server.stop() == 0
    database_server.drop_database(name)


Away = Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=["down", "paused"])
def away(request: pytest.FixtureRequest, database_server: DatabaseServer) -> Away:
    """Return what takes the database away: killed, or made silent."""
    made: Away = getattr(database_server, request.param)
    return made


def call(
    server: Server, method: str, path: str, body: bytes | None = None, kind: str = "json"
) -> tuple[int, bytes, str | None]:
    """Return status, body and Retry-After."""
    client = server.connect()
    client.request(method, path, body, {"Content-Type": f"application/{kind}"} if body is not None else {})
    answer = client.getresponse()
    return answer.status, answer.read(), answer.getheader("Retry-After")


def create(server: Server) -> str:
    body = json.dumps({"disk_format": "raw", "container_format": "bare"}).encode()
    status, made, _ = call(server, "POST", "/v2/images", body)
    assert status == 201, made
    return str(json.loads(made)["id"])


def show(server: Server, image_id: str) -> dict[str, object]:
    status, found, _ = call(server, "GET", f"/v2/images/{image_id}")
    return dict(json.loads(found)) if status == 200 else {"status": status}


def files(server: Server) -> list[Path]:
    return [path for path in (server.config_file.parent / "images").rglob("*") if path.is_file()]


def settings_of(server: Server) -> config.Config:
    return config.load(["--config-file", str(server.config_file)])


def test_requests_are_told_to_come_back(server: Server, away: Away) -> None:
    image_id = create(server)
    asked = (
        ("GET", "/v2/images", None),
        ("GET", f"/v2/images/{image_id}", None),
        ("POST", "/v2/images", b"{}"),
        ("DELETE", f"/v2/images/{image_id}", None),
    )
    with away():
        for method, path, body in asked:
            status, said, retry_after = call(server, method, path, body)
            assert (status, b"try again later" in said) == (503, True), said
            assert retry_after is not None
            assert int(retry_after) > 0
        # Alive, though the database isn't: a balancer mustn't take all servers out for what none can help.
        assert call(server, "GET", "/healthcheck")[0] == 200
    wait_for("it serves again", lambda: show(server, image_id)["status"] == "queued")
    assert call(server, "DELETE", f"/v2/images/{image_id}")[0] == 204
    assert server.process.poll() is None


@pytest.mark.parametrize("back", ["before the last byte", "after the last byte"])
def test_an_upload_during_an_outage(server: Server, away: Away, back: str) -> None:
    """It ends well, or with an error and as if it hadn't been; then it works again."""
    image_id = create(server)
    before = set(files(server))
    client = server.connect()
    client.putrequest("PUT", f"/v2/images/{image_id}/file")
    client.putheader("Content-Type", "application/octet-stream")
    client.putheader("Content-Length", str(len(DATA)))
    client.endheaders()
    client.send(DATA[:-1])
    wait_for("saving", lambda: show(server, image_id)["status"] == "saving")
    with away():
        # As long as it takes for a request of somebody else to fail, so that the lease's keeper sees it, too.
        assert call(server, "GET", "/v2/images")[0] == 503
        if back == "after the last byte":
            client.send(DATA[-1:])
            status = client.getresponse().status
    if back == "before the last byte":
        client.send(DATA[-1:])
        status = client.getresponse().status
    assert status in (204, 503, 409, 410), status
    if status == 204:
        assert call(server, "GET", f"/v2/images/{image_id}/file")[1] == DATA
        return
    wait_for("queued again", lambda: show(server, image_id)["status"] == "queued")
    with config.build(settings_of(server)) as service:
        list(service.gc(grace_seconds=0.0))
    assert set(files(server)) == before
    assert call(server, "PUT", f"/v2/images/{image_id}/file", DATA, "octet-stream")[0] == 204
    assert call(server, "GET", f"/v2/images/{image_id}/file")[1] == DATA


def test_threads_outlive_an_outage(server: Server, away: Away) -> None:
    """The reaper and the task runner fail meanwhile, and go on afterwards."""
    seen = len(server.log.read_text())
    with away():
        for said in ("look_after: ", "looking for tasks: "):
            wait_for(f"{said} failed", lambda said=said: said in server.log.read_text()[seen:])
    registry = config.build_registry(settings_of(server))
    registry.open()
    try:
        left = registry.create(Image(str(uuid.uuid4()), status=Status.SAVING))
    finally:
        registry.close()
    wait_for("reaped", lambda: show(server, left.id)["status"] == "queued")
    image_id = create(server)
    assert call(server, "PUT", f"/v2/images/{image_id}/stage", DATA, "octet-stream")[0] == 204
    body = json.dumps({"method": {"name": "glance-direct"}}).encode()
    assert call(server, "POST", f"/v2/images/{image_id}/import", body)[0] == 202
    wait_for("imported", lambda: show(server, image_id)["status"] == "active")
