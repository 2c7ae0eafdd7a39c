"""What Glance 33 does badly when things go wrong, done right here.

That it comes back from the death of a process is in ``test_api_crash.py``
(uploads) and ``test_import.py`` (staging and imports).
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from glancelike import config
from tests import warm
from tests.server_fixtures import Server, command, write_config
from tests.waiting import wait_for

RunServer = Callable[..., Server]
DATA = b"qcow2 it isn't " * 100_000
OCTETS = "application/octet-stream"


def ask(
    server: Server, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
) -> tuple[int, bytes]:
    client = server.connect()
    headers = {"Accept": "application/json"} | ({"Content-Type": kind} if body is not None else {})
    client.request(method, f"/v2{path}", body, headers)
    answer = client.getresponse()
    return answer.status, answer.read()


def new(server: Server, disk_format: str = "raw") -> str:
    body = json.dumps({"disk_format": disk_format, "container_format": "bare"}).encode()
    status, made = ask(server, "POST", "/images", body)
    assert status == 201
    return str(json.loads(made)["id"])


def show(server: Server, image_id: str) -> dict[str, object]:
    return dict(json.loads(ask(server, "GET", f"/images/{image_id}")[1]))


def stored(server: Server) -> list[Path]:
    """List the files that hold image data, finished or not."""
    return [path for path in (server.config_file.parent / "images").rglob("*") if path.is_file()]


def test_data_of_another_format_leaves_nothing(run_server: RunServer) -> None:
    """Glance keeps bytes, location and digest after the 415, and then every upload fails."""
    server = run_server()
    image_id = new(server, "qcow2")
    before = show(server, image_id)
    for data in (DATA, b"short"):
        status, said = ask(server, "PUT", f"/images/{image_id}/file", data, OCTETS)
        assert (status, b"qcow2" in said) == (415, True)
        after = show(server, image_id)
        assert {**after, "updated_at": ""} == {**before, "updated_at": ""}
        assert stored(server) == []
    # It isn't the end of this image: the owner says what the data is.
    raw = b'[{"op": "replace", "path": "/disk_format", "value": "raw"}]'
    patch = "application/openstack-images-v2.1-json-patch"
    assert ask(server, "PATCH", f"/images/{image_id}", raw, patch)[0] == 200
    assert ask(server, "PUT", f"/images/{image_id}/file", DATA, OCTETS) == (204, b"")
    assert ask(server, "GET", f"/images/{image_id}/file") == (200, DATA)
    assert show(server, image_id)["status"] == "active"
    assert len(stored(server)) == 1


@pytest.mark.parametrize("verb", ["file", "stage"])
@pytest.mark.parametrize("framing", [f"Content-Length: {len(DATA)}", "Transfer-Encoding: chunked"])
def test_a_client_that_vanishes_leaves_nothing(api_server: Server, verb: str, framing: str) -> None:
    """The image is queued again and the next upload is as if there had been none."""
    image_id = new(api_server)
    before = stored(api_server)
    head = (
        f"PUT /v2/images/{image_id}/{verb} HTTP/1.1\r\nHost: x\r\nContent-Type: {OCTETS}\r\n{framing}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", api_server.port)) as sender:
        sender.sendall(head.encode())
        sender.sendall(b"100000\r\n" + DATA[:1_000_000] if "chunked" in framing else DATA[:1_000_000])
        busy = "saving" if verb == "file" else "uploading"
        wait_for(busy, lambda: show(api_server, image_id)["status"] == busy)
    wait_for("queued", lambda: show(api_server, image_id)["status"] == "queued")
    assert stored(api_server) == before
    assert ask(api_server, "PUT", f"/images/{image_id}/file", DATA, OCTETS) == (204, b"")
    assert ask(api_server, "GET", f"/images/{image_id}/file") == (200, DATA)


@pytest.mark.parametrize(
    "written", ["glance-direct,copy-image", "glance-direct, copy-image", "[glance-direct,copy-image]"]
)
def test_import_methods_without_brackets(run_server: RunServer, written: str) -> None:
    """In Glance such a list without brackets makes every create fail, with the row made."""
    server = run_server(extra=f"enabled_import_methods = {written}")
    told = json.loads(ask(server, "GET", "/info/import")[1])
    assert told["import-methods"]["value"] == ["glance-direct", "copy-image"]
    image_id = new(server)
    assert len(json.loads(ask(server, "GET", "/images")[1])["images"]) == 1
    request = b'{"method": {"name": "web-download", "uri": "http://example.org/"}}'
    status, said = ask(server, "POST", f"/images/{image_id}/import", request)
    assert (status, b"web-download" in said) == (400, True)


@pytest.mark.parametrize("name", ["glance-teleport", "glance_direct"])
def test_an_unknown_import_method_stops_the_start(tmp_path: Path, name: str) -> None:
    path = write_config(tmp_path, extra=f"enabled_import_methods = copy-image,{name}", upgrade=False)
    done = warm.run(command(path))
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()[-1]
    assert re.search("enabled_import_methods", said)
    assert name in said
    with pytest.raises(config.ConfigError):
        config.load(["--config-file", str(path)])
