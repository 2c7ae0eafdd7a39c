"""An Image API on a remote registry: real servers that are killed, frozen and doubled."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from email.message import Message
from pathlib import Path
from typing import Any

import openstack
import openstack.connection
import openstack.exceptions
import pytest

from glancelike.errors import RegistryUnavailable
from glancelike.model import Image
from glancelike.registry.base import ADMIN
from glancelike.registry.sql.migrations import revisions
from tests import warm
from tests.processes import frozen
from tests.registry_servers import SECRET, database, remote, start_registry, write_registry_config
from tests.server_fixtures import BIN, PASSWORD, Server, command, start, write_config, write_users
from tests.web_server import certificate

# openstacksdk warns of what it does itself.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
DATA = os.urandom(300_000)


def api_config(directory: Path, *urls: str, extra: str = "") -> Path:
    """Write the config file of an API node: no database, two users, these registry servers."""
    directory.mkdir()
    users = write_users(directory / "users")
    options = {
        "registry": "remote",
        "registry_endpoints": ",".join(urls),
        "registry_client_timeout": "2",
        "auth_strategy": "basic",
        "http_basic_auth_user_file": users,
    }
    lines = "\n".join(f"{name} = {value}" for name, value in options.items())
    return write_config(directory, extra=f"{lines}\n{extra}", upgrade=False)


class Registries:
    """Registry servers on one database, and what is needed to bring them back."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.file = directory / "secret"
        self.file.write_text(f"{SECRET}\n")
        self.running: list[Server] = []

    def start(self, name: str = "one", port: int = 0, extra: str = "") -> Server:
        """Start a server; with ``port`` one that was killed comes back."""
        config_file = write_registry_config(
            self.directory / name,
            state=self.directory,
            port=port,
            extra=f"registry_secret_file = {self.file}\n{extra}",
        )
        self.running.append(start_registry(config_file))
        return self.running[-1]

    def stop(self) -> None:
        for server in self.running:
            server.stop()


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registries]:
    made = Registries(tmp_path_factory.mktemp("registries") / "state")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def registry(registries: Registries) -> Server:
    return registries.start()


@pytest.fixture(scope="module")
def api(registries: Registries, registry: Server) -> Iterator[Server]:
    directory = registries.directory / "api"
    server = start(api_config(directory, registry.url, extra=f"registry_secret_file = {registries.file}"))
    yield server
    assert server.stop() == 0
    assert SECRET not in server.log.read_text() + registry.log.read_text()
    assert not database(directory).exists(), "an API node has no database"


def cloud(server: Server, user: str) -> openstack.connection.Connection:
    return openstack.connect(
        auth_type="http_basic",
        auth={"endpoint": f"{server.url}/v2", "username": user, "password": PASSWORD},
        image_endpoint_override=f"{server.url}/v2",
        load_yaml_config=False,
        load_envvars=False,
        region_name="here",
    )


def ask(server: Server, method: str, path: str, body: object = None) -> tuple[int, Message, Any]:
    """Send one request as alice; return status, headers and what the JSON says."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    token = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Accept": "application/json"}
    sent = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        sent = json.dumps(body)
    try:
        client.request(method, path, sent, headers)
        answer = client.getresponse()
        told = answer.read()
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return answer.status, answer.headers, json.loads(told) if is_json and told else told
    finally:
        client.close()


def create(server: Server, **values: object) -> tuple[int, Any]:
    status, _, told = ask(
        server, "POST", "/v2/images", {"disk_format": "raw", "container_format": "bare", **values}
    )
    return status, told


def test_an_images_life(api: Server) -> None:
    alice, bob = cloud(api, "alice"), cloud(api, "bob")
    made = alice.image.create_image(
        name="Bild 🦊", disk_format="raw", container_format="bare", data=DATA, visibility="shared", tags=["a"]
    )
    image = alice.image.get_image(made.id)
    assert (image.status, image.size, image.tags) == ("active", len(DATA), ["a"])
    assert [each.id for each in alice.image.images(name="Bild 🦊")] == [made.id]
    assert b"".join(alice.image.download_image(image, stream=True).iter_content(65536)) == DATA
    with pytest.raises(openstack.exceptions.NotFoundException):
        bob.image.get_image(made.id)
    alice.image.add_member(image, member_id="p-bob")
    bob.image.update_member("p-bob", image=image.id, status="accepted")
    assert [each.id for each in bob.image.images()] == [made.id]
    alice.image.update_image(image, name="renamed", os_distro="debian")
    assert bob.image.get_image(made.id).os_distro == "debian"
    with pytest.raises(openstack.exceptions.ConflictException):
        alice.image.add_member(image, member_id="p-bob")
    alice.image.delete_image(image)
    for each in (alice, bob):
        with pytest.raises(openstack.exceptions.NotFoundException):
            each.image.get_image(made.id)


def test_the_commands_of_the_registry_work_from_an_api_node(api: Server) -> None:
    def run(*words: str) -> str:
        words = (str(BIN / "glancelike"), "--config-file", str(api.config_file), "db", *words)
        done = warm.run(words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("upgrade") == ""
    assert run("version").strip() == revisions()[-1]
    assert run("check").endswith("which is what this version needs\n")
    assert run("purge").startswith("purged ")


def test_a_frozen_registry_is_503_in_time_and_nothing_is_done_later(api: Server, registry: Server) -> None:
    assert create(api, name="before")[0] == 201
    with frozen(registry.process.pid):
        for method, path, body in (
            ("GET", "/v2/images", None),
            ("POST", "/v2/images", {"name": "meanwhile"}),
        ):
            status, headers, _ = ask(api, method, path, body)
            assert status == 503
            assert int(headers["Retry-After"]) > 0
    assert create(api, name="after")[0] == 201
    names = {image["name"] for image in ask(api, "GET", "/v2/images")[2]["images"]}
    assert {"before", "after"} <= names
    assert "meanwhile" not in names, "what was given up was done all the same"


def test_a_registry_that_is_killed_and_comes_back(api: Server, registries: Registries) -> None:
    """Whoever got an answer can rely on it, whoever got 503 can try again."""
    registry = registries.running[0]
    stop = threading.Event()
    told: list[tuple[str, int]] = []

    def work(worker: int) -> None:
        number = 0
        while not stop.is_set():
            name = f"{worker}-{number}"
            told.append((name, create(api, name=name)[0]))
            number += 1

    def wait_for(status: int, count: int) -> None:
        seen = len(told)
        while sum(each == status for _, each in told[seen:]) < count:
            stop.wait(0.01)

    workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
    for worker in workers:
        worker.start()
    try:
        wait_for(201, 5)
        kill(registry)
        wait_for(503, 5)
        registries.running[0] = registries.start(port=registry.port)
        registries.running.pop()
        wait_for(201, 5)
    finally:
        stop.set()
    for worker in workers:
        worker.join(60)
    assert {status for _, status in told} == {201, 503}
    listed = set()
    path = "/v2/images?limit=1000"
    while path:
        page = ask(api, "GET", path)[2]
        listed |= {image["name"] for image in page["images"]}
        path = page.get("next")
    assert {name for name, status in told if status == 201} <= listed


def kill(server: Server) -> None:
    """End a server and its workers as a power cut would."""
    server.process.kill()
    server.process.wait()


def test_of_two_registries_one_dies(registries: Registries, tmp_path: Path) -> None:
    one, two = registries.start("left"), registries.start("right")
    secret = f"registry_secret_file = {registries.file}"
    server = start(api_config(tmp_path / "api", one.url, two.url, extra=secret))
    try:
        assert create(server)[0] == 201
        kill(one)
        # The first may have been on its way to the one that died.
        create(server)
        assert [create(server)[0] for _ in range(10)] == [201] * 10
        assert [ask(server, "GET", "/v2/images")[0] for _ in range(10)] == [200] * 10
        again = registries.start("left", port=one.port)
        kill(two)
        create(server)
        assert [create(server)[0] for _ in range(10)] == [201] * 10
        assert again.process.poll() is None
    finally:
        server.stop()


def failed_start(config_file: Path, program: str = "glancelike-api") -> tuple[int, list[str]]:
    done = warm.run(command(config_file, program))
    return done.returncode, [line for line in done.stderr.splitlines() if " INFO " not in line]


def test_a_wrong_secret_stops_the_start_in_one_line(registry: Server, tmp_path: Path) -> None:
    wrong = "quite-another-secret"
    status, said = failed_start(
        api_config(tmp_path / "api", registry.url, extra=f"registry_secret = {wrong}")
    )
    assert status != 0
    why = "answers 401: this server needs another registry_secret"
    assert said == [f"glancelike-api: the registry server {registry.url} {why}"]


def test_a_secret_is_changed_without_a_stop(registries: Registries, tmp_path: Path) -> None:
    new = "the-secret-of-tomorrow"
    server = registries.start("rotated")
    before = registries.file.read_text()
    registries.file.write_text(f"{before}{new}\n")
    server.process.send_signal(signal.SIGHUP)
    for _ in range(600):
        with suppress(RegistryUnavailable):
            remote(server.url, registry_secret=new).close()
            break
        time.sleep(0.05)
    else:
        pytest.fail("the new secret isn't taken")
    old = remote(server.url, registry_secret=SECRET)
    old.create(Image("rotated"))
    old.close()
    registries.file.write_text(before)


def test_no_registry_server_stops_the_start_in_one_line(tmp_path: Path) -> None:
    status, said = failed_start(api_config(tmp_path / "api", "http://127.0.0.1:9"))
    assert status != 0
    assert len(said) == 1
    assert said[0].startswith("glancelike-api: the registry server http://127.0.0.1:9 is away: ")
    assert "Connection refused" in said[0]


def test_a_registry_server_without_tables_says_what_to_run(tmp_path: Path) -> None:
    config_file = write_registry_config(tmp_path / "registry")
    database(tmp_path / "registry").unlink()
    status, said = failed_start(config_file, "glancelike-registry")
    assert status != 0
    assert len(said) == 1
    assert "`glancelike-registry upgrade`" in said[0]
    program, *rest = command(config_file, "glancelike-registry")
    subprocess.run([program, "upgrade", *rest], check=True, timeout=60)
    start_registry(config_file).stop()


def test_tls(tmp_path: Path) -> None:
    _, trusted = certificate(tmp_path, "127.0.0.1")
    keys = f"certfile = {trusted}\nkeyfile = {tmp_path / 'key.pem'}\nregistry_secret = {SECRET}"
    config_file = write_registry_config(tmp_path / "registry", extra=keys)
    server = start_tls(config_file, trusted)
    url = f"https://127.0.0.1:{server.port}"
    try:
        settings = {"registry_secret": SECRET, "registry_client_timeout": 3.0}
        good = remote(url, **settings, registry_client_ca_file=str(trusted))
        # Neither a peer that says nothing keeps others out, nor one that speaks no TLS.
        with socket.create_connection(("127.0.0.1", server.port)):
            with pytest.raises(RegistryUnavailable, match="certificate verify failed"):
                remote(url, **settings)
            with pytest.raises(RegistryUnavailable):
                remote(url.replace("https", "http"), **settings)
            for number in range(20):  # over a connection that is kept
                good.create(Image(f"{number}"))
        assert good.get("7", ADMIN).id == "7"
        with frozen(server.process.pid), pytest.raises(RegistryUnavailable):
            good.create(Image("late"))
        assert good.create(Image("late")).id == "late", "what was given up was done all the same"
    finally:
        good.close()
        assert server.stop() == 0


def start_tls(config_file: Path, trusted: Path) -> Server:
    """Start a registry server that speaks TLS and wait until it answers."""
    context = ssl.create_default_context(cafile=str(trusted))
    return start(config_file, "glancelike-registry", tls=context)


def test_a_certificate_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    _, trusted = certificate(tmp_path, "127.0.0.1")
    for number, keys in enumerate((f"certfile = {tmp_path}/none", f"certfile = {trusted}")):
        config_file = write_registry_config(tmp_path / f"{number}", extra=keys)
        status, said = failed_start(config_file, "glancelike-registry")
        assert status == 1
        assert len(said) == 1
        assert said[0].startswith("glancelike-registry: certfile ")
