"""Two nodes, one registry, one store: one of them is killed or cut off, and nothing is lost."""

from __future__ import annotations

import hashlib
import http.client
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import requests

from tests import nodes
from tests.nodes import Cluster, Node
from tests.tus_fixtures import (
    PART,
    Proxy,
    assert_active,
    begin,
    create,
    files,
    in_thread,
    record,
    tuspy,
    uploads_url,
)
from tests.waiting import wait_for
from tests.web_server import Request, WebServer, reply, serving, web_server

DATA, OTHER = os.urandom(3_000_000), os.urandom(2_000_000)
OCTETS = {"Content-Type": "application/octet-stream"}
TIMEOUT = 60


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run two nodes for all tests."""
    if reason := nodes.missing():
        pytest.skip(reason)
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """Return the nodes, both up; see that their images, once deleted, leave nothing."""
    yield running
    running.heal()
    for image in listed(running):
        assert requests.delete(image_url(running, image["id"]), timeout=TIMEOUT).status_code == 204
    running.gc()
    assert files(running.front) == []


def image_url(cluster: Cluster, image_id: str) -> str:
    return f"{cluster.front.url}/v2/images/{image_id}"


def half(cluster: Cluster, image_id: str, data: bytes, way: str = "file") -> http.client.HTTPConnection:
    """Send half of an image's data, and wait until it is on its way; return the connection."""
    client = cluster.front.connect(TIMEOUT)
    client.putrequest("PUT", f"/v2/images/{image_id}/{way}")
    client.putheader("Content-Type", "application/octet-stream")
    client.putheader("Content-Length", str(len(data)))
    client.endheaders()
    client.send(data[: len(data) // 2])
    under_way = {"file": "saving", "stage": "uploading"}[way]
    wait_for(under_way, lambda: record(cluster.front, image_id)["status"] == under_way)
    return client


def listed(cluster: Cluster) -> list[dict[str, Any]]:
    url = f"{cluster.front.url}/v2/images"
    found: list[dict[str, Any]] = requests.get(url, timeout=TIMEOUT).json()["images"]
    return found


def put(cluster: Cluster, image_id: str, data: bytes, way: str = "file") -> int:
    url = f"{image_url(cluster, image_id)}/{way}"
    return requests.put(url, data=data, headers=OCTETS, timeout=TIMEOUT).status_code


def put_at_last(cluster: Cluster, image_id: str, data: bytes) -> list[int]:
    """Upload as often as it takes; return all the statuses."""
    told: list[int] = []

    def done() -> bool:
        told.append(put(cluster, image_id, data))
        return told[-1] == 204

    wait_for("the upload is taken", done)
    return told


def assert_whole(cluster: Cluster, image_id: str, data: bytes) -> None:
    """Check an image's record and bytes, and that gc leaves nothing else in the stores."""
    found = record(cluster.front, image_id)
    assert (found["status"], found["size"]) == ("active", len(data))
    assert found["os_hash_value"] == hashlib.sha256(data).hexdigest()
    assert requests.get(f"{image_url(cluster, image_id)}/file", timeout=TIMEOUT).content == data
    cluster.gc()
    assert len(files(cluster.front)) == 1


def takes_part(node: Node, since: int = 0) -> bool:
    """Tell whether a node has answered a list, after so much in its log."""
    return "method=GET path=/v2/images status=200" in node.log()[since:]


class Readers:
    """A client that lists, shows and downloads without a pause; ``told`` is what it got."""

    def __init__(self, cluster: Cluster, image_id: str, data: bytes) -> None:
        self.told: list[object] = []
        self._images = f"{cluster.front.url}/v2/images"
        self._url, self._data = image_url(cluster, image_id), data
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Readers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT)

    def more(self, count: int) -> None:
        """Wait for more answers."""
        wanted = len(self.told) + count
        wait_for(f"{count} answers more", lambda: len(self.told) >= wanted)

    def _run(self) -> None:
        while not self._stop.is_set():
            for look in (self._list, self._show, self._download):
                try:
                    self.told.append(look())
                except Exception as error:
                    self.told.append(error)

    def _list(self) -> int:
        return requests.get(self._images, timeout=TIMEOUT).status_code

    def _show(self) -> int:
        return requests.get(self._url, timeout=TIMEOUT).status_code

    def _download(self) -> int:
        """Download; what breaks off in the middle goes on from there."""
        got = b""
        while True:
            headers = {"Range": f"bytes={len(got)}-"} if got else {}
            with requests.get(f"{self._url}/file", headers=headers, timeout=TIMEOUT, stream=True) as answer:
                if answer.status_code >= 400:
                    return answer.status_code
                try:
                    for block in answer.iter_content(65536):
                        got += block
                except requests.exceptions.ChunkedEncodingError:
                    continue
            assert got == self._data
            return 200


def test_a_node_dies_under_an_upload(cluster: Cluster) -> None:
    image_id = create(cluster.front)
    client = half(cluster, image_id, DATA)
    cluster.busy().kill()
    cluster.leases_run_out()
    assert client.getresponse().status in (502, 504)
    told = put_at_last(cluster, image_id, DATA)
    assert set(told) <= {409, 204}, told
    assert_whole(cluster, image_id, DATA)


def test_a_node_dies_under_an_upload_in_pieces(cluster: Cluster, tmp_path: Path) -> None:
    data = os.urandom(2 * PART + PART // 2)
    path = tmp_path / "image"
    path.write_bytes(data)
    image_id = create(cluster.front)
    proxy = Proxy(cluster.front)  # between the client and nginx: it counts, and holds back
    try:
        url = begin(proxy, image_id, len(data))
        endpoint = uploads_url(proxy, image_id)
        proxy.stop_at = proxy.sent + PART + PART // 2
        sender = in_thread(lambda: tuspy(endpoint, path, url=url).upload())
        assert proxy.stopped.wait(TIMEOUT)
        wait_for("a part is there", lambda: cluster.execute("SELECT parts FROM uploads") == [(1,)])
        cluster.busy().kill()
        cluster.leases_run_out()
        proxy.cut()
        sender.join(TIMEOUT)
        assert not sender.is_alive()
        proxy.stop_at = None
        resumed = tuspy(endpoint, path, url=url)
        assert resumed.offset >= PART
        resumed.upload()
        # Not more than a part was sent twice; the rest are the requests' heads.
        assert proxy.sent - len(data) <= PART + 20_000
    finally:
        proxy.close()
    assert_active(cluster.front, image_id, data)
    assert_whole(cluster, image_id, data)


class Stalling:
    """Data on a web server that stops in the middle of the first answer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._serve = serving(data)
        self.go_on = threading.Event()
        self.asked = 0

    def __call__(self, request: Request, out: BinaryIO) -> bool | None:
        self.asked += 1
        if self.asked > 1:
            return self._serve(request, out)
        middle = len(self._data) // 2
        reply(out, 200, {"Content-Length": str(len(self._data))}, self._data[:middle])
        self.go_on.wait(TIMEOUT)
        out.write(self._data[middle:])
        return False


@pytest.fixture
def web(running: Cluster) -> Iterator[WebServer]:
    """Run a web server that the nodes reach."""
    with web_server(host=running.network.address) as server:
        yield server


@pytest.mark.parametrize("fate", ["killed", "cut off"])
def test_a_node_is_lost_under_an_import(cluster: Cluster, web: WebServer, fate: str) -> None:
    image_id = create(cluster.front)
    web.answers["/image"] = stalling = Stalling(DATA)
    uri = web.url("/image", host=cluster.network.address)
    body = {"method": {"name": "web-download", "uri": uri}}
    asked = requests.post(f"{image_url(cluster, image_id)}/import", json=body, timeout=TIMEOUT)
    assert asked.status_code == 202, asked.text
    try:
        lost = cluster.busy(web.port)
        if fate == "killed":
            lost.kill()
        else:
            lost.host.cut()
        cluster.leases_run_out()
        wait_for("it is active", lambda: record(cluster.front, image_id)["status"] == "active")
        wait_for("it is free", lambda: "os_glance_import_task" not in record(cluster.front, image_id))
        found = record(cluster.front, image_id)
        if fate == "cut off":
            # It goes on with what it was at, and is too late.
            lost.host.restore()
            stalling.go_on.set()
            wait_for("it knows", lambda: "is left as it is" in lost.log())
            assert record(cluster.front, image_id) == found
    finally:
        stalling.go_on.set()
    assert stalling.asked == 2
    assert (found["os_glance_importing_to_stores"], found["os_glance_failed_import"]) == ("", "")
    assert_whole(cluster, image_id, DATA)


def test_who_reads_sees_nothing_of_it(cluster: Cluster) -> None:
    """A node dies and comes back; no request for reading fails."""
    image_id = create(cluster.front)
    assert put(cluster, image_id, DATA) == 204
    node = cluster.nodes[0]
    with Readers(cluster, image_id, DATA) as readers:
        wait_for("both nodes answer", lambda: all(takes_part(each) for each in cluster.nodes))
        node.kill()
        readers.more(30)
        node.start()  # with a new log
        wait_for("it takes part again", lambda: takes_part(node))
    assert {*readers.told} == {200}
    assert_whole(cluster, image_id, DATA)


@pytest.mark.parametrize("way", ["file", "stage"])
def test_a_node_is_cut_off_under_an_upload(cluster: Cluster, way: str) -> None:
    """It never knows that it was given up, and goes on when it is back: what it has comes too late."""
    image_id = create(cluster.front)
    late = half(cluster, image_id, DATA, way)
    lost = cluster.busy()
    lost.host.cut()
    cluster.leases_run_out()
    wait_for("it is given up", lambda: record(cluster.front, image_id)["status"] == "queued")
    other = half(cluster, image_id, OTHER, way)
    version = record(cluster.front, image_id)
    lost.host.restore()
    late.send(DATA[len(DATA) // 2 :])
    # Or it can't even ask who has the lease, since its line is still settling.
    assert late.getresponse().status in (409, 503)
    assert record(cluster.front, image_id) == version
    other.send(OTHER[len(OTHER) // 2 :])
    assert other.getresponse().status == 204
    if way == "stage":
        body = {"method": {"name": "glance-direct"}}
        asked = requests.post(f"{image_url(cluster, image_id)}/import", json=body, timeout=TIMEOUT)
        assert asked.status_code == 202, asked.text
        wait_for("it is active", lambda: record(cluster.front, image_id)["status"] == "active")
    assert_whole(cluster, image_id, OTHER)
    seen = len(lost.log())
    wait_for("it takes part again", lambda: len(listed(cluster)) == 1 and takes_part(lost, seen))
