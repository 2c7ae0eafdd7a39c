"""Quotas among processes, and limits that a real Keystone keeps."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.keystone_fixtures import PASSWORD, REGION, Keystone
from tests.server_fixtures import Server, start, write_config

MIB = 1 << 20
JSON = {"Accept": "application/json", "Content-Type": "application/json"}
OCTETS = {"Content-Type": "application/octet-stream"}
RAW = {"disk_format": "raw", "container_format": "bare"}
DATA = bytes(MIB)


@dataclass
class Caller:
    """Somebody who calls servers, another one with each request."""

    servers: list[Server]
    headers: dict[str, str] = field(default_factory=dict)
    _turn: int = 0

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        self._turn += 1
        server = self.servers[self._turn % len(self.servers)]
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        try:
            client.request(method, path, body, {**JSON, **self.headers, **headers})  # type: ignore[arg-type]
            answer = client.getresponse()
            text = answer.read().decode()
        except ConnectionError:
            return 413, None  # refused early, while the data was still on its way
        finally:
            client.close()
        return answer.status, json.loads(text) if text.startswith("{") else text

    def create(self) -> tuple[int, Any]:
        return self.ask("POST", "/v2/images", json.dumps(RAW))

    def image(self) -> str:
        status, made = self.create()
        assert status == 201, made
        return str(made["id"])

    def upload(self, image_id: str, data: bytes = DATA, *, known: bool = True) -> int:
        body = data if known else iter([data[:1000], data[1000:]])
        return self.ask("PUT", f"/v2/images/{image_id}/file", body, **OCTETS)[0]

    def usage(self) -> dict[str, dict[str, int]]:
        status, body = self.ask("GET", "/v2/info/usage")
        assert status == 200, body
        usage: dict[str, dict[str, int]] = body["usage"]
        return usage

    def statuses(self) -> list[str]:
        listed = self.ask("GET", "/v2/images?limit=1000")[1]["images"]
        return [image["status"] for image in listed]


@pytest.fixture
def cluster(run_server: Callable[..., Server]) -> Iterator[Caller]:
    """Run two servers of two processes each on one database."""
    limits = "[quota]\nimage_size_total = 5\nimage_count_total = 9\nimage_count_uploading = 6\n"
    first = run_server(workers=2, extra=limits)
    directory = first.config_file.parent / "second"
    directory.mkdir()
    second = start(Path(shutil.copy(first.config_file, directory)))
    yield Caller([first, second])
    second.stop()


def race(calls: list[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_processes_never_overshoot(cluster: Caller) -> None:
    created = race([cluster.create] * 24)
    assert sorted(status for status, _body in created) == [201] * 9 + [413] * 15
    ids = [body["id"] for status, body in created if status == 201]
    # Sizes known and unknown, to files and twice each, so that some are refused for their state.
    done = race([lambda i=i, n=n: cluster.upload(i, known=bool(n)) for n in (0, 1) for i in ids])
    assert done.count(204) <= 5
    usage = cluster.usage()
    assert usage["image_size_total"]["usage"] == done.count(204) == cluster.statuses().count("active")
    assert usage["image_count_uploading"]["usage"] == 0
    # All of what is left can be used, and no more.
    for image_id in ids:
        cluster.upload(image_id)
    assert cluster.usage()["image_size_total"] == {"usage": 5, "limit": 5}
    assert cluster.statuses().count("active") == 5
    waiting = next(i for i in ids if status_of(cluster, i) == "queued")
    assert cluster.upload(waiting, b"x") == 413
    gone = next(i for i in ids if status_of(cluster, i) == "active")
    assert cluster.ask("DELETE", f"/v2/images/{gone}")[0] == 204
    assert cluster.upload(waiting) == 204


def status_of(caller: Caller, image_id: str) -> str:
    return str(caller.ask("GET", f"/v2/images/{image_id}")[1]["status"])


# Limits of Keystone's

OSLO_LIMIT = """\
[oslo_limit]
auth_url = {url}
auth_type = password
user_domain_id = default
username = image
password = {password}
system_scope = all
endpoint_id = {endpoint}
cache_time = {cache}
"""
LIMITS = {"image_size_total": 3, "image_stage_total": 4, "image_count_total": 2, "image_count_uploading": 1}


@dataclass
class Limits:
    """The registered limits of the image service, and those of projects."""

    keystone: Keystone
    endpoint: str
    service: str

    def register(self, limits: dict[str, int]) -> None:
        common = {"service_id": self.service, "region_id": REGION}
        body = [{**common, "resource_name": name, "default_limit": value} for name, value in limits.items()]
        self.keystone.admin.post("/registered_limits", json={"registered_limits": body})

    def give(self, project: str, name: str, value: int) -> str:
        body = {
            "service_id": self.service,
            "region_id": REGION,
            "project_id": self.keystone.add_project(project),
            "resource_name": name,
            "resource_limit": value,
        }
        made = self.keystone.admin.post("/limits", json={"limits": [body]}).json()
        return str(made["limits"][0]["id"])

    def change(self, limit: str, value: int) -> None:
        self.keystone.admin.patch(f"/limits/{limit}", json={"limit": {"resource_limit": value}})


@pytest.fixture(scope="module")
def limits(keystone: Keystone) -> Limits:
    keystone.add_endpoint("image", "http://127.0.0.1:9")
    admin = keystone.admin
    service = admin.get("/services", params={"type": "image"}).json()["services"][0]["id"]
    found = admin.get("/endpoints", params={"service_id": service, "interface": "public"}).json()["endpoints"]
    role = admin.get("/roles", params={"name": "reader"}).json()["roles"][0]["id"]
    user = admin.get("/users", params={"name": "image"}).json()["users"][0]["id"]
    admin.put(f"/system/users/{user}/roles/{role}")
    made = Limits(keystone, found[0]["id"], service)
    made.register(LIMITS)
    for name in ("alice", "bob", "carol"):
        keystone.grant(name, f"p-{name}", "member")
    return made


@pytest.fixture
def serve(
    keystone: Keystone, limits: Limits, run_server: Callable[..., Server]
) -> Callable[..., Callable[[str], Caller]]:
    """Return a function that starts a server and returns one that makes its callers."""

    def run(url: str = keystone.url, cache: float = 0) -> Callable[[str], Caller]:
        section = OSLO_LIMIT.format(url=url, password=PASSWORD, endpoint=limits.endpoint, cache=cache)
        extra = f"auth_strategy = keystone\nuse_keystone_limits = true\n{section}{keystone.authtoken()}"
        server = run_server(extra=extra)
        return lambda user: Caller([server], {"X-Auth-Token": keystone.token(user, f"p-{user}")})

    return run


def test_limits_of_keystone(
    keystone: Keystone, limits: Limits, serve: Callable[..., Callable[[str], Caller]]
) -> None:
    caller = serve()
    alice, bob = caller("alice"), caller("bob")
    size = limits.give("p-bob", "image_size_total", 1)
    limits.give("p-bob", "image_stage_total", -1)
    assert alice.usage() == {name: {"usage": 0, "limit": value} for name, value in LIMITS.items()}
    assert bob.usage() == {
        **alice.usage(),
        "image_size_total": {"usage": 0, "limit": 1},
        "image_stage_total": {"usage": 0, "limit": -1},
    }
    hers, his = alice.image(), bob.image()
    assert alice.upload(hers, bytes(3 * MIB)) == 204
    assert bob.upload(his, bytes(2 * MIB)) == 413
    limits.change(size, 2)
    assert bob.upload(his, bytes(2 * MIB)) == 204
    assert alice.upload(alice.image(), b"x") == 413
    status, body = alice.create()
    assert (status, "image_count_total" in str(body)) == (413, True)
    assert alice.usage()["image_size_total"] == {"usage": 3, "limit": 3}


def test_remembered_limits(limits: Limits, serve: Callable[..., Callable[[str], Caller]]) -> None:
    """A raised limit counts at once; a lowered one once what is remembered is old."""
    carol = serve(cache=1000)("carol")
    count = limits.give("p-carol", "image_count_total", 1)
    carol.image()
    assert carol.create()[0] == 413
    limits.change(count, 3)
    carol.image()
    limits.change(count, 2)
    carol.image()
    assert carol.create()[0] == 413


def test_no_keystone_to_ask(serve: Callable[..., Callable[[str], Caller]]) -> None:
    alice = serve(url="http://127.0.0.1:9/v3")("alice")
    status, body = alice.create()
    assert status == 503, body
    assert PASSWORD not in str(body)
    assert alice.ask("GET", "/v2/info/usage")[0] == 503
    assert alice.ask("GET", "/v2/images")[0] == 200, "what isn't limited needs no limits"


def test_settings_are_checked(keystone: Keystone, tmp_path: Path) -> None:
    section = OSLO_LIMIT.format(url=keystone.url, password=PASSWORD, endpoint="x", cache=0)
    extra = f"use_keystone_limits = true\n{section}auth_ulr = http://127.0.0.1\n"
    with pytest.raises(AssertionError, match="unknown option auth_ulr in .oslo_limit."):
        start(write_config(tmp_path, extra=extra, upgrade=False))
