"""The Compute API over a whole cloud with the fake virt driver, in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import falcon.testing
import pytest

from glancelike.web.auth import BasicAuth
from novalite.app import create_app
from novalite.model import ImageInfo
from novalite.testing.cloud import Cloud
from tests.server_fixtures import client_of, write_users

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@here"


class Compute:
    """The API over a cloud, as several users."""

    def __init__(self, cloud: Cloud, auth: BasicAuth) -> None:
        self.cloud = cloud
        self.app = create_app(cloud.service, auth, max_limit=5)
        self.image: ImageInfo = cloud.images.add(b"\0" * 1024, name="image")

    def as_(self, user: str | None, version: str = "2.1") -> falcon.testing.TestClient:
        return client_of(self.app, user, {"OpenStack-API-Version": f"compute {version}"})

    def server(self, name: str, user: str = "alice", **values: Any) -> str:
        """Order a server and wait until it runs; return its id."""
        body = {"name": name, "imageRef": self.image.id, "flavorRef": "42", **values}
        made = self.as_(user).post("/v2.1/servers", json={"server": body})
        assert made.status_code == 202, made.text
        server_id: str = made.json["server"]["id"]
        self.wait(server_id, "ACTIVE")
        return server_id

    def act(self, server_id: str, action: Any, user: str = "alice", version: str = "2.1") -> Any:
        """Ask for an action; a name alone is one without arguments."""
        body = {action: None} if isinstance(action, str) else action
        return self.as_(user, version).post(f"/v2.1/servers/{server_id}/action", json=body)

    def done(self, server_id: str, action: Any, status: str, **asked: str) -> None:
        """Ask for an action and wait until it is done."""
        answer = self.act(server_id, action, **asked)
        assert answer.status_code == 202, answer.text
        self.wait(server_id, status)

    def wait(self, server_id: str, status: str | None) -> None:
        """Wait until a server has a status and no task; None: until it's gone."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            shown = self.as_("admin").get(f"/v2.1/servers/{server_id}")
            if status is None and shown.status_code == 404:
                return
            server = shown.json.get("server", {})
            if server.get("status") == status and server["OS-EXT-STS:task_state"] is None:
                return
            time.sleep(0.02)
        pytest.fail(f"server {server_id} isn't {status}: {shown.text}")


@pytest.fixture(scope="module")
def compute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    directory = tmp_path_factory.mktemp("cloud")
    auth = BasicAuth({"http_basic_auth_user_file": str(write_users(directory / "users"))})
    auth.open()
    with Cloud(directory, hosts=("host1", "host2")) as cloud:
        yield Compute(cloud, auth)
