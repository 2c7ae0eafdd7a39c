"""The cache in real servers: several processes, kill -9, a full disk, the clients."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openstack
import pytest

from tests import cache_store, warm
from tests.processes import children
from tests.server_fixtures import BIN, Server, start
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
DATA = os.urandom(6_000_000)
SETTINGS = """\
enabled_backends = far:remote, disk:file
image_cache_dir = {cache}
worker_self_reference_url = http://here:9292
{extra}
[far]
filesystem_store_datadir = {far}
"""


class Node:
    """A server with a cache, in front of a store that is slow when told to be."""

    def __init__(self, run: Callable[..., Server], directory: Path, extra: str = "", **settings: Any) -> None:
        self.cache = directory / "cache"
        self.far = directory / "far"
        text = SETTINGS.format(cache=self.cache, far=self.far, extra=extra)
        self.server = run(extra=text, **settings)

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        client = self.server.connect()
        kind = {"Content-Type": "application/octet-stream" if path.endswith("/file") else "application/json"}
        client.request(method, path, body, headers | (kind if body is not None else {}))
        answer = client.getresponse()
        return answer.status, answer.read()

    def image(self) -> str:
        values = json.dumps({"disk_format": "raw", "container_format": "bare"}).encode()
        image_id = str(json.loads(self.call("POST", "/v2/images", values)[1])["id"])
        assert self.call("PUT", f"/v2/images/{image_id}/file", DATA)[0] == 204
        return image_id

    def download(self, image_id: str, **headers: str) -> tuple[int, bytes]:
        return self.call("GET", f"/v2/images/{image_id}/file", None, **headers)

    def state(self) -> tuple[list[str], list[str]]:
        answer = json.loads(self.call("GET", "/v2/cache")[1])
        return [each["image_id"] for each in answer["cached_images"]], answer["queued_images"]

    def reads(self) -> int:
        path = self.far / ".reads"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def hold(self) -> None:
        """Have the store wait after the first block of each read."""
        (self.far / ".hold").touch()

    def release(self) -> None:
        (self.far / ".hold").unlink()

    def growing(self) -> list[Path]:
        return list((self.cache / "incomplete").iterdir())

    def grows(self) -> bool:
        return any(path.stat().st_size for path in self.growing())


@pytest.fixture
def node(
    tmp_path: Path, run_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Node]:
    """Return a function that starts a server with a cache and a remote store."""
    installed = cache_store.install(tmp_path / "driver")
    monkeypatch.setenv("PYTHONPATH", f"{installed}:{ROOT}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.syspath_prepend(str(installed))
    return lambda **settings: Node(run_server, tmp_path, **settings)


def workers(server: Server) -> list[int]:
    return children(server.process.pid)


def holders(node: Node) -> dict[int, bool]:
    """Tell which processes have the growing file open, and whether they fill it."""
    found: dict[int, bool] = {}
    (file,) = node.growing()
    for pid in workers(node.server):
        for fd in list(Path(f"/proc/{pid}/fd").iterdir()):
            try:
                if fd.readlink() == file:
                    info = Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text()
                    flags = int(info.split("flags:")[1].split()[0], 8)
                    found[pid] = found.get(pid, False) or bool(flags & os.O_RDWR)
            except FileNotFoundError:
                continue
    return found


def test_twenty_first_downloads_are_one_read_of_the_store(node: Callable[..., Node]) -> None:
    one = node(workers=2, threads=24)
    image_id = one.image()
    one.hold()
    with ThreadPoolExecutor(20) as pool:
        downloads = [pool.submit(one.download, image_id) for _ in range(20)]
        wait_for("it grows", one.grows)
        # What is here already is served while the rest is on its way.
        assert one.download(image_id, Range="bytes=5-9") == (206, DATA[5:10])
        one.release()
        assert all(each.result(60) == (200, DATA) for each in downloads)
    assert one.reads() == 1
    wait_for("cached", lambda: one.state() == ([image_id], []))
    assert one.download(image_id) == (200, DATA)
    assert one.download(image_id, Range="bytes=5000000-5000099") == (206, DATA[5_000_000:5_000_100])
    assert one.reads() == 1


def test_kill_9_of_the_filling_worker(node: Callable[..., Node]) -> None:
    one = node(workers=2, threads=24)
    image_id = one.image()
    one.hold()

    def download() -> tuple[int, bytes] | None:
        try:
            return one.download(image_id)
        except (OSError, http.client.HTTPException):
            return None  # it was the killed worker's

    with ThreadPoolExecutor(20) as pool:
        downloads = [pool.submit(download)]
        wait_for("it grows", one.grows)
        while len(holders(one)) < 2 and len(downloads) < 20:
            downloads.append(pool.submit(download))
            time.sleep(0.3)
        (filler,) = (pid for pid, fills in holders(one).items() if fills)
        os.kill(filler, signal.SIGKILL)
        one.release()
        ended = [each.result(60) for each in downloads]
    assert (200, DATA) in ended  # of the other worker
    assert set(ended) <= {(200, DATA), None}
    assert one.download(image_id) == (200, DATA)
    wait_for("cached", lambda: one.state() == ([image_id], []))
    assert one.growing() == []
    assert one.reads() == 2


def test_the_queue_survives_kill_9(node: Callable[..., Node]) -> None:
    one = node()
    images = [one.image(), one.image()]
    one.hold()
    for image_id in images:
        assert one.call("PUT", f"/v2/cache/{image_id}") == (202, b"")
    wait_for("it grows", one.grows)
    assert one.state() == ([], images)
    one.server.process.kill()
    one.server.process.wait()
    one.release()
    one.server = start(one.server.config_file)
    try:
        wait_for("fetched", lambda: one.state() == (images, []))
        assert one.growing() == []
        for image_id in images:
            assert one.download(image_id) == (200, DATA)
        assert one.reads() == 3
    finally:
        assert one.server.stop() == 0


def test_a_full_disk_fails_no_download(node: Callable[..., Node]) -> None:
    one = node()
    image_id = one.image()
    (worker,) = workers(one.server)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
    with ThreadPoolExecutor(4) as pool:
        downloads = [pool.submit(one.download, image_id) for _ in range(4)]
        assert all(each.result(60) == (200, DATA) for each in downloads)
    wait_for("given up", lambda: one.growing() == [])
    assert one.state() == ([], [])
    assert "isn't cached" in one.server.log.read_text()
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert one.download(image_id) == (200, DATA)
    wait_for("cached", lambda: one.state() == ([image_id], []))


@pytest.mark.clients
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_openstacksdk(node: Callable[..., Node]) -> None:
    one = node()
    image_id = one.image()
    with openstack.connect(auth_type="none", endpoint=one.server.url, region_name="") as connection:
        image: Any = connection.image  # its types cover every version of the service
        assert image.get_image_cache().cached_images == []
        image.queue_image(image_id)
        wait_for("fetched", lambda: bool(image.get_image_cache().cached_images))
        (entry,) = image.get_image_cache().cached_images
        assert (entry.image_id, entry.size, entry.hits) == (image_id, len(DATA), 0)
        assert image.cached_image_nodes(image_id) == ["http://here:9292"]
        image.clean_cache()
        assert image.prune_cache() == {"total_files_pruned": 0, "total_bytes_pruned": 0}
        image.cache_delete_image(image_id)
        assert image.get_image_cache().cached_images == []
        image.clear_cache("both")


@pytest.mark.clients
def test_glanceclient(node: Callable[..., Node]) -> None:
    one = node()
    image_id = one.image()

    def glance(*words: str) -> str:
        address = ("--os-image-url", one.server.url, "--os-auth-token", "none")
        done = warm.run([str(BIN / "glance"), *address, *words])
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    glance("cache-queue", image_id)
    wait_for("fetched", lambda: one.state() == ([image_id], []))
    (row,) = (line for line in glance("cache-list").splitlines() if image_id in line)
    assert [each.strip() for each in row.split("|")][2] == "cached"
    assert "http://here:9292" in glance("cache-nodes-list", image_id)
    glance("cache-clean")
    assert "Pruned 0 file(s), 0 byte(s)." in glance("cache-prune")
    glance("cache-delete", image_id)
    assert one.state() == ([], [])
    glance("cache-clear", "--target", "queue")
