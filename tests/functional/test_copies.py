"""Copies of images with real processes: the command, kill -9, a server that replicates."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glancelike.client import ImageClient
from glancelike.embedded import open_service
from glancelike.service import ImageService
from glancelike.stores.file import FileStore
from tests.cache_store import RemoteStore
from tests.copies_fixtures import ADMIN, active, content, keys, stores_of
from tests.functional.test_cli import call
from tests.leases import run_out
from tests.server_fixtures import Server, start, write_config

DATA = os.urandom(8 << 20)
PATIENCE = 60.0


def opened(place: Path) -> ImageService:
    """A service on SQLite with the stores ``a`` and ``b``, directories that look remote."""
    stores = {name: RemoteStore({"filesystem_store_datadir": str(place / name)}) for name in ("a", "b")}
    return open_service(f"sqlite:///{place / 'db'}", stores=stores, staging="memory://", replicas=2)


@pytest.fixture(name="service")
def service_fixture(tmp_path: Path) -> Iterator[ImageService]:
    with opened(tmp_path) as service:
        yield service


def killed_in_a_read(place: Path, call: str, reads: int) -> None:
    """Have a process of its own call the service, and kill it in its n-th read of store ``a``.

    What it held runs out.
    """
    log, hold = place / "a" / ".reads", place / "a" / ".hold"
    log.unlink(missing_ok=True)
    hold.write_text(str(reads))
    code = (
        "import sys, pathlib\n"
        "from tests.functional.test_copies import opened\n"
        f"with opened(pathlib.Path({str(place)!r})) as service:\n"
        f"    {call}\n"
    )
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root)
    try:
        deadline = time.monotonic() + PATIENCE
        while not log.exists() or len(log.read_text().splitlines()) < reads:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        hold.unlink()
    run_out(f"sqlite:///{place / 'db'}")


def swept(service: ImageService) -> None:
    """Remove what a process that was killed has left."""
    list(service.gc(grace_seconds=-5))


def test_a_repair_survives_kill_9(service: ImageService, tmp_path: Path) -> None:
    image = active(service, DATA)
    service.run_tasks()
    bad = tmp_path / "b" / service.show_image(ADMIN, image.id).locations[1].key
    os.truncate(bad, 100)
    killed_in_a_read(tmp_path, "list(service.verify(repair=True))", reads=2)  # the second is the repair's
    assert bad.exists()
    assert [str(each.verdict) for each in service.verify(store="b")] == ["bad"]
    swept(service)
    assert all(each.fine for each in service.verify(repair=True))
    assert not bad.exists()
    (key,) = keys(service, "b")
    assert (tmp_path / "b" / key).read_bytes() == DATA
    assert len(keys(service, "a")) == 1


def test_a_move_survives_kill_9(service: ImageService, tmp_path: Path) -> None:
    image = active(service, DATA)
    killed_in_a_read(tmp_path, f"service.move_image({image.id!r}, source='a', target='b')", reads=1)
    swept(service)
    assert (stores_of(service, image), len(keys(service, "a")), keys(service, "b")) == (["a"], 1, set())
    service.move_image(image.id, source="a", target="b")
    assert (stores_of(service, image), keys(service, "a"), len(keys(service, "b"))) == (["b"], set(), 1)
    assert content(service, image) == DATA


def test_a_replication_survives_kill_9(service: ImageService, tmp_path: Path) -> None:
    image = active(service, DATA)
    killed_in_a_read(tmp_path, "service.run_tasks()", reads=1)
    swept(service)
    service.run_tasks()
    assert stores_of(service, image) == ["a", "b"]
    assert len(keys(service, "b")) == 1


def test_the_commands(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    settings = config.read_text().replace("ram:memory", "other:file")
    config.write_text(f"{settings}\n[other]\nfilesystem_store_datadir = {tmp_path / 'other'}\n")
    stores = {"disk": f"file://{tmp_path / 'images'}", "other": f"file://{tmp_path / 'other'}"}
    with open_service(f"sqlite:///{tmp_path / 'glancelike.db'}", stores=stores, replicas=2) as service:
        image = active(service, DATA)
        service.run_tasks()
        bad = tmp_path / "other" / service.show_image(ADMIN, image.id).locations[1].key
        bad.write_bytes(bytes(len(DATA)))

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            return call("--config-file", str(config), *words, check=False)

        told = run("verify", "--quiet")
        assert told.returncode == 1
        assert f"{image.id} other bad: " in told.stdout
        assert f"{image.id} disk" not in told.stdout
        mended = run("verify", "--repair", "--image", image.id, "--rate", "500")
        assert mended.returncode == 0
        assert "2 copies, 1 repaired, 0 not known to be good" in mended.stdout
        moved = run("image", "move", image.id, "--from", "disk", "--to", "other")
        assert moved.stdout == f"moved {image.id}\n"
        assert stores_of(service, image) == ["other"]
        assert content(service, image) == DATA


class AbsentStore(FileStore):
    """A store whose backend is away until there is a file called ``.up``."""

    def open(self) -> None:
        if not (Path(self.settings["filesystem_store_datadir"]) / ".up").exists():
            raise ConnectionRefusedError("nobody listens at 10.1.2.3")
        super().open()


def test_a_server_starts_without_a_store_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "plugins" / "absent-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: absent\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[glancelike.stores]\nabsent = tests.functional.test_copies:AbsentStore\n"
    )
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'plugins'}{os.pathsep}{root}")
    (tmp_path / "far").mkdir()
    config = write_config(tmp_path)
    settings = config.read_text().replace("ram:memory", "far:absent")
    config.write_text(f"{settings}\n[far]\nfilesystem_store_datadir = {tmp_path / 'far'}\n")
    server = start(config)
    try:
        client = server.connect()

        def ask(method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            client.request(method, path, data, {"Content-Type": kind, "X-Image-Meta-Store": "far"})
            answer = client.getresponse()
            return answer.status, answer.read()

        def reason() -> str | None:
            stores = json.loads(ask("GET", "/v2/info/stores/detail")[1])["stores"]
            told: str | None = {store["id"]: store for store in stores}["far"].get("unavailable")
            return told

        assert "nobody listens" in str(reason())
        made = ask("POST", "/v2/images", {"disk_format": "raw", "container_format": "bare"})
        path = f"/v2/images/{json.loads(made[1])['id']}/file"
        assert ask("PUT", path, b"x", "application/octet-stream")[0] == 503
        (tmp_path / "far" / ".up").touch()
        deadline = time.monotonic() + PATIENCE
        while ask("PUT", path, b"x", "application/octet-stream")[0] != 204:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert reason() is None
        assert ask("GET", path) == (200, b"x")
    finally:
        assert server.stop() == 0


def test_a_server_replicates_and_serves_what_is_left(
    run_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = run_server(extra="replicas = 2")
    client = ImageClient(server.url)
    image = client.create_image({"disk_format": "raw", "container_format": "bare"})
    client.upload(image["id"], io.BytesIO(DATA), size=len(DATA))
    deadline = time.monotonic() + PATIENCE
    while client.show_image(image["id"]).get("stores") != "disk,ram":
        assert time.monotonic() < deadline, client.show_image(image["id"])
        time.sleep(0.1)
    images = tmp_path / "server0" / "images"
    (blob,) = [path for path in images.iterdir() if not path.name.startswith(".")]
    blob.unlink()
    with (tmp_path / "out").open("wb") as out:
        client.download(image["id"], out)
    assert (tmp_path / "out").read_bytes() == DATA
    client.close()
