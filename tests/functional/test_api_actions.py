"""Deactivating and reactivating images; deleting them, and bringing them back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from glancelike.model import Status
from glancelike.registry.base import ADMIN
from tests import warm
from tests.server_fixtures import BIN, Api, Server

OCTETS = {"Content-Type": "application/octet-stream"}


def act(api: Api, user: str, image_id: str, action: str) -> int:
    answer = api.as_(user).post(f"/v2/images/{image_id}/actions/{action}")
    assert not (answer.status_code == 204 and answer.content)
    return answer.status_code


def test_a_deactivated_image_is_served_to_admins_only(api: Api) -> None:
    image_id = api.image(data=b"data", visibility="community")
    path = f"/v2/images/{image_id}"
    assert act(api, "alice", image_id, "deactivate") == 204
    assert api.as_("alice").get(path).json["status"] == "deactivated"
    for user in ("alice", "bob"):
        refused = api.as_(user).get(f"{path}/file")
        assert refused.status_code == 403
        assert "deactivated" in refused.json["message"]
        assert api.as_(user).head(f"{path}/file").status_code == 403
    assert api.as_("admin").get(f"{path}/file").content == b"data"
    assert act(api, "alice", image_id, "reactivate") == 204
    assert api.as_("bob").get(f"{path}/file").content == b"data"
    assert api.as_("alice").get(path).json["status"] == "active"


def test_twice_is_as_good_as_once(api: Api) -> None:
    image_id = api.image(data=b"data")
    assert act(api, "alice", image_id, "reactivate") == 204
    for _ in range(2):
        assert act(api, "alice", image_id, "deactivate") == 204
    before = api.as_("alice").get(f"/v2/images/{image_id}").json
    assert act(api, "alice", image_id, "deactivate") == 204
    assert api.as_("alice").get(f"/v2/images/{image_id}").json == before, "nothing changed, no date either"


@pytest.mark.parametrize("action", ["deactivate", "reactivate"])
def test_refused(api: Api, action: str) -> None:
    image_id = api.image()
    refused = api.as_("alice").post(f"/v2/images/{image_id}/actions/{action}")
    assert refused.status_code == 403
    assert f"Not allowed to {action} image in status 'queued'" in refused.json["message"]
    assert act(api, "bob", image_id, action) == 404
    assert act(api, "reader", image_id, action) == 403
    assert act(api, "alice", "no-such-image", action) == 404
    assert api.as_("alice").post(f"/v2/images/{image_id}/actions/explode").status_code == 404
    assert api.as_("alice").get(f"/v2/images/{image_id}/actions/{action}").status_code == 405


def test_a_deactivated_image_keeps_its_data_and_can_go(api: Api) -> None:
    image_id = api.image(data=b"data")
    path = f"/v2/images/{image_id}"
    assert act(api, "alice", image_id, "deactivate") == 204
    assert api.as_("alice").put(f"{path}/file", body=b"other", headers=OCTETS).status_code == 409
    assert api.as_("admin").get(f"{path}/file").content == b"data"
    assert api.as_("alice").delete(path).status_code == 204
    assert api.as_("alice").get(path).status_code == 404


@pytest.mark.parametrize(
    "status", [each for each in Status if each not in (Status.DELETED, "pending_delete")]
)
def test_an_image_of_any_status_can_be_deleted(api: Api, status: Status) -> None:

    image_id = api.image()
    registry = api.service._context.registry
    image = registry.get(image_id, ADMIN)
    registry.update(replace(image, status=status), expect=image.version)
    assert api.as_("alice").delete(f"/v2/images/{image_id}").status_code == 204
    assert api.as_("alice").get(f"/v2/images/{image_id}").status_code == 404


def test_delayed_delete_as_an_operator_sets_it(run_server: Callable[..., Server]) -> None:
    """A real server: deleted, restored from the command line, deleted again and scrubbed."""
    server = run_server(extra="delayed_delete = true\nreap_interval = 0\n")
    client = server.connect()

    def ask(
        method: str, path: str, body: bytes = b"", media_type: str = "application/json"
    ) -> tuple[int, bytes]:
        client.request(method, path, body=body, headers={"Content-Type": media_type})
        answer = client.getresponse()
        return answer.status, answer.read()

    def cli(*words: str) -> str:
        command = [str(BIN / "glancelike"), "--config-file", str(server.config_file), *words]
        done = warm.run(command)
        return f"{done.returncode} {done.stdout}{done.stderr}"

    formats = b'{"disk_format": "raw", "container_format": "bare"}'
    image_id = json.loads(ask("POST", "/v2/images", formats)[1])["id"]
    path = f"/v2/images/{image_id}"
    assert ask("PUT", f"{path}/file", b"data", "application/octet-stream")[0] == 204
    assert ask("DELETE", path)[0] == 204
    assert ask("GET", path)[0] == 404
    assert cli("image", "restore", image_id) == f"0 restored {image_id}\n"
    assert ask("GET", f"{path}/file") == (200, b"data")
    assert ask("DELETE", path)[0] == 204
    assert cli("scrub") == f"0 scrubbed {image_id}\n1 images\n"
    assert list((server.config_file.parent / "images").rglob(f"{image_id}*")) == []
    refused = cli("image", "restore", image_id)
    assert refused.startswith("1 ")
    assert image_id in refused
