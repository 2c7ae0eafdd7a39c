"""The door to the image service, against a server that misbehaves."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from glancelike.client import ImageClient
from glancelike.errors import Forbidden as RefusedToCaller
from glancelike.errors import Unreachable
from glancelike.model import Caller as ImageCaller
from glancelike.testing.service import memory_service
from novalite.config import GlanceSettings
from novalite.errors import ConfigError, ImageMissing, ImageServiceDown, ImageUnusable, Unsupported
from novalite.images.http import HttpImages
from novalite.images.library import LibraryImages
from novalite.model import MIB, Caller, ImageInfo

ID = "11111111-2222-3333-4444-555555555555"
DATA = os.urandom(3 * MIB + 17)
SHA = hashlib.sha256(DATA).hexdigest()
RECORD = {
    "id": ID,
    "name": "image",
    "status": "active",
    "owner": "owner",
    "visibility": "shared",
    "disk_format": "raw",
    "container_format": "bare",
    "size": len(DATA),
    "virtual_size": None,
    "min_disk": 1,
    "min_ram": 64,
    "os_hash_algo": "sha256",
    "os_hash_value": SHA,
    "checksum": None,
    "tags": ["a"],
    "protected": False,
    "os_hidden": False,
    "hw_architecture": "x86_64",
    "self": "/v2/images/x",
    "file": "/v2/images/x/file",
    "schema": "/v2/schemas/image",
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}


@dataclass
class Glance:
    """An image server whose faults a test sets."""

    record: dict[str, Any] = field(default_factory=lambda: dict(RECORD))
    data: bytes = DATA
    members: tuple[str, ...] = ()
    cut_after: list[int] = field(default_factory=list)  # bytes sent before each of the next cuts
    ranges: bool = True
    ranges_again: bool = False  # ranges, but not for the first that asks
    length: bool = True
    wrong_range: bool = False
    stall: float = 0.0
    file_status: int = 200
    answers: list[tuple[int, bytes]] = field(default_factory=list)  # sent before anything else
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def file_requests(self) -> list[str | None]:
        return [headers.get("range") for path, headers in self.seen if path.endswith("/file")]


def handler_of(glance: Glance) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            glance.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            if glance.answers:
                self.answer(*glance.answers.pop(0))
            elif self.path == f"/v2/images/{ID}":
                self.answer(200, json.dumps(glance.record).encode())
            elif match := re.fullmatch(rf"/v2/images/{ID}/members/(.*)", self.path):
                known = match[1] in glance.members
                self.answer(200 if known else 404, b'{"status": "pending"}' if known else b"")
            elif self.path == f"/v2/images/{ID}/file":
                self.file()
            else:
                self.answer(404, b"")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def file(self) -> None:
            if glance.file_status != 200:
                return self.answer(glance.file_status, b"")
            data, start, end = glance.data, 0, len(glance.data)
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            ranges = glance.ranges
            glance.ranges |= bool(asked) and glance.ranges_again
            if asked and ranges:
                start = int(asked[1])
                end = int(asked[2]) + 1 if asked[2] else len(data)
                self.send_response(206)
                told = start + 1 if glance.wrong_range else start
                self.send_header("Content-Range", f"bytes {told}-{end - 1}/{len(data)}")
            else:
                self.send_response(200)
            body = data[start:end]
            if glance.length:
                self.send_header("Content-Length", str(len(body)))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            time.sleep(glance.stall)
            if glance.cut_after:
                self.wfile.write(body[: glance.cut_after.pop(0)])
                self.close_connection = True
                return None
            self.wfile.write(body)
            return None

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing: that clients go away is what is tested."""


@pytest.fixture
def glance() -> Iterator[Glance]:
    glance = Glance()
    server = Server(("127.0.0.1", 0), handler_of(glance))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    glance.url = f"http://127.0.0.1:{server.server_port}"
    yield glance
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(glance: Glance) -> Iterator[Callable[..., HttpImages]]:
    opened: list[HttpImages] = []

    def make(**values: Any) -> HttpImages:
        settings = GlanceSettings(glance.url, None, None, None, False, 5.0, 2)
        images = HttpImages(replace(settings, **values))
        images.open()
        opened.append(images)
        return images

    yield make
    for images in opened:
        images.close()


ADMIN = Caller.administrator()
INFO = ImageInfo(ID, size=len(DATA), hash_algo="sha256", hash_value=SHA)


def test_images_show_gives_all_that_compute_needs(client: Callable[..., HttpImages]) -> None:
    image = client().show(ID, ADMIN)
    assert image == ImageInfo(
        ID,
        "image",
        owner="owner",
        visibility="shared",
        disk_format="raw",
        container_format="bare",
        size=len(DATA),
        min_disk=1,
        min_ram=64,
        hash_algo="sha256",
        hash_value=SHA,
        properties={"hw_architecture": "x86_64"},
    )


@pytest.mark.parametrize("image_id", ["../../v2/tasks", "a b", "", "x" * 65, "a/b", "nosuch", "é"])
def test_images_unknown_and_odd_ids_are_missing(client: Callable[..., HttpImages], image_id: str) -> None:
    with pytest.raises(ImageMissing):
        client().show(image_id, ADMIN)


@pytest.mark.parametrize(
    ("visibility", "members", "project", "seen"),
    [
        ("public", (), "stranger", True),
        ("community", (), "stranger", True),
        ("private", (), "owner", True),
        ("private", ("stranger",), "stranger", False),
        ("shared", (), "owner", True),
        ("shared", ("friend",), "friend", True),
        ("shared", ("friend",), "stranger", False),
        ("shared", (), None, False),
        ("shared", (), "../../x", False),
    ],
)
def test_images_visibility_is_the_callers(
    glance: Glance,
    client: Callable[..., HttpImages],
    visibility: str,
    members: tuple[str, ...],
    project: str | None,
    seen: bool,
) -> None:
    glance.record["visibility"] = visibility
    glance.members = members
    caller = Caller("user", project, frozenset({"member"}))
    for values in ({}, {"username": "svc", "password": "pw"}):
        images = client(**values)
        if seen:
            assert images.show(ID, caller).id == ID
        else:
            with pytest.raises(ImageMissing):
                images.show(ID, caller)


def test_images_credentials(glance: Glance, client: Callable[..., HttpImages]) -> None:
    caller = Caller("user", "owner", request_id="req-1", token="secret-token")
    client().show(ID, caller)
    client(username="svc", password="pw").show(ID, caller)
    by_token, by_password = (headers for _, headers in glance.seen)
    assert by_token["x-auth-token"] == "secret-token"
    assert by_token["x-openstack-request-id"] == "req-1"
    assert base64.b64decode(by_password["authorization"].split()[1]) == b"svc:pw"
    assert "x-auth-token" not in by_password


def test_images_show_tries_again(glance: Glance, client: Callable[..., HttpImages]) -> None:
    glance.answers = [(503, b""), (200, b"{garbled")]
    assert client().show(ID, ADMIN).id == ID
    glance.answers = [(500, b"")] * 3
    with pytest.raises(ImageServiceDown, match="answered 500"):
        client().show(ID, ADMIN)


def test_images_show_of_a_record_that_lacks_things_is_the_services_fault(
    glance: Glance, client: Callable[..., HttpImages]
) -> None:
    del glance.record["status"]
    with pytest.raises(ImageServiceDown, match="status"):
        client().show(ID, ADMIN)


def test_images_service_away(client: Callable[..., HttpImages], tmp_path: Path) -> None:
    images = client(endpoint="http://127.0.0.1:1", num_retries=1)
    with pytest.raises(ImageServiceDown, match="127.0.0.1:1"):
        images.show(ID, ADMIN)
    with pytest.raises(ImageServiceDown):
        images.fetch(INFO, tmp_path / "i")
    images.close()
    with pytest.raises(ImageServiceDown, match="isn't open"):
        images.show(ID, ADMIN)


def test_images_missing_cafile_stops_the_start(client: Callable[..., HttpImages]) -> None:
    with pytest.raises(ConfigError, match="cafile /nowhere"):
        client(cafile="/nowhere")


@pytest.mark.parametrize("cuts", [[], [0], [1], [MIB, MIB], [100, 200, 300, 400, 500]])
@pytest.mark.parametrize("length", [True, False])
def test_images_fetch_goes_on_where_it_broke(
    glance: Glance, client: Callable[..., HttpImages], tmp_path: Path, cuts: list[int], length: bool
) -> None:
    glance.cut_after = list(cuts)
    glance.length = length
    target = tmp_path / "image"
    client().fetch(INFO, target)
    assert target.read_bytes() == DATA
    offsets = [sum(cuts[:n]) for n in range(len(cuts) + 1)]
    assert glance.file_requests() == [f"bytes={offset}-" if offset else None for offset in offsets]


@pytest.mark.parametrize("again", [False, True])
def test_images_fetch_begins_again_where_ranges_are_unknown(
    glance: Glance, client: Callable[..., HttpImages], tmp_path: Path, again: bool
) -> None:
    glance.ranges = False
    glance.ranges_again = again
    glance.cut_after = [2 * MIB, MIB]
    target = tmp_path / "image"
    target.write_bytes(b"old" * len(DATA))
    client().fetch(INFO, target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("fault", ["cuts", "wrong range", "stall", "500"])
def test_images_fetch_gives_up_in_the_end(
    glance: Glance, client: Callable[..., HttpImages], tmp_path: Path, fault: str
) -> None:
    if fault == "cuts":
        glance.cut_after = [100] + [0] * 10
    elif fault == "wrong range":
        glance.cut_after = [100]
        glance.wrong_range = True
    elif fault == "stall":
        glance.stall = 0.5
    else:
        glance.file_status = 500
    with pytest.raises(ImageServiceDown, match=ID):
        client(timeout=0.2, num_retries=1).fetch(INFO, tmp_path / "image")
    assert len(glance.file_requests()) <= 4


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"hash_value": "0" * 64}, "sha256 digest isn't 0000"),
        ({"hash_value": SHA.upper()}, None),
        ({"hash_algo": "telepathy"}, "telepathy isn't known"),
        ({"hash_algo": None, "checksum": hashlib.md5(DATA).hexdigest()}, None),
        ({"hash_algo": None, "checksum": "0" * 32}, "md5 digest"),
        ({"hash_algo": None, "hash_value": None}, None),
        ({"size": len(DATA) - 1}, "is longer than"),
        ({"size": None}, None),
    ],
)
def test_images_fetch_verifies(
    client: Callable[..., HttpImages], tmp_path: Path, values: dict[str, Any], told: str | None
) -> None:
    image = replace(INFO, **values)
    if told is None:
        client().fetch(image, tmp_path / "image")
        assert (tmp_path / "image").read_bytes() == DATA
    else:
        with pytest.raises(ImageUnusable, match=told):
            client().fetch(image, tmp_path / "image")


@pytest.mark.parametrize("status", [204, 403, 404])
def test_images_without_data_are_unusable(
    glance: Glance, client: Callable[..., HttpImages], tmp_path: Path, status: int
) -> None:
    glance.file_status = status
    with pytest.raises(ImageUnusable, match=f"no data to read \\({status}\\)"):
        client().fetch(INFO, tmp_path / "image")


class Numbered:
    """Tokens with numbers: the next when one is refused."""

    number = 0

    def token(self) -> str:
        return f"t{self.number}"

    def refused(self, token: str) -> None:
        assert token == self.token()
        self.number += 1


def test_images_a_refused_token_is_renewed_once(glance: Glance) -> None:
    refusal = (401, b"")

    def sent() -> list[str]:
        found = [headers["x-auth-token"] for _, headers in glance.seen]
        glance.seen.clear()
        return found

    with ImageClient(glance.url, tokens=Numbered(), retries=0) as client:
        glance.answers = [refusal]
        assert client.show_image(ID)["id"] == ID
        assert sent() == ["t0", "t1"]
        glance.answers = [refusal]
        assert client.read_range(ID, 5, 10) == DATA[5:15]
        assert sent() == ["t1", "t2"]
        glance.answers = [refusal, refusal]
        with pytest.raises(Unreachable, match="refuses this service's token"):
            client.show_image(ID)
        assert sent() == ["t2", "t3"]
        glance.answers = [refusal]
        with pytest.raises(RefusedToCaller):
            client.show_image(ID, {"X-Auth-Token": "the caller's"})
        assert sent() == ["the caller's"]


def test_images_a_range_is_read_as_far_as_the_connection_carries(
    glance: Glance, client: Callable[..., HttpImages]
) -> None:
    images = client()
    assert images.read_range(INFO, 100, 2 * MIB) == DATA[100 : 100 + 2 * MIB]
    assert glance.file_requests() == [f"bytes=100-{100 + 2 * MIB - 1}"]
    glance.cut_after = [1000]
    got = images.read_range(INFO, 5, MIB)
    assert got == DATA[5 : 5 + len(got)]
    assert len(got) <= 1000


def test_images_a_range_that_isnt_what_was_asked_for_is_refused(
    glance: Glance, client: Callable[..., HttpImages]
) -> None:
    images = client()
    with pytest.raises(ImageUnusable, match="hasn't 5 bytes"):
        images.read_range(replace(INFO, size=5), 0, 5)
    glance.wrong_range = True
    with pytest.raises(ImageServiceDown, match="Content-Range"):
        images.read_range(INFO, 1, 10)
    glance.ranges = False
    with pytest.raises(Unsupported, match="as a whole only"):
        images.read_range(INFO, 1, 10)
    glance.file_status = 503
    with pytest.raises(ImageServiceDown, match="503"):
        images.read_range(INFO, 1, 10)
    for status in (204, 404, 410):
        glance.file_status = status
        with pytest.raises(ImageUnusable, match="no data"):
            images.read_range(INFO, 1, 10)
    for status in (403, 409):  # it may be given again
        glance.file_status = status
        with pytest.raises(ImageServiceDown, match=str(status)):
            images.read_range(INFO, 1, 10)


def test_images_fetch_ends_when_told_to(
    glance: Glance, client: Callable[..., HttpImages], tmp_path: Path
) -> None:
    class Enough(Exception):
        pass

    def check() -> None:
        raise Enough

    images = client()
    with pytest.raises(Enough):
        images.fetch(INFO, tmp_path / "image", check)
    assert (tmp_path / "image").stat().st_size == 0
    images.fetch(INFO, tmp_path / "image")  # the connection that was left is of no harm
    assert (tmp_path / "image").read_bytes() == DATA


def test_images_a_full_disk_is_told_as_such(client: Callable[..., HttpImages]) -> None:
    with pytest.raises(OSError, match="No space left"):
        client().fetch(INFO, Path("/dev/full"))


def test_images_in_the_same_process(tmp_path: Path) -> None:
    owner = ImageCaller("user", "owner", frozenset({"member", "reader"}))
    with memory_service() as service:
        values = {"name": "i", "disk_format": "raw", "container_format": "bare", "hw_architecture": "x86_64"}
        made = service.create_image(owner, {**values, "min_ram": 64})
        images = LibraryImages(service)
        images.open()
        ours = Caller("user", "owner", frozenset({"member", "reader"}))
        queued = images.show(made.id, ours)
        assert queued.status == "queued"
        with pytest.raises(ImageUnusable, match="has no data"):
            images.fetch(queued, tmp_path / "image")
        service.upload(owner, made.id, io.BytesIO(DATA), size=len(DATA))
        image = images.show(made.id, ours)
        assert (image.status, image.size, image.hash_value) == ("active", len(DATA), SHA)
        assert (image.min_ram, image.properties) == (64, {"hw_architecture": "x86_64"})
        images.fetch(image, tmp_path / "image")
        assert (tmp_path / "image").read_bytes() == DATA
        with pytest.raises(ImageUnusable, match="digest"):
            images.fetch(replace(image, hash_value="0" * 64), tmp_path / "image")
        for image_id, caller in ((made.id, Caller("other", "stranger")), ("nope", ours)):
            with pytest.raises(ImageMissing):
                images.show(image_id, caller)
        images.close()
        service.delete_image(owner, made.id)
        with pytest.raises(ImageMissing):
            images.fetch(image, tmp_path / "image")
