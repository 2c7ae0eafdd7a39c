"""Serial consoles: from the API's URL by websocket to a guest's terminal, and who doesn't get there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
import urllib3
import websocket
from websocket import WebSocketBadStatusException, create_connection

from novalite.admission import redeem
from novalite.app import create_app
from novalite.db import Database
from novalite.errors import Forbidden, InvalidInput, InvalidState
from novalite.model import NewServer, Server, Status
from novalite.testing.cloud import Cloud
from tests.compute_fixtures import Compute
from tests.server_fixtures import BasicAuth, start, write_users
from tests.server_fixtures import Server as Program
from tests.waiting import until

CONFIG = """\
[DEFAULT]
host = host1
compute_driver = fake
state_path = {directory}/proxy
debug = true
[database]
connection = sqlite:///{directory}/novalite.sqlite
[fake]
fake_directory = {directory}/guests
[serial_console]
enabled = true
base_url = ws://consoles.example.org:6083/
serialproxy_port = 0
[console]
allowed_origins = Dashboard.example.org
"""
OPTIONS = {
    ("serial_console", "enabled"): True,
    ("serial_console", "base_url"): "ws://consoles.example.org:6083/",
}
TAKEN_OVER = 1008


class Site:
    """A cloud whose guests are kept in files, and the proxy of its host."""

    def __init__(self, directory: Path, cloud: Cloud) -> None:
        self.cloud = cloud
        self.database = Database(cloud.settings("host1").database.connection)
        self.database.open()
        self.image = cloud.images.add(b"\0" * 512).id
        self.server = self.boot()
        self.sockets: list[socket.socket] = []
        config_file = directory / "novalite.conf"
        config_file.write_text(CONFIG.format(directory=directory))
        self.program: Program = start(config_file, "novalite-serialproxy")

    def boot(self) -> Server:
        (server,) = self.cloud.service.servers.create(self.cloud.caller, NewServer("vm", self.image, "42"))
        return self.cloud.wait(server.id, Status.ACTIVE)

    def token(self, server: Server | None = None) -> str:
        """Ask the API's service for a console; return the token that is in its URL."""
        caller = self.cloud.caller
        url = self.cloud.service.consoles.open(caller, (server or self.server).id, "serial")
        assert url.startswith("ws://consoles.example.org:6083/?token=")
        return url.partition("=")[2]

    def connect(self, token: str, path: str = "/", **options: Any) -> websocket.WebSocket:
        url = f"ws://127.0.0.1:{self.program.port}{path}?token={token}"
        # What is no browser names no origin, unless a test has it do so.
        options = {"suppress_origin": "origin" not in options, **options}
        # The library doesn't close its own in all cases.
        self.sockets.append(socket.create_connection(("127.0.0.1", self.program.port), timeout=60))
        return create_connection(url, socket=self.sockets[-1], **options)

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        """Ask as what speaks no websocket."""
        with urllib3.HTTPConnectionPool("127.0.0.1", self.program.port, retries=False) as pool:
            return pool.urlopen("GET", path, redirect=False)

    def refused(self, token: str, **options: Any) -> int:
        """Try to connect; return the status that says no."""
        with pytest.raises(WebSocketBadStatusException) as refused:
            self.connect(token, **options)
        status: int = refused.value.status_code
        return status


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("consoles")
    (directory / "proxy").mkdir()
    kept = {("fake", "fake_directory"): str(directory / "guests")}
    with Cloud(directory, options={**OPTIONS, **kept}) as cloud:
        made = Site(directory, cloud)
        yield made
        for each in made.sockets:
            each.close()
        assert made.program.stop() == 0
        made.database.close()


def told(console: websocket.WebSocket) -> bytes:
    """Return the next of what the guest says."""
    opcode, data = console.recv_data()
    assert opcode == websocket.ABNF.OPCODE_BINARY, data
    return bytes(data)


def talk(console: websocket.WebSocket, line: bytes) -> None:
    """Type something, and wait until the fake guest's terminal has said it."""
    console.send_binary(line + b"\n")
    said = b""
    while line not in said:
        said += told(console)


# The way through


def test_console_a_token_brings_a_client_to_the_guest(site: Site) -> None:
    console = site.connect(site.token(), subprotocols=["binary", "base64"])
    assert console.subprotocol == "binary"
    talk(console, b"hello \xff guest")
    console.send("text is taken, too\n")
    said = b""
    while b"text is taken, too" not in said:
        said += told(console)
    console.close()


def test_console_much_in_both_directions_arrives_whole(site: Site) -> None:
    console = site.connect(site.token())
    lines = [b"%05d %s" % (number, b"x" * 100) for number in range(2000)]

    def type_all() -> None:
        for line in lines:
            console.send_binary(line + b"\n")

    typing = threading.Thread(target=type_all)
    typing.start()
    said = bytearray()
    while said.count(b"\n") < len(lines):
        said += told(console)
    typing.join()
    assert bytes(said).split(b"\n")[:-1] == lines
    console.close()


def test_console_the_newer_client_takes_it_over(site: Site) -> None:
    first = site.connect(site.token())
    talk(first, b"first")
    second = site.connect(site.token())
    talk(second, b"second")
    opcode, why = first.recv_data()
    assert (opcode, int.from_bytes(why[:2])) == (websocket.ABNF.OPCODE_CLOSE, TAKEN_OVER)
    talk(second, b"still there")
    second.close()
    first.close()


# Who isn't let in


def test_console_cve_2013_0335_a_token_opens_once_and_nothing_but_its_server(site: Site) -> None:
    """A token stayed good when its server was gone, for the next one at the same port."""
    token = site.token()
    site.connect(token).close()
    assert site.refused(token) == 403
    gone = site.boot()
    left = site.token(gone)
    site.cloud.service.servers.delete(site.cloud.caller, gone.id)
    site.cloud.wait(gone.id, None)
    assert site.refused(left) == 403
    moved = site.token()
    with pytest.raises(Forbidden):
        redeem(site.database, moved, host="another-host")
    with pytest.raises(Forbidden):
        redeem(site.database, moved, host="host1")  # that attempt has used it up


def test_console_of_many_with_one_token_one_gets_in(site: Site) -> None:
    token = site.token()

    def attempt(_: int) -> bool:
        try:
            redeem(site.database, token, host="host1")
        except Forbidden:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


def test_console_a_token_expires(site: Site) -> None:
    token = site.token()
    with sa.create_engine(site.cloud.settings("host1").database.connection).begin() as connection:
        connection.execute(sa.text("UPDATE console_tokens SET expires_at = '2020-01-01 00:00:00.000000'"))
    assert site.refused(token) == 403
    site.token()  # which sweeps what has expired
    with pytest.raises(Forbidden):
        redeem(site.database, token, host="host1")


@pytest.mark.parametrize("token", ["", "guessed", "%00", "a" * 5000, "x&token=y"])
def test_console_a_guessed_token_is_refused(site: Site, token: str) -> None:
    assert site.refused(token) == 403


@pytest.mark.parametrize(
    ("origin", "fine"),
    [
        ("http://consoles.example.org", True),
        ("https://dashboard.EXAMPLE.org:8443", True),
        ("http://evil.example.org", False),
        ("http://127.0.0.1", False),
        ("http://consoles.example.org.evil.org", False),
        ("file://consoles.example.org", False),
        ("null", False),
        ("http://[", False),
    ],
)
def test_console_cve_2015_0259_pages_of_other_sites_open_none(site: Site, origin: str, fine: bool) -> None:
    """A page that its user's browser had open could use the user's console."""
    token = site.token()
    if not fine:
        assert site.refused(token, origin=origin) == 403
    # A refused page doesn't use the token up.
    site.connect(token, **({"origin": origin} if fine else {})).close()


def test_console_cve_2015_9543_no_token_is_logged(site: Site) -> None:
    """Not even when it debugs, which it does here."""
    token = site.token()
    console = site.connect(token)
    talk(console, b"logged?")
    console.close()
    site.refused(token)
    until(lambda: "isn't good" in site.program.log.read_text())
    log = site.program.log.read_text()
    assert f"server {site.server.id}: console of" in log
    assert token not in log
    with sa.create_engine(site.cloud.settings("host1").database.connection).connect() as connection:
        kept = connection.execute(sa.text("SELECT * FROM console_tokens")).all()
    assert token not in str(kept)


@pytest.mark.parametrize("path", ["//evil.example.org/%2e%2e", "//evil.example.org", "/elsewhere"])
def test_console_cve_2021_3654_nobody_is_redirected(site: Site, path: str) -> None:
    """A path of two slashes sent the browser to another site."""
    token = site.token()
    assert site.refused(token, path=path) == 404
    answer = site.get(path)
    assert (answer.status, answer.headers.get("Location")) == (404, None)
    site.connect(token).close()


def test_console_what_is_no_websocket_uses_no_token_up(site: Site) -> None:
    token = site.token()
    assert site.get(f"/?token={token}").status == 426
    site.connect(token).close()


# The API


def test_console_there_is_none_of_a_server_that_is_off(site: Site) -> None:
    server = site.boot()
    waiting = site.token(server)
    site.cloud.service.servers.stop(site.cloud.caller, server.id)
    site.cloud.wait(server.id, Status.SHUTOFF)
    with pytest.raises(InvalidState, match="is not ready"):
        site.cloud.service.consoles.open(site.cloud.caller, server.id, "serial")
    console = site.connect(waiting)
    opcode, why = console.recv_data()
    assert (opcode, int.from_bytes(why[:2]), why[2:]) == (8, 1011, b"the server has no console now")
    console.close()


def test_console_hosts_that_serve_none_say_so(tmp_path: Path) -> None:
    with Cloud(tmp_path) as cloud:
        wanted = NewServer("vm", cloud.images.add(b"\0" * 512).id, "42")
        (server,) = cloud.service.servers.create(cloud.caller, wanted)
        cloud.wait(server.id, Status.ACTIVE)
        with pytest.raises(InvalidInput, match="Unavailable console type serial"):
            cloud.service.consoles.open(cloud.caller, server.id, "serial")


def test_console_the_api_answers_as_novas_does(site: Site, tmp_path: Path) -> None:
    auth = BasicAuth({"http_basic_auth_user_file": str(write_users(tmp_path / "users"))})
    auth.open()
    compute = Compute.__new__(Compute)
    compute.cloud, compute.app = site.cloud, create_app(site.cloud.service, auth)
    compute.image = replace(site.cloud.images.show(site.image, site.cloud.admin))
    server_id = compute.server("mine")
    old = {"os-getSerialConsole": {"type": "serial"}}
    new = {"remote_console": {"protocol": "serial", "type": "serial"}}
    path = f"/v2.1/servers/{server_id}/remote-consoles"

    answer = compute.act(server_id, old)
    assert answer.status_code == 200
    assert answer.json["console"]["type"] == "serial"
    assert urlsplit(answer.json["console"]["url"]).hostname == "consoles.example.org"
    assert compute.act(server_id, old, version="2.6").status_code == 404
    answer = compute.as_("alice", "2.6").post(path, json=new)
    assert answer.status_code == 200
    assert {**answer.json["remote_console"], "url": ""} == {**new["remote_console"], "url": ""}
    assert (
        redeem(site.database, answer.json["remote_console"]["url"].partition("=")[2], host="host1")
        == server_id
    )

    for version, body, status in (
        ("2.5", new, 404),
        ("2.6", {"remote_console": {"protocol": "vnc", "type": "novnc"}}, 400),
        ("2.7", {"remote_console": {"protocol": "mks", "type": "webmks"}}, 400),
        ("2.8", {"remote_console": {"protocol": "mks", "type": "webmks"}}, 400),
        ("2.98", {"remote_console": {"protocol": "spice", "type": "spice-direct"}}, 400),
        ("2.99", {"remote_console": {"protocol": "spice", "type": "spice-direct"}}, 400),
        ("2.6", {"remote_console": {"type": "serial"}}, 400),
    ):
        assert compute.as_("alice", version).post(path, json=body).status_code == status, (version, body)
    assert compute.act(server_id, {"os-getSerialConsole": {"type": "novnc"}}).status_code == 400
    assert compute.as_("bob", "2.6").post(path, json=new).status_code == 404
    auth.close()


def test_console_who_speaks_something_else_leaves_no_trace_in_the_log(site: Site) -> None:
    for said in (b"", b"\x16\x03\x01 hello\r\n\r\n", b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", site.program.port), timeout=60) as stranger:
            stranger.sendall(said)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(4096):
                pass
    site.connect(site.token()).close()
    assert "Traceback" not in site.program.log.read_text()
