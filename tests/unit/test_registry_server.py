"""The registry server towards odd callers, and a remote registry towards odd servers."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import falcon.testing
import msgspec
import pytest

from glancelike import config_registry, plugins
from glancelike.app_registry import main
from glancelike.errors import ConfigError, ImageExists, OutcomeUnknown, RegistryError, RegistryUnavailable
from glancelike.model import Image
from glancelike.registry import wire
from glancelike.registry.base import ADMIN, Registry
from glancelike.registry.memory import MemoryRegistry
from glancelike.registry.server import SecretAuth, create_app
from glancelike.web.auth import NoneAuth
from tests.registry_servers import SECRET, remote, served

# The server


@pytest.fixture
def client() -> Iterator[falcon.testing.TestClient]:
    registry = MemoryRegistry()
    registry.open()
    headers = {wire.PROTOCOL_HEADER: "1", "Content-Type": wire.MSGPACK}
    yield falcon.testing.TestClient(create_app(registry, NoneAuth({})), headers=headers)
    registry.close()


def packed(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


WHOLE = packed({"image_id": "a", "viewer": {"admin": True}})
MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "cut": WHOLE[:-3],
    "noise": bytes(range(256)),
    "an extra byte": WHOLE + b"\x00",
    "no object": packed([1, 2]),
    "a number": packed(7),
    "nothing given": packed({}),
    "half given": packed({"image_id": "a"}),
    "a number for a text": packed({"image_id": 5, "viewer": {}}),
    "a text for an object": packed({"image_id": "a", "viewer": "me"}),
    "bytes for a text": packed({"image_id": b"a", "viewer": {}}),
    "no UTF-8": b"\x82\xa8image_id\xa1\xff\xa6viewer\x80",
    "deep": b"\x82\xa8image_id" + b"\x91" * 100_000 + b"\xc0",
    "deep and unknown": b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0",
    "a huge array": b"\xdd\xff\xff\xff\xff",
    "a huge text": b"\xdb\xff\xff\xff\xff",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_call_is_refused(
    client: falcon.testing.TestClient, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.post("/v1/get", body=MALFORMED[name])
    assert answer.status_code == 400
    assert b"Traceback" not in answer.content
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("body", ["", "{", "[]", '{"image_id": 5}', "[" * 100_000, '"\\ud800"', "NaN"])
def test_malformed_json_is_refused(client: falcon.testing.TestClient, body: str) -> None:
    answer = client.post("/v1/get", body=body, headers={"Content-Type": wire.JSON})
    assert answer.status_code == 400


def test_a_call_may_be_made_by_hand(client: falcon.testing.TestClient) -> None:
    headers = {"Content-Type": wire.JSON}
    asked = {"image_id": "a", "viewer": {"admin": True}}
    answer = client.post("/v1/get", body=json.dumps(asked), headers=headers)
    assert (answer.status_code, answer.headers[wire.FAILED]) == (404, "image-not-found")
    failure = wire.decode(wire.MSGPACK, answer.content, wire.Failure)
    assert failure.message == "image 'a' not found"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/get", {"Content-Type": "text/plain"}, 415),
        ("/v1/get", {wire.PROTOCOL_HEADER: "new"}, 400),
        ("/v1/get", {wire.PROTOCOL_HEADER: ""}, 400),
        ("/v1/get", {wire.PROTOCOL_HEADER: "9"}, 426),
        ("/v1/gett", {}, 404),
        ("/v2/get", {}, 404),
        ("/v1/get/more", {}, 404),
    ],
)
def test_what_is_no_call(
    client: falcon.testing.TestClient, path: str, headers: dict[str, str], status: int
) -> None:
    assert client.post(path, body=WHOLE, headers=headers).status_code == status


def test_a_call_has_a_size(client: falcon.testing.TestClient) -> None:
    too_much = wire.LARGEST_REQUEST + 1
    declared = client.post("/v1/get", body=b"x", headers={"Content-Length": str(too_much)})
    assert declared.status_code == 413
    assert client.post("/v1/get", body=b"x" * too_much).status_code == 413


def test_other_methods_are_refused(client: falcon.testing.TestClient) -> None:
    assert client.get("/v1/get").status_code == 405
    assert client.get("/healthcheck").text == "OK"


@pytest.mark.parametrize(
    "sent", [None, "", "Bearer", "Bearer ", f"Basic {SECRET}", f"Bearer {SECRET}x", f"Bearer {SECRET[:-1]}"]
)
def test_without_the_secret_nothing_is_told(sent: str | None) -> None:
    registry = MemoryRegistry()
    registry.open()
    app = falcon.testing.TestClient(create_app(registry, SecretAuth([SECRET])))
    headers = {wire.PROTOCOL_HEADER: "1", "Content-Type": wire.MSGPACK}
    if sent is not None:
        headers["Authorization"] = sent
    for path in ("/v1", "/v1/get", "/v1/nothing"):
        answer = app.post(path, body=WHOLE, headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert app.get("/healthcheck").status_code == 200


# The secret, at both ends


def test_a_wrong_secret_is_told_at_open_and_never_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "another-secret-altogether"
    with served(MemoryRegistry(), secrets=[SECRET, "the-secret-of-tomorrow"]) as url:
        for settings in ({"registry_secret": wrong}, {}):
            with pytest.raises(RegistryUnavailable, match="401: this server needs another registry_secret"):
                remote(url, **settings)
        for good in (SECRET, "the-secret-of-tomorrow"):
            remote(url, registry_secret=good).create(Image(good))
        file = tmp_path / "secret"
        file.write_text(f"{SECRET}\nthe-secret-of-yesterday\n")
        registry = remote(url, registry_secret_file=str(file))
        with pytest.raises(ImageExists):
            registry.create(Image(SECRET))
    assert wrong not in caplog.text
    assert SECRET not in caplog.text.replace(f"image {SECRET}", "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("short", "16 or more"),
        ("päßwörter-mit-umlaut", "ASCII"),
        (None, "No such file"),
        (b"\xff" * 20, "holds no text"),
    ],
)
def test_a_secret_that_is_none(tmp_path: Path, text: str | bytes | None, why: str) -> None:
    file = tmp_path / "secret"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=why) as caught:
        remote("http://127.0.0.1:1", registry_secret_file=str(file))
    assert str(file) in str(caught.value)
    with pytest.raises(ConfigError, match="both set"):
        remote("http://127.0.0.1:1", registry_secret_file=str(file), registry_secret=SECRET)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("bind_host = 0.0.0.0", "isn't loopback.*registry_secret_file"),
        ("bind_host = ::", "isn't loopback"),
        ("keyfile = /key", "no certfile"),
        ("registry_secret = short", "16 or more"),
        ("enabled_backends = a:file", "unknown option enabled_backends"),
        ("registry = nothing", "isn't installed"),
    ],
)
def test_what_stops_a_registry_server(
    tmp_path: Path, options: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "registry.conf"
    file.write_text(f"[DEFAULT]\nstate_path = {tmp_path}\n{options}\n")
    with pytest.raises(ConfigError, match=why):
        config_registry.load(["--config-file", str(file)])
    with pytest.raises(SystemExit) as ended:
        main(["--config-file", str(file)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("glancelike-registry: ")


def test_with_a_secret_it_may_listen_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "registry.conf"
    file.write_text(f"[DEFAULT]\nbind_host = 0.0.0.0\nregistry_secret = {SECRET}\n")
    assert config_registry.load(["--config-file", str(file)]).secret["registry_secret"] == SECRET


# A remote registry towards its servers


@contextmanager
def listening(
    serve: Callable[[socket.socket], None] = lambda _connection: None,
) -> Iterator[tuple[str, list[int]]]:
    """Run a server that does to each connection what the test says; return URL and connections."""
    count: list[int] = []
    open_ones: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                count.append(1)
                open_ones.append(connection)
                threading.Thread(target=quietly, args=(connection,), daemon=True).start()

        def quietly(connection: socket.socket) -> None:
            try:
                serve(connection)
            except OSError:
                connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", count
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in open_ones:
                connection.close()
            thread.join()


def hang_up(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.close()


def drip(connection: socket.socket) -> None:
    """Answer for ever, a byte at a time, so that no silence is long."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        threading.Event().wait(0.05)


def drip_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n")
        threading.Event().wait(0.05)


def saying(answer: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        while connection.recv(65536):
            connection.sendall(answer)

    return serve


def opened_then(url: str, *others: str, **settings: Any) -> Any:
    """Open a remote registry with a good server, then let it have others before that."""
    made = remote(*others, url, opened=False, **settings)
    made._link.open(None)
    return made


def dead() -> str:
    """Return a URL where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


SILENT = [hang_up, drip, drip_headers, lambda connection: None]


@pytest.mark.parametrize("serve", SILENT, ids=["hangs up", "drips", "drips headers", "is silent"])
def test_a_read_goes_to_the_next_server_and_a_write_does_not(serve: Callable[[socket.socket], None]) -> None:
    backend = MemoryRegistry()
    with served(backend) as url, listening(serve) as (bad, asked):
        registry = opened_then(url, bad, registry_client_timeout=3.0)
        with pytest.raises(OutcomeUnknown, match="doesn't answer|answers"):
            registry.create(Image("a"))
        assert len(asked) == 1
        # From now on that server is asked last.
        registry.create(Image("a"))
        assert len(asked) == 1
        fresh = opened_then(url, bad, registry_client_timeout=3.0)
        assert fresh.get("a", ADMIN).id == "a"
        assert len(asked) == 2


def test_what_was_never_sent_goes_to_the_next_server() -> None:
    with served(MemoryRegistry()) as url:
        registry = opened_then(url, dead(), dead())
        assert registry.create(Image("a")).id == "a"
        assert registry.get("a", ADMIN).id == "a"


def test_without_any_server_all_are_named() -> None:
    one, other = dead(), dead()
    for work in (lambda r: r.get("a", ADMIN), lambda r: r.create(Image("a"))):
        with pytest.raises(RegistryUnavailable, match=f"{one}.*{other}"):
            work(opened_then(other, one))
    with pytest.raises(RegistryUnavailable, match=one):
        remote(one)


def test_a_server_that_comes_back_is_asked_again() -> None:
    backend = MemoryRegistry()
    with listening() as (bad, _asked):
        registry = opened_then(bad, registry_client_timeout=3.0)
        with pytest.raises(RegistryUnavailable):
            registry.get("a", ADMIN)
    with served(backend) as url:
        registry._link._servers[0].pool = registry._link._manager.connection_from_url(url)
        assert registry.create(Image("a")).id == "a"


@pytest.mark.parametrize(
    ("answer", "kind", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", RegistryUnavailable, "something else"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 4\r\n\r\nlate", RegistryUnavailable, "502: late"),
        (b"HTTP/1.1 302 Go\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", RegistryUnavailable, "302"),
        (b"HTTP/1.1 500 Bug\r\nContent-Length: 3\r\n\r\nbug", RegistryError, "500: bug"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", RegistryUnavailable, "doesn't answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", RegistryUnavailable, "doesn't answer"),
    ],
)
def test_a_server_that_is_none(answer: bytes, kind: type[Exception], why: str) -> None:
    with listening(saying(answer)) as (url, _asked), pytest.raises(kind, match=why):
        remote(url, registry_client_timeout=0.5)


def test_a_remote_registry_that_is_not_open() -> None:
    with pytest.raises(RegistryError, match="not open"):
        remote(dead(), opened=False).get("a", ADMIN)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("registry.example.org:9191", "isn't like"),
        ("ftp://registry", "isn't like"),
        ("http://", "isn't like"),
        ("http://host/?a=b", "isn't like"),
        ("http://me:password@host", "no credentials"),
    ],
)
def test_a_bad_endpoint(endpoint: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        remote(endpoint, opened=False)
    assert "password@" not in str(caught.value)


def test_the_library_opens_it_by_uri() -> None:
    kind, settings = plugins.for_uri("glancelike.registries", "remote+https://a:1,https://b:2", Registry)
    assert kind(settings).settings["registry_endpoints"] == ["https://a:1", "https://b:2"]
