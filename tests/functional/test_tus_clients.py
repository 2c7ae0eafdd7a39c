"""Uploads in pieces by clients of others, unchanged: tuspy and tus-js-client."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tusclient.storage.filestorage import FileStorage

from tests.leases import run_out
from tests.server_fixtures import Server, start, write_config
from tests.tus_fixtures import (
    PART,
    Proxy,
    assert_active,
    create,
    files,
    in_thread,
    needs_node,
    offset_of,
    parts_recorded,
    record,
    states,
    tus_js,
    tuspy,
    uploads_url,
)
from tests.waiting import wait_for

DATA = os.urandom(3 * PART + 54321)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start(write_config(tmp_path_factory.mktemp("tus")))
    yield server
    assert server.stop() == 0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.raw"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize("chunk", [1 << 40, 5_000_000, PART, 700_000], ids=str)
def test_tuspy(server: Server, file: Path, chunk: int) -> None:
    image_id = create(server)
    tuspy(uploads_url(server, image_id), file, chunk_size=chunk, upload_checksum=chunk < PART).upload()
    assert_active(server, image_id, DATA)
    assert len([name for name in files(server) if image_id in name]) == 1


@pytest.mark.parametrize("size", [0, 1, 2500], ids=str)
def test_tuspy_sends_little_by_little(server: Server, tmp_path: Path, size: int) -> None:
    path, image_id = tmp_path / "little", create(server)
    path.write_bytes(DATA[:size])
    tuspy(uploads_url(server, image_id), path, chunk_size=50).upload()
    assert_active(server, image_id, DATA[:size])


@needs_node
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunkSize": 6_000_000},
        {"chunkSize": 6_000_000, "overridePatchMethod": True},
        {"chunkSize": 6_000_000, "uploadLengthDeferred": True},
        {"chunkSize": 6_000_000, "uploadDataDuringCreation": True},
        {"parallelUploads": 2},
        {"parallelUploads": 4, "chunkSize": 2_000_000},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_tus_js_client(server: Server, file: Path, options: dict[str, object]) -> None:
    image_id = create(server)
    assert "url" in tus_js(uploads_url(server, image_id), file, **options)
    assert_active(server, image_id, DATA)
    assert len([name for name in files(server) if image_id in name]) == 1
    assert not [name for name in files(server) if "/.uploads/" in name]


def upload_with_tuspy(endpoint: str, file: Path, notes: Path) -> None:
    storage = FileStorage(str(notes))
    try:
        tuspy(endpoint, file, store_url=True, url_storage=storage).upload()
    finally:
        storage.close()


def upload_with_js(endpoint: str, file: Path, notes: Path) -> None:
    said = tus_js(endpoint, file, urlStorage=str(notes))
    assert "url" in said, said


CLIENTS = [
    pytest.param(upload_with_tuspy, id="tuspy"),
    pytest.param(upload_with_js, id="tus-js-client", marks=needs_node),
]


@pytest.mark.parametrize("client", CLIENTS)
def test_kill_9_in_the_middle(
    run_server: Callable[..., Server],
    file: Path,
    tmp_path: Path,
    client: Callable[[str, Path, Path], None],
) -> None:
    server = run_server(extra="reap_interval = 1")
    proxy = Proxy(server)
    image_id = create(proxy)
    endpoint = uploads_url(proxy, image_id)
    proxy.stop_at = proxy.sent + 2 * PART + PART // 2
    sender = in_thread(lambda: client(endpoint, file, tmp_path / "notes"))
    assert proxy.stopped.wait(60)
    # Two parts are there before the server dies; the half of the third is lost with it.
    wait_for("two parts", lambda: parts_recorded(server) == 2)
    server.process.kill()
    server.process.wait()
    proxy.cut()
    sender.join(60)
    assert not sender.is_alive()
    again = start(server.config_file)
    try:
        proxy.target, proxy.stop_at = again.port, None
        client(endpoint, file, tmp_path / "notes")
        assert_active(again, image_id, DATA)
        # Not more than a part was sent twice; the rest are the requests' heads.
        assert proxy.sent - len(DATA) <= PART + 20_000
        assert len(files(again)) == 1
    finally:
        proxy.close()
        again.stop()


@pytest.mark.parametrize("client", CLIENTS)
def test_the_line_breaks(
    server: Server, file: Path, tmp_path: Path, client: Callable[[str, Path, Path], None]
) -> None:
    proxy = Proxy(server)
    image_id = create(proxy)
    endpoint = uploads_url(proxy, image_id)
    already = parts_recorded(server)
    proxy.stop_at = proxy.sent + PART + PART // 2
    sender = in_thread(lambda: client(endpoint, file, tmp_path / "notes"))
    assert proxy.stopped.wait(60)
    wait_for("a part", lambda: parts_recorded(server) == already + 1)
    proxy.cut()
    sender.join(60)
    proxy.stop_at = None
    before = proxy.sent
    client(endpoint, file, tmp_path / "notes")
    assert_active(server, image_id, DATA)
    # Of what came before the line broke the part was kept, and more if the server saw that first.
    assert proxy.sent - before - (len(DATA) - PART) <= 20_000
    proxy.close()


def test_offset_is_told_after_each_piece(server: Server, file: Path) -> None:
    image_id = create(server)
    uploader = tuspy(uploads_url(server, image_id), file, chunk_size=3_000_000)
    for number in range(1, 4):
        uploader.upload_chunk()
        assert offset_of(uploader.url) == number * 3_000_000
    again = tuspy(uploads_url(server, image_id), file, url=uploader.url)
    assert again.offset == 9_000_000
    again.upload()
    assert_active(server, image_id, DATA)


def test_kill_9_while_the_data_is_verified(run_server: Callable[..., Server], tmp_path: Path) -> None:
    """All bytes are there, so nobody sends any again: another process finishes what this one began."""
    first = run_server(extra="reap_interval = 1\n[task]\ntask_poll_interval = 0.2")
    path = tmp_path / "large.raw"
    path.write_bytes(bytes(24 * PART))
    for _attempt in range(5):
        server = first if first.process.poll() is None else start(first.config_file)
        try:
            if killed_at_the_end(server, path):
                return
        finally:
            server.stop()
    raise AssertionError("the server was never caught at it")


def killed_at_the_end(server: Server, path: Path) -> bool:
    """Kill the server at the end of an upload; tell whether it was still at it. The upload ends well."""
    image_id = create(server)
    uploader = tuspy(uploads_url(server, image_id), path)
    sender = in_thread(uploader.upload)
    wait_for("the last byte", lambda: states(server)[image_id] in ("finishing", "done"))
    server.process.kill()
    server.process.wait()
    sender.join(60)
    caught = states(server)[image_id] == "finishing"
    run_out(server.database)
    again = start(server.config_file)
    try:
        url = uploads_url(again, image_id) + "/" + uploader.url.rpartition("/")[2]
        resumed = tuspy(uploads_url(again, image_id), path, url=url)
        assert resumed.offset == path.stat().st_size
        resumed.upload()
        wait_for("somebody has finished it", lambda: states(again)[image_id] == "done")
        wait_for("wholly", lambda: "os_glance_import_task" not in record(again, image_id))
        assert_active(again, image_id, path.read_bytes())
        assert len([name for name in files(again) if image_id in name]) == 1
    finally:
        again.stop()
    return caught
