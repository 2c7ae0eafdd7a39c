"""OpenStack's own clients against the server: their commands, as users type them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
import openstack.exceptions
import pytest

from tests import warm
from tests.server_fixtures import BIN, PASSWORD, Server, start, write_config, write_users

pytestmark = [
    pytest.mark.clients,
    # openstacksdk warns of what it does itself.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


@pytest.fixture(scope="module")
def basic_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server that knows users by password."""
    directory = tmp_path_factory.mktemp("basic")
    users = write_users(directory / "users")
    server = start(
        write_config(directory, extra=f"auth_strategy = basic\nhttp_basic_auth_user_file = {users}")
    )
    yield server
    assert server.stop() == 0


def run(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a client with nothing but these OS_* variables and no standard input."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    return warm.run(words, env={**clean, **environment})


class Client:
    """A command-line client; calls return its output and fail on an error."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self._words = words
        self._environment = environment

    def __call__(self, *words: str) -> str:
        done = run([*self._words, *words], self._environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words: str) -> str:
        done = run([*self._words, *words], self._environment)
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr


def openstack_client(server: Server, user: str | None = None) -> Client:
    if user is None:
        environment = {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": server.url}
    else:  # http_basic doesn't ask for the versions, so the endpoint has to name one
        environment = {"OS_AUTH_TYPE": "http_basic", "OS_ENDPOINT": f"{server.url}/v2"}
        environment |= {"OS_USERNAME": user, "OS_PASSWORD": PASSWORD}
    return Client([str(BIN / "openstack")], environment)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "image.raw"
    path.write_bytes(os.urandom(3_000_000))
    return path


def test_openstackclient(api_server: Server, data: Path, tmp_path: Path) -> None:
    client = openstack_client(api_server)
    made = json.loads(
        client(
            *("image", "create", "cirros", "--disk-format", "raw", "--container-format", "bare"),
            *("--file", str(data), "--property", "hw_disk_bus=virtio", "--tag", "one", "-f", "json"),
        )
    )
    assert (made["status"], made["size"], made["tags"]) == ("active", 3_000_000, ["one"])
    assert made["properties"]["os_hash_value"] == hashlib.sha256(data.read_bytes()).hexdigest()
    listed = json.loads(client("image", "list", "--tag", "one", "--sort", "name:asc", "-f", "json"))
    assert listed == [{"ID": made["id"], "Name": "cirros", "Status": "active"}]
    client("image", "set", "cirros", "--name", "cirros2", "--property", "a=b", "--tag", "two", "--protected")
    client("image", "unset", "cirros2", "--property", "hw_disk_bus", "--tag", "one")
    shown = json.loads(client("image", "show", "cirros2", "-f", "json"))
    assert (shown["protected"], shown["tags"]) == (True, ["two"])
    assert shown["properties"]["a"] == "b"
    assert "hw_disk_bus" not in shown["properties"]
    saved = tmp_path / "saved"
    client("image", "save", "--file", str(saved), "cirros2")
    assert saved.read_bytes() == data.read_bytes()
    said = client.refused("image", "delete", "cirros2")
    assert f"Image {made['id']} is protected and cannot be deleted." in said
    client("image", "set", "--unprotected", "cirros2")
    client("image", "delete", "cirros2")
    assert "No Image found for cirros2" in client.refused("image", "show", "cirros2")


def test_openstackclient_shares_between_projects(basic_server: Server) -> None:
    alice, bob = openstack_client(basic_server, "alice"), openstack_client(basic_server, "bob")
    image_id = alice("image", "create", "shared", "--shared", "-f", "value", "-c", "id").strip()
    # --project would ask Keystone, so sharing is done as python-glanceclient does.
    connection = connect(basic_server, "alice")
    member = connection.image.add_member(image_id, member="p-bob")
    assert member.status == "pending"
    connect(basic_server, "bob").image.update_member("p-bob", image_id, status="accepted")
    assert bob("image", "list", "-f", "value", "-c", "Name").split() == ["shared"]
    said = bob.refused("image", "delete", image_id)
    assert "You are not authorized to complete delete_image action." in said
    environment = {
        "OS_AUTH_TYPE": "http_basic",
        "OS_ENDPOINT": f"{basic_server.url}/v2",
        "OS_USERNAME": "bob",
        "OS_PASSWORD": "wrong",
    }
    wrong = run([str(BIN / "openstack"), "image", "list"], environment)
    assert wrong.returncode != 0
    assert "401" in wrong.stderr


def connect(server: Server, user: str | None = None) -> Any:
    """Connect openstacksdk; Any, since its types cover every version of every service."""
    auth = {"endpoint": server.url}
    if user is not None:
        auth = {"endpoint": f"{server.url}/v2", "username": user, "password": PASSWORD}
    return openstack.connect(
        load_yaml_config=False, load_envvars=False, auth_type="http_basic" if user else "none", auth=auth
    )


def test_openstacksdk(api_server: Server, data: Path, tmp_path: Path) -> None:
    with connect(api_server) as cloud:
        image = cloud.create_image(
            "sdk", data=data.read_bytes(), disk_format="raw", container_format="bare", wait=True, tags=["t"]
        )
        assert (image.status, image.size, image.tags) == ("active", 3_000_000, ["t"])
        assert [each.name for each in cloud.image.images(name="sdk")] == ["sdk"]
        assert cloud.image.find_image("sdk").id == image.id
        target = tmp_path / "down"
        cloud.image.download_image(image, output=str(target), stream=True)
        assert target.read_bytes() == data.read_bytes()
        cloud.image.update_image(image, name="sdk2", os_hidden=True)
        assert cloud.image.get_image(image.id).name == "sdk2"
        cloud.image.add_tag(image, "more")
        assert sorted(cloud.image.get_image(image.id).tags) == ["more", "t"]
        cloud.image.deactivate_image(image.id)
        assert cloud.image.get_image(image.id).status == "deactivated"
        cloud.image.reactivate_image(image.id)
        assert {store.id for store in cloud.image.stores()} == {"disk", "ram"}
        with pytest.raises(openstack.exceptions.BadRequestException, match="does not match schema 'image'"):
            cloud.image.create_image("bad", min_disk=-1, allow_duplicates=True)
        cloud.image.delete_image(image.id)
        with pytest.raises(openstack.exceptions.NotFoundException, match=image.id):
            cloud.image.get_image(image.id)


def test_pages_of_openstacksdk(api_server: Server) -> None:
    with connect(api_server) as cloud:
        made = {cloud.image.create_image(f"page{i}", allow_duplicates=True).id for i in range(5)}
        assert made <= {image.id for image in cloud.image.images(limit=2)}


def test_glanceclient(api_server: Server, data: Path, tmp_path: Path) -> None:
    client = Client(
        [str(BIN / "glance"), "--os-auth-token", "none", "--os-image-url", api_server.url],
        {"HOME": str(tmp_path)},
    )
    client(
        *("image-create", "--name", "glance", "--disk-format", "raw", "--container-format", "bare"),
        *("--file", str(data), "--property", "a=b"),
    )
    row = next(line for line in client("image-list").splitlines() if " glance " in line)
    image_id = row.split()[1]
    client("image-update", image_id, "--remove-property", "a", "--name", "glance2")
    client("image-tag-update", image_id, "tag")
    client("member-create", image_id, "p-bob")
    assert "accepted" in client("member-update", image_id, "p-bob", "accepted")
    shown = client("image-show", image_id)
    assert "glance2" in shown
    assert '["tag"]' in shown
    saved = tmp_path / "saved"
    client("image-download", "--file", str(saved), image_id)
    assert saved.read_bytes() == data.read_bytes()
    client("image-delete", image_id)
    said = client.refused("image-show", image_id)
    assert said.startswith("HTTP 404 Not Found: ")
    assert image_id in said
