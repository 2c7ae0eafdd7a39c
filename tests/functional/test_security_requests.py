"""Requests that were made to harm: forged identities, odd names, endless bodies, forged logs.

Those that are named after a report are; the rest is what an attacker tries next.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha512
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from glancelike.api.routes import ROUTES
from glancelike.client import ImageClient
from glancelike.errors import Unreachable
from glancelike.stores.file import FileStore
from glancelike.stores.http import HttpStore
from glancelike.stores.memory import MemoryStore
from tests.server_fixtures import PASSWORD, Api, Server, start, write_config, write_users
from tests.web_server import certificate, reply, serving, web_server

MIB = 1 << 20
SECRET = "s3cr3t-t0k3n"
PATCH = "application/openstack-images-v2.1-json-patch"
SPOOFED = {
    **dict.fromkeys(("X-Roles", "X-Role", "X-User", "X-User-Id", "X-User-Name"), "admin"),
    **dict.fromkeys(("X-Project-Id", "X-Tenant-Id", "X-Tenant", "X-Project-Name"), "p-alice"),
    "X-Identity-Status": "Confirmed",
    "X-Is-Admin-Project": "True",
    "X-Service-Roles": "service",
    "OpenStack-System-Scope": "all",
    "X-Service-Catalog": "[]",
    "X-Forwarded-User": "admin",
    "Remote-User": "admin",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with users, a cache and locations, and few threads."""
    directory = tmp_path_factory.mktemp("attacked")
    users = write_users(directory / "users")
    settings = (
        f"auth_strategy = basic\nhttp_basic_auth_user_file = {users}\n"
        f"image_cache_dir = {directory / 'cache'}\nshow_multiple_locations = true\ndebug = true\n"
    )
    running = start(write_config(directory, threads=4, extra=settings))
    yield running
    assert running.stop() == 0


def ask(
    server: Server,
    user: str | None,
    method: str,
    path: str,
    body: Any = None,
    kind: str = "application/json",
    **headers: str,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    sent = {"Accept": "application/json", **headers}
    if user is not None:
        token = base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
        sent["Authorization"] = f"Basic {token}"
    if body is not None:
        sent["Content-Type"] = kind
    with contextlib.closing(client):
        client._validate_path = lambda url: None  # type: ignore[attr-defined]
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        client.request(method, path, data, sent)
        answer = client.getresponse()
        return answer.status, answer.headers, answer.read()


def new(server: Server, user: str = "alice", **values: Any) -> str:
    body = {"disk_format": "raw", "container_format": "bare", **values}
    status, _, made = ask(server, user, "POST", "/v2/images", body)
    assert status == 201, made
    return str(json.loads(made)["id"])


# Who calls


def test_ossn_0060_no_header_makes_anybody_anything(server: Server) -> None:
    """With one setting the service believed the roles that a request's own headers told."""
    image_id = new(server, visibility="private")
    for route in ROUTES:
        path = re.sub(r"\{\w+\}", image_id, route.path)
        if not route.public:
            assert ask(server, None, route.method, path, **SPOOFED)[0] == 401, path
    for path in ("/v2/cache", "/v2/tasks", "/v2/info/stores/detail"):
        assert ask(server, "bob", "GET", path, **SPOOFED)[0] == 403
    for method in ("PUT", "DELETE"):
        assert ask(server, "bob", method, f"/v2/cache/{image_id}", **SPOOFED)[0] in (403, 404)
    assert ask(server, "bob", "DELETE", "/v2/cache", **SPOOFED)[0] == 403
    assert ask(server, "bob", "GET", f"/v2/images/{image_id}", **SPOOFED)[0] == 404


def test_ossn_0025_the_bytes_in_the_store_are_the_services_alone(tmp_path: Path) -> None:
    """Images lay in Swift where others could read them, past the image service."""
    before = os.umask(0)
    try:
        store = FileStore({"filesystem_store_datadir": str(tmp_path / "images")})
        api = Api(write_users(tmp_path / "users"), stores={"disk": store})
        api.image(data=b"private")
    finally:
        os.umask(before)
    found = [path for path in (tmp_path / "images").rglob("*") if path.is_file()]
    assert len([path for path in found if path.read_bytes() == b"private"]) == 1
    assert [path for path in found if path.stat().st_mode & 0o007] == []
    api.service.close()


def test_cve_2013_4111_the_client_verifies_certificates(tmp_path: Path) -> None:
    """The client talked to anybody who answered, and told him the password."""
    context, trusted = certificate(tmp_path, "127.0.0.1")
    with web_server(context) as web:
        web.answers["/v2/images/x"] = lambda request, out: reply(out, 200, {"Content-Length": "2"}, b"{}")
        with (
            ImageClient(web.url(""), basic=("alice", SECRET), retries=0) as client,
            pytest.raises(Unreachable),
        ):
            client.show_image("x")
        assert web.requests == []
        with ImageClient(web.url(""), cafile=str(trusted), retries=0) as client:
            assert client.show_image("x") == {}


# Names

ODD = [
    "..",
    "%2e%2e",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%252e%252e%252fetc%252fpasswd",
    "..%5c..%5cetc%5cpasswd",
    "%2fetc%2fpasswd",
    "%c0%ae%c0%ae%c0%af",
    "%00",
    "x%00y",
    "%0d%0aX-Evil:%20yes",
    "%0d%0a%0d%0a%3chtml%3e",
    "%ed%a0%80",
    "%ff",
    "%",
    "'%20OR%201=1--",
    "{}",
    "%1b[2J",
    "a" * 4000,
]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_odd_names_in_paths_are_just_not_found(server: Server, odd: str) -> None:
    """For every operation and each of its parameters, as an administrator."""
    image_id = new(server, "admin")
    names = {"image_id": image_id, "store_id": "disk", "namespace": "OS", "tag": "t", "member_id": "p-bob"}
    for route in ROUTES:
        parameters = re.findall(r"\{(\w+)\}", route.path)
        for parameter in parameters:
            path = re.sub(
                r"\{(\w+)\}",
                lambda found, p=parameter: odd if found[1] == p else names.get(found[1], "x"),  # type: ignore[misc]
                route.path,
            )
            body = b"{}" if route.method in ("POST", "PUT", "PATCH") else None
            tus = {"Tus-Resumable": "1.0.0"} if "/uploads" in route.path else {}
            status, headers, said = ask(server, "admin", route.method, path, body, **tus)
            # A tag or a namespace may have nearly any name; nothing else has one of these.
            assert status in (204, 400, 403, 404, 405, 409, 414, 415), (route.method, path, status)
            # What tus can do here is the same for every name.
            assert status != 204 or parameter == "tag" or route.method == "OPTIONS"
            assert "X-Evil" not in headers
            assert b"root:" not in said
    assert ask(server, "admin", "GET", f"/v2/images/{image_id}")[0] == 200


@pytest.mark.parametrize("value", ["a\r\nX-Evil: yes", "a\nX-Evil: yes", "a\x1b[2J", "a\u2028b", "\u202ecba"])
def test_no_value_gets_into_headers_or_lines_of_the_log(server: Server, value: str) -> None:
    image_id = new(server, name=value, colour=value, tags=[value])
    path = f"/v2/images/{image_id}"
    seen = [ask(server, "alice", "GET", path)]
    assert json.loads(seen[0][2])["name"] == value
    seen.append(ask(server, "alice", "PUT", f"{path}/file", b"x", "application/octet-stream"))
    seen.append(ask(server, "alice", "GET", f"{path}/file"))
    seen.append(ask(server, "alice", "PUT", f"{path}/tags/{quote(value)}"))
    seen.append(ask(server, "alice", "POST", f"{path}/members", {"member": value}))
    seen.append(ask(server, "alice", "GET", f"/v2/images?name={quote(value)}&limit=1"))
    seen.append(ask(server, "alice", "GET", f"/v2/images/{quote(value)}"))
    change = [{"op": "replace", "path": f"/{value}", "value": value}]
    seen.append(ask(server, "alice", "PATCH", path, change, PATCH))
    assert max(status for status, _, _ in seen) < 500
    assert all("X-Evil" not in headers for _, headers, _ in seen)
    log = server.log.read_text()
    assert value not in log
    assert "\x1b" not in log


def test_digests_of_callers_are_digits_and_nothing_else(tmp_path: Path) -> None:
    """A digest becomes the ETag: a line break in it would end the header, or the answer."""
    networks = {"http_store_allowed_networks": ["127.0.0.1/32"], "http_store_allowed_ports": []}
    api = Api(
        write_users(tmp_path / "users"),
        stores={"memory": MemoryStore({}), "web": HttpStore({**networks, "http_store_retries": 0})},
        show_multiple_locations=True,
        do_secure_hash=False,
    )

    def name(image_id: str, url: str, value: str) -> tuple[Any, Any]:
        told = {"os_hash_algo": "sha512", "os_hash_value": value}
        location = {"url": url, "metadata": {}, "validation_data": told}
        change = json.dumps([{"op": "add", "path": "/locations/-", "value": location}])
        alice, path = api.as_("alice"), f"/v2/images/{image_id}"
        return (
            alice.post(f"{path}/locations", json={"url": url, "validation_data": told}),
            alice.patch(path, body=change, headers={"Content-Type": PATCH}),
        )

    with web_server() as web:
        web.answers["/disk"] = serving(b"x")
        for odd in ("ab\r\n" * 64, "ab " * 64, "\t" + "ab" * 64, "0x" + "ab" * 63, "ab" * 65, "é" * 128):
            image_id = api.image()
            added, patched = name(image_id, web.url("/disk"), odd)
            assert (added.status_code, patched.status_code) == (400, 409)
            assert "os_hash_value" in added.json["message"]
        good = sha512(b"x").hexdigest()
        assert name(image_id, web.url("/disk"), good)[0].status_code == 202
        api.service.run_tasks()
        answer = api.as_("alice").get(f"/v2/images/{image_id}/file")
        assert (answer.content, answer.headers["etag"]) == (b"x", f'"sha512:{good}"')
    api.service.close()


# Sizes

LONG = "9" * 5000


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"/v2/images?limit={LONG}", {}),
        (f"/v2/images?size_min={LONG}", {}),
        (f"/v2/images?size_min={'9' * 40}", {}),
        (f"/v2/images?min_ram={'9' * 30}", {}),
        ("/v2/images?created_at=gt:0001-01-01T00:00:00%2B14:00", {}),
        ("/v2/images?created_at=lt:9999-12-31T23:59:59-14:00", {}),
        (f"/v2/images?id=in:{','.join(['abc'] * 1900)}", {}),
        ("/v2/images?" + "&".join(f"p{number}=1" for number in range(600)), {}),
        ("/v2/images?sort=" + ",".join(["name:asc"] * 600), {}),
        (f"/v2/tasks?limit={LONG}", {}),
        (f"/v2/tasks?limit={'9' * 18}", {}),
        (f"/v2/metadefs/namespaces?limit={LONG}", {}),
        ("/v2/images/{id}/file", {"Range": f"bytes=0-{LONG}"}),
        ("/v2/images/{id}/file", {"Range": f"bytes={LONG}-"}),
        ("/v2/images/{id}/file", {"Range": "bytes=" + ",".join(["0-1"] * 900)}),
        ("/v2/images", {"Accept": "text/html;q=" + LONG}),
        ("/v2/images", {"Accept-Encoding": "gzip;q=" + LONG}),
    ],
)
def test_huge_values_are_the_callers_fault(server: Server, path: str, headers: dict[str, str]) -> None:
    image_id = new(server)
    assert (
        ask(server, "alice", "PUT", f"/v2/images/{image_id}/file", b"x", "application/octet-stream")[0] == 204
    )
    assert ask(server, "admin", "GET", path.replace("{id}", image_id), **headers)[0] < 500


@pytest.mark.parametrize("told", [LONG, "9" * 19, "-1", "1_000", "0x10", "1e3", "٣"])
@pytest.mark.parametrize("verb", ["file", "stage"])
def test_odd_sizes_of_uploads_are_refused(server: Server, told: str, verb: str) -> None:
    image_id = new(server)
    path = f"/v2/images/{image_id}/{verb}"
    header = {"x-openstack-image-size": told.encode().decode("latin-1")}
    status = ask(server, "alice", "PUT", path, b"x", "application/octet-stream", **header)[0]
    assert status == 400
    assert json.loads(ask(server, "alice", "GET", f"/v2/images/{image_id}")[2])["status"] == "queued"


@pytest.mark.parametrize("depth", [100, 300, 900, 100_000])
def test_deep_json_is_the_callers_fault(server: Server, depth: int) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    image_id = new(server, "admin")
    for method, path, body in (
        ("POST", "/v2/images", b'{"x":%s}'),
        ("PATCH", f"/v2/images/{image_id}", b'[{"op":"add","path":"/x","value":%s}]'),
        ("POST", f"/v2/images/{image_id}/import", b'{"method":{"name":"web-download","uri":%s}}'),
        ("POST", f"/v2/images/{image_id}/locations", b'{"url":"http://198.51.100.1/","validation_data":%s}'),
        ("POST", f"/v2/images/{image_id}/members", b'{"member":%s}'),
        ("POST", "/v2/tasks", b'{"type":"import","input":%s}'),
        ("POST", "/v2/metadefs/namespaces", b'{"namespace":"deep","properties":%s}'),
    ):
        kind = PATCH if method == "PATCH" else "application/json"
        status, _, said = ask(server, "admin", method, path, body % deep, kind)
        assert 400 <= status < 500, (path, status, said)


def test_a_property_is_no_place_for_megabytes(server: Server) -> None:
    assert ask(server, "alice", "POST", "/v2/images", {"big": "x" * 100_000})[0] == 400
    image_id = new(server)
    change = [{"op": "add", "path": f"/p{number}", "value": "x" * 7000} for number in range(140)]
    assert ask(server, "alice", "PATCH", f"/v2/images/{image_id}", change, PATCH)[0] == 413


# Time


def test_a_slow_head_does_not_hold_a_thread_for_ever(server: Server) -> None:
    """More connections than threads, each with a byte now and then, and no end of it."""
    done = threading.Event()
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
    for each in idle:
        each.sendall(b"GET /v2/images HTTP/1.1\r\nHost: x\r\nX-Slow: ")

    def drip() -> None:
        while not done.wait(0.5):
            for each in idle:
                with contextlib.suppress(OSError):
                    each.send(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        assert ask(server, None, "GET", "/healthcheck")[0] == 200
    finally:
        done.set()
        dripping.join()
        for each in idle:
            each.close()


# Secrets


def test_no_secret_is_shown_or_logged(run_server: Callable[..., Server]) -> None:
    """A URL's query may be a credential, and a URL with a password is refused."""
    rules = "[import_filtering_opts]\nallowed_ports =\nallowed_networks = 127.0.0.0/8"
    server = run_server(extra=f"debug = true\n{rules}")
    with web_server() as web:
        for url, status in (
            (f"http://user:{SECRET}@127.0.0.1:{web.port}/x", 400),
            (web.url(f"/x?signature={SECRET}"), 202),
        ):
            image_id = new(server)
            body = {"method": {"name": "web-download", "uri": url}}
            answered, _, said = ask(server, None, "POST", f"/v2/images/{image_id}/import", body)
            assert answered == status
            assert SECRET.encode() not in said
        deadline = time.monotonic() + 90
        task: dict[str, Any] = {}
        while task.get("status") != "failure":
            assert time.monotonic() < deadline
            found = json.loads(ask(server, None, "GET", f"/v2/images/{image_id}/tasks")[2])["tasks"]
            task = found[0]
        assert len(web.requests) >= 1
        assert SECRET not in task["message"]
        shown = ask(server, None, "GET", f"/v2/images/{image_id}")[2]
        assert SECRET.encode() not in shown
    token = base64.b64encode(f"alice:{SECRET}".encode()).decode()
    ask(server, None, "GET", "/v2/images", **{"Authorization": f"Basic {token}", "X-Auth-Token": SECRET})
    log = server.log.read_text()
    assert SECRET not in log
    assert token not in log
