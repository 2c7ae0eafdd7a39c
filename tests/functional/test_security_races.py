"""Data that stayed behind, or came in beside the limits: deletes and uploads at the wrong time.

Each test is named after its report.
"""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from glancelike.errors import ImageNotFound
from glancelike.model import Caller
from glancelike.service import ImportRequest
from glancelike.stores.base import BlobInfo, Source
from glancelike.stores.memory import MemoryStore
from glancelike.urlrules import UrlRules
from tests.server_fixtures import Api, Server, write_users
from tests.web_server import Request, WebServer, reply, web_server

ALICE = Caller("alice", "p-alice", frozenset({"member", "reader"}))
DATA = b"data that has to go " * 100_000
MIB = 1 << 20


class Gate:
    """Where a transfer stops in the middle, until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def pass_(self) -> None:
        self.reached.set()
        assert self.open.wait(60)


class GatedStore(MemoryStore):
    """A store whose writes stop at the gate once they have begun."""

    gate: Gate | None = None

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        return super().write(key, _Gated(source, self.gate) if self.gate else source, size=size)


class _Gated:
    def __init__(self, source: Source, gate: Gate) -> None:
        self._source = source
        self._gate: Gate | None = gate

    def read(self, size: int, /) -> bytes:
        block = self._source.read(size)
        if self._gate is not None:
            self._gate.pass_()
            self._gate = None
        return block


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[tuple[Api, GatedStore]]:
    store = GatedStore({})
    rules = UrlRules(allowed_networks=(ip_network("127.0.0.1/32"),), allowed_ports=())
    api = Api(
        write_users(tmp_path / "users"),
        stores={"memory": store, "other": MemoryStore({})},
        url_rules=rules,
    )
    yield api, store
    api.service.close()


def blobs(api: Api) -> list[str]:
    """List all data, the staged too."""
    mounts = api.service._context.mounts
    return [blob.key for mount in mounts.all() for blob in mount.store.list()]


def running(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def request(api: Api, image_id: str, **method: Any) -> None:
    body = {"method": method, "all_stores": True}
    answer = api.as_("alice").post(f"/v2/images/{image_id}/import", json=body)
    assert answer.status_code == 202, answer.text


def ended(api: Api, image_id: str) -> str:
    """Return the status of the one task there is, which was a deleted image's."""
    admin = api.as_("admin")
    (listed,) = admin.get("/v2/tasks").json["tasks"]
    task = admin.get(f"/v2/tasks/{listed['id']}").json
    assert (task["image_id"], "deleted" in task["message"]) == (image_id, True)
    return str(task["status"])


def test_cve_2015_1881_deleted_before_its_import_has_begun(gated: tuple[Api, GatedStore]) -> None:
    """The staged data, or that of the image, stayed for ever."""
    api, _ = gated
    image_id = api.image()
    staged = api.as_("alice").put(
        f"/v2/images/{image_id}/stage", body=DATA, headers={"Content-Type": "application/octet-stream"}
    )
    assert staged.status_code == 204
    assert len(blobs(api)) == 1
    request(api, image_id, name="glance-direct")
    assert api.as_("alice").delete(f"/v2/images/{image_id}").status_code == 204
    assert blobs(api) == []
    api.service.run_tasks()
    assert ended(api, image_id) == "failure"
    assert blobs(api) == []


def test_cve_2014_9684_deleted_while_it_is_fetched(gated: tuple[Api, GatedStore], web: WebServer) -> None:
    """Who deleted images while they were imported filled the store beyond every quota."""
    api, _ = gated
    gate = Gate()

    def slowly(request: Request, out: BinaryIO) -> bool:
        reply(out, 200, {"Content-Length": str(len(DATA))})
        out.write(DATA[:MIB])
        out.flush()
        gate.pass_()
        out.write(DATA[MIB:])
        return True

    web.answers["/disk"] = slowly
    image_id = api.image()
    request(api, image_id, name="web-download", uri=web.url("/disk"))
    thread = running(api.service.run_tasks)
    assert gate.reached.wait(30)
    assert api.as_("alice").delete(f"/v2/images/{image_id}").status_code == 204
    gate.open.set()
    thread.join()
    assert ended(api, image_id) == "failure"
    assert blobs(api) == []


def test_cve_2015_3289_deleted_while_it_goes_to_its_stores(gated: tuple[Api, GatedStore]) -> None:
    """The same, at the import's last step."""
    api, store = gated
    image_id = api.image()
    api.service.stage(ALICE, image_id, io.BytesIO(DATA), size=len(DATA))
    request(api, image_id, name="glance-direct")
    store.gate = gate = Gate()
    thread = running(api.service.run_tasks)
    assert gate.reached.wait(30)
    assert api.as_("alice").delete(f"/v2/images/{image_id}").status_code == 204
    gate.open.set()
    thread.join()
    assert ended(api, image_id) == "failure"
    assert blobs(api) == []


def test_cve_2014_9623_deleted_while_it_is_copied(gated: tuple[Api, GatedStore]) -> None:
    """An active image's data is deleted wherever it is, and wherever it is on its way to."""
    api, store = gated
    image_id = api.image()
    api.service.upload(ALICE, image_id, io.BytesIO(DATA), size=len(DATA), store="other")
    store.gate = gate = Gate()
    admin = Caller.administrator()
    api.service.import_image(admin, image_id, ImportRequest("copy-image", stores=("memory",)))
    thread = running(api.service.run_tasks)
    assert gate.reached.wait(30)
    assert api.as_("alice").delete(f"/v2/images/{image_id}").status_code == 204
    gate.open.set()
    thread.join()
    assert ended(api, image_id) == "failure"
    assert blobs(api) == []


def test_cve_2014_9623_a_deleted_image_is_not_uploaded_to_again(gated: tuple[Api, GatedStore]) -> None:
    """Neither does the upload that the delete overtook make the image come back."""
    api, store = gated
    image_id = api.image()
    store.gate = gate = Gate()
    failures: list[Exception] = []

    def upload() -> None:
        try:
            api.service.upload(ALICE, image_id, io.BytesIO(DATA), size=None)
        except ImageNotFound as error:
            failures.append(error)

    thread = running(upload)
    assert gate.reached.wait(30)
    assert api.as_("alice").delete(f"/v2/images/{image_id}").status_code == 204
    assert api.as_("alice").post("/v2/images", json={"id": image_id}).status_code == 409
    gate.open.set()
    thread.join()
    assert len(failures) == 1
    assert api.as_("alice").get(f"/v2/images/{image_id}").status_code == 404
    assert blobs(api) == []


# Limits, with a size that nobody announced


def ask(server: Server, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    kind = "application/json" if isinstance(body, str) else "application/octet-stream"
    headers = {"Accept": "application/json"} | ({"Content-Type": kind} if body is not None else {})
    try:
        client.request(method, f"/v2{path}", body, headers, **more)
    except (BrokenPipeError, ConnectionResetError):
        assert body is not None  # refused before all was sent
    try:
        answer = client.getresponse()
        return answer.status, answer.read()
    except ConnectionResetError:
        return 0, b""
    finally:
        client.close()


@pytest.mark.parametrize("setting", ["user_storage_quota = 3MB", "image_size_cap = 3145728"])
@pytest.mark.parametrize("verb", ["file", "stage"])
def test_cve_2015_5286_cve_2014_5356_no_limit_is_passed_by_sending_chunks(
    run_server: Callable[..., Server], setting: str, verb: str
) -> None:
    """Data of unknown size was counted when it was all there, or never."""
    server = run_server(extra=f"{setting}\n[quota]\nimage_stage_total = 3")

    def new() -> str:
        values = json.dumps({"disk_format": "raw", "container_format": "bare"})
        return str(json.loads(ask(server, "POST", "/images", values)[1])["id"])

    def stored() -> int:
        state = server.config_file.parent
        found = (path for part in ("images", "staging") for path in (state / part).rglob("*"))
        return sum(path.stat().st_size for path in found if path.is_file())

    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 200 * MIB:
            sent += MIB
            yield bytes(MIB)

    image_id = new()
    before = stored()
    status, _ = ask(server, "PUT", f"/images/{image_id}/{verb}", endless(), encode_chunked=True)
    assert status in (413, 0)
    # It was stopped when it was too much, not when it was all there.
    assert sent < 100 * MIB
    assert json.loads(ask(server, "GET", f"/images/{image_id}")[1])["status"] == "queued"
    assert stored() == before
    # What was refused doesn't count.
    assert ask(server, "PUT", f"/images/{image_id}/{verb}", bytes(3 * MIB - 1)) == (204, b"")
    if "quota" in setting or verb == "stage":
        # And what does, counts for all of the project's images.
        chunks = iter([bytes(MIB)] * 2)
        assert ask(server, "PUT", f"/images/{new()}/{verb}", chunks, encode_chunked=True)[0] in (413, 0)
