"""OpenStack's own clients against both servers, set up as docs/clients.md says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack.config
import openstack.connection
import openstack.exceptions
import pytest

from tests.functional.test_clients import Client
from tests.server_fixtures import BIN, PASSWORD, Server, start, write_config, write_users

pytestmark = [
    pytest.mark.clients,
    # openstacksdk warns of what it does itself.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The field .* has been deprecated"),
]
DOCUMENT = Path(__file__).parents[2] / "docs" / "clients.md"
NOVALITE = """\
[DEFAULT]
state_path = {state}
osapi_compute_listen_port = 0
compute_driver = fake
report_interval = 0.5
redrive_interval = 0.5
{extra}
[api]
{api}
[database]
auto_upgrade = true
[glance]
endpoint_override = {glance}
{credentials}
"""


def documented(number: int, image: Server, compute: Server) -> str:
    """Return a clouds.yaml of the documentation, with the ports of here."""
    block: str = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[number]
    for port, server in ((9292, image), (8774, compute)):
        assert f"http://127.0.0.1:{port}" in block
        block = block.replace(f"http://127.0.0.1:{port}", server.url)
    return block.replace("password: secret", f"password: {PASSWORD}")


def start_compute(directory: Path, image: Server, *, extra: str = "", api: str = "", **login: str) -> Server:
    """Start novalite-all with the fake driver on images of ``image``."""
    state = directory / "novalite"
    state.mkdir()
    path = directory / "novalite.conf"
    credentials = "\n".join(f"{name} = {value}" for name, value in login.items())
    path.write_text(
        NOVALITE.format(state=state, extra=extra, api=api, glance=image.url, credentials=credentials)
    )
    return start(path, "novalite-all")


@pytest.fixture(scope="module")
def cloud(api_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run novalite beside the image server; return a clouds.yaml for both."""
    directory = tmp_path_factory.mktemp("compute")
    compute = start_compute(directory, api_server)
    clouds = directory / "clouds.yaml"
    clouds.write_text(documented(0, api_server, compute))
    yield clouds
    assert compute.stop() == 0


def connect(clouds: Path) -> Any:
    """Connect openstacksdk; Any, since its types cover every version of every service."""
    config = openstack.config.OpenStackConfig(config_files=[str(clouds)], load_envvars=False)
    return openstack.connection.Connection(config=config.get_one("local"))


def boot(conn: Any, name: str, image_id: str) -> Any:
    """Create a server of the smallest flavor and wait until it runs."""
    compute = conn.compute
    flavor = compute.find_flavor("m1.nano")
    server = compute.create_server(name=name, image_id=image_id, flavor_id=flavor.id, networks=[])
    return compute.wait_for_server(server, interval=0.2)


def test_openstackclient(cloud: Path, tmp_path: Path) -> None:
    client = Client([str(BIN / "openstack")], {"OS_CLIENT_CONFIG_FILE": str(cloud), "OS_CLOUD": "local"})
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(100_000))
    bare = ("--disk-format", "raw", "--container-format", "bare")
    client("image", "create", "disk", *bare, "--file", str(disk))
    private = client("keypair", "create", "mine")
    assert private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    server = json.loads(
        client(
            *("server", "create", "one", "--image", "disk", "--flavor", "m1.tiny"),
            *("--key-name", "mine", "--property", "a=b", "--wait", "-f", "json"),
        )
    )
    assert (server["status"], server["key_name"], server["properties"]) == ("ACTIVE", "mine", {"a": "b"})
    (listed,) = json.loads(client("server", "list", "-f", "json"))
    assert {name: listed[name] for name in ("ID", "Name", "Status", "Image", "Flavor")} == {
        "ID": server["id"],
        "Name": "one",
        "Status": "ACTIVE",
        "Image": "disk",
        "Flavor": "m1.tiny",
    }
    assert "ready" in client("console", "log", "show", "one")
    assert "Complete" in client("server", "reboot", "--hard", "--wait", "one")
    client("server", "stop", "one")
    assert client("server", "show", "one", "-f", "value", "-c", "name").strip() == "one"
    client("server", "delete", "--wait", "one")
    assert "No Server found for one" in client.refused("server", "show", "one")
    assert "nova" in client("availability", "zone", "list", "--compute")
    assert "m1.nano" in client("flavor", "list")
    (hypervisor,) = json.loads(client("hypervisor", "list", "-f", "json"))
    assert hypervisor["State"] == "up"


def test_openstacksdk(cloud: Path) -> None:
    with connect(cloud) as conn:
        image = conn.create_image(
            "sdk-disk", data=bytes(50_000), disk_format="raw", container_format="bare", wait=True
        )
        compute = conn.compute
        server = boot(conn, "sdk", image.id)
        assert server.status == "ACTIVE"
        for act, status in (
            (compute.stop_server, "SHUTOFF"),
            (compute.start_server, "ACTIVE"),
            (lambda each: compute.reboot_server(each, "SOFT"), "ACTIVE"),
        ):
            act(server)
            server = compute.wait_for_server(server, status=status, interval=0.2)
        compute.set_server_metadata(server, x="y")
        assert compute.get_server_metadata(server).metadata["x"] == "y"
        assert "ready" in compute.get_server_console_output(server, length=10)["output"]
        limits = compute.get_limits().absolute
        assert (limits.instances, limits.instances_used) == (10, 1)
        (service,) = compute.services()
        assert (service.status, service.state) == ("enabled", "up")
        flavor = compute.create_flavor(name="sdk", ram=64, vcpus=1, disk=1)
        assert compute.find_flavor("sdk").id == flavor.id
        compute.delete_flavor(flavor)
        with pytest.raises(openstack.exceptions.BadRequestException, match="image .* not found"):
            compute.create_server(name="bad", image_id="0" * 36, flavor_id="1", networks=[])
        with pytest.raises(openstack.exceptions.ConflictException, match="Cannot 'start' instance"):
            compute.start_server(server)
        compute.delete_server(server)
        compute.wait_for_delete(server, interval=0.2)
        assert compute.find_server("sdk") is None


def test_basic_authentication(tmp_path: Path) -> None:
    users = write_users(tmp_path / "users")
    basic = f"auth_strategy = basic\nhttp_basic_auth_user_file = {users}"
    image_server = start(write_config(tmp_path, extra=basic))
    compute_server = None
    try:
        compute_server = start_compute(tmp_path, image_server, api=basic, username="admin", password=PASSWORD)
        clouds = tmp_path / "clouds.yaml"
        clouds.write_text(documented(1, image_server, compute_server))
        with connect(clouds) as conn:
            image = conn.image.create_image(
                name="basic", data=bytes(10_000), disk_format="raw", container_format="bare"
            )
            server = boot(conn, "basic", image.id)
            assert (server.project_id, server.user_id) == ("p-alice", "alice")
            with pytest.raises(openstack.exceptions.ForbiddenException):
                list(conn.compute.services())
            conn.compute.delete_server(server)
            conn.compute.wait_for_delete(server, interval=0.2)
    finally:
        for running in (compute_server, image_server):
            if running is not None:
                assert running.stop() == 0


def test_only_one_process_may_be_everything(tmp_path: Path, api_server: Server) -> None:
    with pytest.raises(AssertionError, match="osapi_compute_workers is 2"):
        start_compute(tmp_path, api_server, extra="osapi_compute_workers = 2")
