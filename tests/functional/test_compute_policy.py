"""An operator's policy.yaml, and roles as Keystone gives them, at a server that runs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from novalite.compose import NO_ROLES, build_all
from novalite.config import load
from novalite.model import Caller, NewServer
from novalite.testing.cloud import MemoryImages
from tests.server_fixtures import PASSWORD, Server, start, write_users

CONFIG = """\
[DEFAULT]
state_path = {state}
compute_driver = fake
osapi_compute_listen_port = 0
[api]
auth_strategy = basic
http_basic_auth_user_file = {users}
[database]
auto_upgrade = true
connection = sqlite:///{state}/novalite.sqlite
"""
API = "os_compute_api:"


class Site:
    """A Compute API of a process of its own, and a server of alice's project."""

    def __init__(self, directory: Path, config: Path) -> None:
        self.policies = directory / "policy.yaml"
        images, settings = MemoryImages(), load(["--config-file", str(config)])
        alice = Caller("alice", "p-alice", frozenset({"member", "reader"}))
        with build_all(settings, roles=NO_ROLES, images=images) as node:
            (made,) = node.service.servers.create(alice, NewServer("vm", images.add(b"x").id, "42"))
        self.path = f"/v2.1/servers/{made.id}"
        self.process: Server = start(config, "novalite-api")

    def ask(self, user: str, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Return the status, and the rule that refused if one did."""
        token = base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
        client = self.process.connect()
        told = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        client.request(method, path, None if body is None else json.dumps(body), told)
        answer = client.getresponse()
        text = answer.read().decode()
        client.close()
        _, _, rest = text.partition("Policy doesn't allow ")
        return answer.status, rest.partition(" ")[0].removeprefix(API)

    def create(self, user: str) -> tuple[int, str]:
        """Ask for a server of a flavor that isn't there: 400 for whoever may ask."""
        body = {"name": "x", "flavorRef": "none", "imageRef": "none"}
        return self.ask(user, "POST", "/v2.1/servers", {"server": body})

    def diagnostics(self, user: str) -> tuple[int, str]:
        """Ask for diagnostics of the server, which is on no host: 409 for whoever may ask."""
        return self.ask(user, "GET", f"{self.path}/diagnostics")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("policies")
    config = directory / "novalite.conf"
    config.write_text(CONFIG.format(state=directory, users=write_users(directory / "users")))
    site = Site(directory, config)
    yield site
    site.process.stop()


def test_a_reader_looks_and_touches_nothing(site: Site) -> None:
    for path in ("/v2.1/servers", "/v2.1/servers/detail", site.path, f"{site.path}/metadata", "/v2.1/limits"):
        assert site.ask("reader", "GET", path) == (200, "")
    for method, path, body, rule in (
        ("DELETE", site.path, None, "servers:delete"),
        ("PUT", site.path, {"server": {"name": "mine"}}, "servers:update"),
        ("POST", f"{site.path}/action", {"pause": None}, "os-pause-server:pause"),
        ("POST", f"{site.path}/action", {"createImage": {"name": "x"}}, "servers:create_image"),
        ("POST", f"{site.path}/metadata", {"metadata": {"a": "b"}}, "server-metadata:create"),
    ):
        assert site.ask("reader", method, path, body) == (403, rule)
    assert site.create("reader") == (403, "servers:create")
    assert site.ask("nobody", "GET", site.path) == (403, "servers:show")
    assert site.ask("bob", "GET", site.path) == (404, "")


def test_a_policy_file_is_followed_without_a_restart(site: Site) -> None:
    assert site.diagnostics("alice") == (403, "os-server-diagnostics")
    assert site.create("alice")[0] == 400
    site.policies.write_text(
        f'"{API}os-server-diagnostics": "rule:project_member_or_admin"\n'
        f'"{API}servers:create": "rule:context_is_admin"\n'
        f'"{API}os-floating-ips:add": "rule:admin_or_owner"\n'
    )
    assert site.diagnostics("alice")[0] == 409
    assert site.diagnostics("reader") == (403, "os-server-diagnostics")
    assert site.diagnostics("bob") == (404, "")
    assert site.create("alice") == (403, "servers:create")
    assert site.create("admin")[0] == 400
    site.policies.write_text("a mistake: [")
    assert site.create("alice") == (403, "servers:create")
    site.policies.write_text("{}\n")
    assert site.create("alice")[0] == 400
    assert site.diagnostics("alice") == (403, "os-server-diagnostics")
    assert site.process.log.read_text().count("keeping the policies read before") == 1
