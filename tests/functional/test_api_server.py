"""What only a real server process shows: framing, limits, signals, death."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import falcon.testing
import pytest

from glancelike import app
from tests.leases import run_out
from tests.processes import children
from tests.server_fixtures import Server, command, write_config
from tests.waiting import until

MIB = 1024 * 1024
OCTETS = {"Content-Type": "application/octet-stream"}
RunServer = Callable[..., Server]


def make_image(server: Server) -> str:
    client = server.connect()
    body = json.dumps({"disk_format": "raw", "container_format": "bare"})
    client.request("POST", "/v2/images", body, {"Content-Type": "application/json"})
    image_id: str = json.loads(client.getresponse().read())["id"]
    return image_id


def show(server: Server, image_id: str) -> dict[str, object]:
    client = server.connect()
    client.request("GET", f"/v2/images/{image_id}")
    shown: dict[str, object] = json.loads(client.getresponse().read())
    return shown


@contextlib.contextmanager
def raw(server: Server, head: str) -> Iterator[socket.socket]:
    """Open a socket and send a request's head."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(head.replace("\n", "\r\n").encode())
        yield sock


def put_head(image_id: str, framing: str) -> str:
    return (
        f"PUT /v2/images/{image_id}/file HTTP/1.1\nHost: localhost\n"
        f"Content-Type: application/octet-stream\n{framing}\n\n"
    )


def answer_of(sock: socket.socket) -> bytes:
    """Read until the server closes or has sent a whole answer's head."""
    data = b""
    while b"\r\n\r\n" not in data:
        block = sock.recv(65536)
        if not block:
            break
        data += block
    return data


def is_running(pid: int) -> bool:
    """Tell whether a process runs; a zombie doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def memory(pid: int) -> int:
    """Return the resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_large_data_goes_up_and_down_in_flat_memory(api_server: Server) -> None:
    image_id = make_image(api_server)
    path = f"/v2/images/{image_id}/file"
    block = os.urandom(MIB)
    count = 96
    worker = children(api_server.process.pid)[0]
    before = memory(worker)
    client = api_server.connect()
    client.request("PUT", path, (block for _ in range(count)), OCTETS, encode_chunked=True)
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (204, b"")
    client.request("GET", path)
    answer = client.getresponse()
    digest, size = hashlib.sha256(), 0
    while data := answer.read(MIB):
        digest.update(data)
        size += len(data)
    shown = show(api_server, image_id)
    assert (size, digest.hexdigest()) == (count * MIB, shown["os_hash_value"])
    assert shown["size"] == count * MIB
    client.request("GET", path, headers={"Range": f"bytes={5 * MIB - 3}-{5 * MIB + 2}"})
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (206, block[-3:] + block[:3])
    assert memory(worker) - before < 32 * MIB


def reads(pid: int) -> int:
    """Return how often a process has read."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("syscr:")).split()[1])


def test_a_download_from_a_file_leaves_the_copying_to_the_kernel(api_server: Server) -> None:
    image_id = make_image(api_server)
    client = api_server.connect()
    client.request("PUT", f"/v2/images/{image_id}/file", bytes(32 * MIB), OCTETS)
    client.getresponse().read()
    worker = children(api_server.process.pid)[0]
    before = reads(worker)
    client.request("GET", f"/v2/images/{image_id}/file")
    assert len(client.getresponse().read()) == 32 * MIB
    assert reads(worker) - before < 32 * 8, "that is 128 KiB at a time: Python copied"


def test_peers_that_are_slow_hold_up_nobody_else(run_server: RunServer) -> None:
    server = run_server(threads=1)
    data = bytes(32 * MIB)  # more than sockets hold
    in_store = {}
    for store in ("disk", "ram"):
        in_store[store] = make_image(server)
        client = server.connect()
        headers = {**OCTETS, "X-Image-Meta-Store": store}
        client.request("PUT", f"/v2/images/{in_store[store]}/file", data, headers)
        assert client.getresponse().status == 204
    uploaded = make_image(server)
    with contextlib.ExitStack() as stack:
        # Two that don't take what they asked for, one that doesn't go on sending, one hardly begun.
        takers = []
        for image_id in in_store.values():
            head = f"GET /v2/images/{image_id}/file HTTP/1.1\nHost: localhost\n\n"
            takers.append(stack.enter_context(raw(server, head)))
            assert takers[-1].recv(8) == b"HTTP/1.1"
        sender = stack.enter_context(raw(server, put_head(uploaded, "Content-Length: 10")))
        sender.sendall(b"01234")
        until(lambda: show(server, uploaded)["status"] == "saving")
        stack.enter_context(raw(server, "GET /v2/ima"))
        assert show(server, in_store["disk"])["status"] == "active"
        # And they get what is theirs when they go on.
        sender.sendall(b"56789")
        assert answer_of(sender).startswith(b"HTTP/1.1 204")
        for taker in takers:
            left = len(data)
            while left > 0:
                block = taker.recv(MIB)
                assert block, "the download broke off"
                left -= len(block)


def test_expect_100_continue(api_server: Server) -> None:
    head = put_head(make_image(api_server), "Content-Length: 3\nExpect: 100-continue\nConnection: close")
    with raw(api_server, head) as sock:
        assert answer_of(sock).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"abc")
        assert answer_of(sock).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("Content-Length: 1000000", b"x" * 500),
        ("Content-Length: 1000000", b""),
        ("Transfer-Encoding: chunked", b"5\r\nabcde\r\n"),
        ("Transfer-Encoding: chunked", b"ff\r\nabcde"),
        ("Transfer-Encoding: chunked", b"5\r\nabcde\r\nnonsense\r\n"),
        ("Transfer-Encoding: chunked\nx-openstack-image-size: 4", b"5\r\nabcde\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\nx-openstack-image-size: 6", b"5\r\nabcde\r\n0\r\n\r\n"),
    ],
)
def test_a_truncated_upload_leaves_nothing(api_server: Server, framing: str, body: bytes) -> None:
    image_id = make_image(api_server)
    with raw(api_server, put_head(image_id, framing)) as sock:
        sock.sendall(body)
        sock.shutdown(socket.SHUT_WR)
        assert answer_of(sock).startswith(b"HTTP/1.1 400 ")
    assert show(api_server, image_id)["status"] == "queued"
    client = api_server.connect()
    client.request("PUT", f"/v2/images/{image_id}/file", b"whole", OCTETS)
    assert client.getresponse().status == 204
    assert show(api_server, image_id)["size"] == 5


def test_an_upload_cut_by_a_vanished_client_can_be_repeated(api_server: Server) -> None:
    image_id = make_image(api_server)
    with raw(api_server, put_head(image_id, "Content-Length: 1000000")) as sock:
        sock.sendall(b"x" * 1000)
        until(lambda: show(api_server, image_id)["status"] == "saving")
    until(lambda: show(api_server, image_id)["status"] == "queued")


def test_a_huge_json_body_is_refused_before_it_is_sent(api_server: Server) -> None:
    head = (
        "POST /v2/images HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
        f"Content-Length: {512 * MIB}\n\n"
    )
    with raw(api_server, head) as sock:
        assert answer_of(sock).startswith(b"HTTP/1.1 413 ")


def test_an_endless_chunked_json_body_is_cut(api_server: Server) -> None:
    worker = children(api_server.process.pid)[0]
    before = memory(worker)
    head = (
        "POST /v2/images HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
        "Transfer-Encoding: chunked\n\n"
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0
    with raw(api_server, head) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 18 * 0x10000:
                sock.sendall(chunk)
                sent += 0x10000
        assert answer_of(sock).startswith(b"HTTP/1.1 413 ")
    assert memory(worker) - before < 16 * MIB


def test_the_access_log(api_server: Server) -> None:
    image_id = make_image(api_server)
    client = api_server.connect()
    client.request("PUT", f"/v2/images/{image_id}/file", b"12345", OCTETS)
    client.getresponse().read()
    inbound = "req-11111111-2222-3333-4444-555555555555"
    path = f"/v2/images/{image_id}/file"
    client.request("GET", f"{path}?secret=1", headers={"X-Openstack-Request-Id": inbound})
    answer = client.getresponse()
    answer.read()
    told = f"request_id={answer.headers['x-openstack-request-id']}"

    def line() -> str:
        return next((each for each in api_server.log.read_text().splitlines() if told in each), "")

    until(lambda: bool(line()))
    assert f"method=GET path={path} status=200 bytes=5 ms=" in line()
    assert f"project=admin client=127.0.0.1 global_request_id={inbound}" in line()


def test_a_running_upload_ends_well_when_the_server_is_stopped(run_server: RunServer) -> None:
    server = run_server()
    image_id = make_image(server)
    with raw(server, put_head(image_id, "Content-Length: 10")) as sock:
        sock.sendall(b"12345")
        until(lambda: show(server, image_id)["status"] == "saving")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        sock.sendall(b"67890")
        assert answer_of(sock).startswith(b"HTTP/1.1 204 ")
    assert server.stop() == 0


def test_workers_die_with_a_killed_master(run_server: RunServer) -> None:
    server = run_server(workers=2)
    until(lambda: len(children(server.process.pid)) == 2)
    workers = children(server.process.pid)
    server.process.kill()
    server.process.wait()
    until(lambda: not any(is_running(pid) for pid in workers))


def test_a_killed_worker_is_replaced_and_its_upload_is_queued_again(run_server: RunServer) -> None:
    server = run_server(extra="reap_interval = 1")
    image_id = make_image(server)
    (worker,) = children(server.process.pid)
    with raw(server, put_head(image_id, "Content-Length: 10")) as sock:
        sock.sendall(b"12345")
        until(lambda: show(server, image_id)["status"] == "saving")
        os.kill(worker, signal.SIGKILL)
    until(lambda: children(server.process.pid) not in ([], [worker]))
    run_out(server.database)
    until(lambda: show(server, image_id)["status"] == "queued")


def test_a_hangup_renews_the_workers(run_server: RunServer) -> None:
    server = run_server()
    old = children(server.process.pid)
    server.process.send_signal(signal.SIGHUP)
    until(lambda: not any(is_running(pid) for pid in old))
    assert show(server, make_image(server))["status"] == "queued"
    assert children(server.process.pid) not in ([], old)


def test_the_application_for_other_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[Callable[[], object]] = []
    monkeypatch.setattr(app, "atexit", SimpleNamespace(register=at_exit.append))
    client = falcon.testing.TestClient(app.wsgi(["--config-file", str(write_config(tmp_path))]))
    assert client.post("/v2/images", json={"name": "x"}).status_code == 201
    assert [image["name"] for image in client.get("/v2/images").json["images"]] == ["x"]
    (close,) = at_exit
    close()


def test_a_worker_that_cannot_start_is_tried_until_it_can(run_server: RunServer) -> None:
    server = run_server()
    (worker,) = children(server.process.pid)
    database = server.config_file.parent / "glancelike.db"
    away = database.rename(database.with_name("away"))
    os.kill(worker, signal.SIGKILL)
    until(lambda: "a worker can't start, trying again" in server.log.read_text())
    assert server.process.poll() is None
    away.rename(database)
    image_id = make_image(server)
    assert show(server, image_id)["status"] == "queued"


def test_an_open_server_that_trusts_everybody_warns(run_server: RunServer) -> None:
    server = run_server(extra="bind_host = 0.0.0.0")
    assert "0.0.0.0 isn't loopback" in server.log.read_text()


def refusal(config_file: Path) -> tuple[int, list[str]]:
    """Run a server that can't start; return its status and what it said."""
    done = subprocess.run(command(config_file), capture_output=True, text=True, timeout=90, check=False)
    said = [line for line in done.stderr.splitlines() if " INFO " not in line]
    return done.returncode, said


def test_a_port_in_use_ends_the_start(api_server: Server, tmp_path: Path) -> None:
    config_file = write_config(tmp_path, upgrade=False)
    config_file.write_text(config_file.read_text().replace("bind_port = 0", f"bind_port = {api_server.port}"))
    status, said = refusal(config_file)
    assert status == 1
    assert said == [f"glancelike-api: can't listen on 127.0.0.1:{api_server.port}: Address already in use"]


def test_what_stops_the_start_is_told_in_one_line(tmp_path: Path) -> None:
    status, said = refusal(write_config(tmp_path, workers=2, upgrade=False))
    assert status == 4
    assert len(said) == 1
    assert said[0].startswith("glancelike-api: ")
    assert "db upgrade" in said[0]


def test_a_broken_configuration_is_told_in_one_line(tmp_path: Path) -> None:
    status, said = refusal(write_config(tmp_path, extra="worker = 5", upgrade=False))
    assert status == 2
    assert len(said) == 1
    assert "unknown option worker in [DEFAULT]" in said[0]
