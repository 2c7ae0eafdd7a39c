"""Image data over the API: ranges, conditions, sizes, states."""

from __future__ import annotations

import contextlib
import hashlib
import io
from pathlib import Path

import falcon.testing
import pytest

from glancelike.app import create_app
from glancelike.embedded import open_service
from glancelike.model import Caller, Change, ChangeOp
from glancelike.web.auth import NoneAuth
from tests.server_fixtures import Api

DATA = bytes(range(256)) * 40
TAG = f'"sha256:{hashlib.sha256(DATA).hexdigest()}"'
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def file(api: Api) -> str:
    return f"/v2/images/{api.image(data=DATA)}/file"


@pytest.mark.parametrize(
    ("header", "status", "content_range", "body"),
    [
        (None, 200, None, DATA),
        ("bytes=0-", 206, "bytes 0-10239/10240", DATA),
        ("bytes=0-0", 206, "bytes 0-0/10240", DATA[:1]),
        ("bytes=100-299", 206, "bytes 100-299/10240", DATA[100:300]),
        ("bytes=10239-", 206, "bytes 10239-10239/10240", DATA[-1:]),
        ("bytes=10000-99999", 206, "bytes 10000-10239/10240", DATA[10000:]),
        ("bytes=-10", 206, "bytes 10230-10239/10240", DATA[-10:]),
        ("bytes=-99999", 206, "bytes 0-10239/10240", DATA),
        ("bytes=10240-", 416, "bytes */10240", None),
        (f"bytes={'9' * 5000}-", 416, "bytes */10240", None),
        ("bytes=-0", 416, "bytes */10240", None),
        ("bytes=0-1,5-6", 200, None, DATA),
        ("bytes=5-1", 200, None, DATA),
        ("bytes=-", 200, None, DATA),
        ("bytes=x-", 200, None, DATA),
        ("bytes=\u0663-", 200, None, DATA),
        ("lines=0-1", 200, None, DATA),
    ],
)
def test_ranges(
    api: Api, file: str, header: str | None, status: int, content_range: str | None, body: bytes | None
) -> None:
    headers = {} if header is None else {"Range": header.encode().decode("latin-1")}
    answer = api.as_("alice").get(file, headers=headers)
    assert answer.status_code == status
    assert answer.headers.get("content-range") == content_range
    if body is not None:
        assert answer.content == body
        assert answer.headers["content-length"] == str(len(body))
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["etag"] == TAG
    head = api.as_("alice").head(file, headers=headers)
    assert (head.status_code, head.content) == (status, b"")
    if body is not None:
        shown = ("content-range", "content-length", "etag", "accept-ranges", "content-type")
        assert [head.headers.get(name) for name in shown] == [answer.headers.get(name) for name in shown]


@pytest.mark.parametrize(
    ("header", "status"),
    [(TAG, 304), (f"W/{TAG}", 304), ("*", 304), (f'"x", {TAG}', 304), ('"x"', 200), ("x", 200)],
)
def test_if_none_match(api: Api, file: str, header: str, status: int) -> None:
    answer = api.as_("alice").get(file, headers={"If-None-Match": header})
    assert answer.status_code == status
    assert answer.headers["etag"] == TAG
    assert answer.content == (DATA if status == 200 else b"")


@pytest.mark.parametrize(
    ("condition", "status"),
    [(TAG, 206), (f"W/{TAG}", 200), ('"x"', 200), ("Mon, 23 Nov 2026 02:00:00 GMT", 200)],
)
def test_if_range(api: Api, file: str, condition: str, status: int) -> None:
    answer = api.as_("alice").get(file, headers={"Range": "bytes=0-9", "If-Range": condition})
    assert (answer.status_code, len(answer.content)) == (status, 10 if status == 206 else len(DATA))


def test_a_local_file_is_left_to_the_server(tmp_path: Path, api: Api) -> None:
    """Play a server that has sendfile: it takes the file from its position on."""
    service = open_service("memory://", stores={"disk": f"file://{tmp_path}/images"})
    admin = Caller.administrator()
    image_id = service.create_image(admin, {"disk_format": "raw", "container_format": "bare"}).id
    service.upload(admin, image_id, io.BytesIO(DATA))
    app = create_app(service, NoneAuth({}))
    files: list[io.BufferedReader] = []

    def wrapper(file: io.BufferedReader, block: int) -> list[bytes]:
        files.append(file)
        return []

    started: list[tuple[str, dict[str, str]]] = []
    environ = falcon.testing.create_environ(f"/v2/images/{image_id}/file", headers={"Range": "bytes=7-9"})
    environ["wsgi.file_wrapper"] = wrapper
    app(environ, lambda status, headers: started.append((status, dict(headers))))  # type: ignore[arg-type]
    (file,) = files
    with contextlib.closing(file):
        assert (file.tell(), file.read()) == (7, DATA[7:])
    assert started[0][0].startswith("206 ")
    assert started[0][1]["content-length"] == "3"
    service.close()


def test_md5_is_told_only_with_the_whole(api: Api) -> None:
    with_md5 = Api(api.users, compute_md5_checksum=True)
    client = with_md5.as_("alice")
    path = f"/v2/images/{with_md5.image(data=DATA)}/file"
    assert client.get(path).headers["content-md5"] == hashlib.md5(DATA).hexdigest()
    assert "content-md5" not in client.get(path, headers={"Range": "bytes=0-1"}).headers
    with_md5.service.close()


def test_the_digest_is_shown(api: Api, file: str) -> None:
    shown = api.as_("alice").get(file.removesuffix("/file")).json
    assert (shown["status"], shown["size"], shown["virtual_size"]) == ("active", len(DATA), len(DATA))
    assert (shown["os_hash_algo"], shown["os_hash_value"]) == ("sha256", hashlib.sha256(DATA).hexdigest())
    assert shown["stores"] == "memory"


def test_an_image_without_data_answers_no_content(api: Api) -> None:
    path = f"/v2/images/{api.image()}/file"
    for answer in (api.as_("alice").get(path), api.as_("alice").head(path)):
        assert (answer.status_code, answer.content) == (204, b"")


def test_empty_data(api: Api) -> None:
    client = api.as_("alice")
    path = f"/v2/images/{api.image(data=b'')}/file"
    assert client.get(path).status_code == 200
    assert client.get(path).headers["content-length"] == "0"
    assert client.get(path, headers={"Range": "bytes=0-"}).status_code == 416


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Content-Type": "application/json"}, 415, "application/octet-stream"),
        ({"Content-Type": ""}, 415, "(none)"),
        ({**OCTETS, "x-openstack-image-size": "5"}, 400, "Content-Length is 3"),
        ({**OCTETS, "x-openstack-image-size": "many"}, 400, "'many'"),
        ({**OCTETS, "x-openstack-image-size": "-1"}, 400, "'-1'"),
        ({**OCTETS, "X-Image-Meta-Store": "nowhere"}, 400, "nowhere"),
    ],
)
def test_refused_upload(api: Api, headers: dict[str, str], status: int, said: str) -> None:
    path = f"/v2/images/{api.image()}"
    answer = api.as_("alice").put(f"{path}/file", body=b"abc", headers=headers)
    assert answer.status_code == status, answer.text
    assert said in answer.json["message"]
    assert api.as_("alice").get(path).json["status"] == "queued"


def test_upload_to_a_named_store_and_of_an_announced_size(api: Api) -> None:
    headers = {**OCTETS, "x-openstack-image-size": "3", "X-Image-Meta-Store": "memory"}
    path = f"/v2/images/{api.image()}/file"
    assert api.as_("alice").put(path, body=b"abc", headers=headers).status_code == 204


def test_data_is_uploaded_once(api: Api, file: str) -> None:
    again = api.as_("alice").put(file, body=b"other", headers=OCTETS)
    assert again.status_code == 409
    assert api.as_("alice").get(file).content == DATA


def test_upload_needs_formats(api: Api) -> None:
    path = f"/v2/images/{api.image(disk_format=None)}/file"
    assert api.as_("alice").put(path, body=b"x", headers=OCTETS).status_code == 400


def test_upload_of_something_else_than_claimed(api: Api) -> None:
    path = f"/v2/images/{api.image(disk_format='qcow2')}"
    answer = api.as_("alice").put(f"{path}/file", body=b"no qcow2" * 1000, headers=OCTETS)
    assert answer.status_code == 415
    assert "qcow2" in answer.json["message"]
    assert api.as_("alice").get(path).json["status"] == "queued"


def test_upload_over_the_cap(api: Api) -> None:
    small = Api(api.users, image_size_cap=100)
    path = f"/v2/images/{small.image()}/file"
    answer = small.as_("alice").put(path, body=b"x" * 101, headers=OCTETS)
    assert answer.status_code == 413
    assert "image_size_cap" in answer.json["message"]
    assert small.as_("alice").put(path, body=b"x" * 100, headers=OCTETS).status_code == 204
    small.service.close()


def test_who_may_read_and_write_the_data(api: Api, file: str) -> None:
    assert api.as_("bob").get(file).status_code == 404
    assert api.as_("bob").put(file, body=b"x", headers=OCTETS).status_code == 404
    assert api.as_("reader").get(file).status_code == 403
    assert api.as_("reader").put(file, body=b"x", headers=OCTETS).status_code == 403
    image_id = file.split("/")[3]
    public = Change(ChangeOp.REPLACE, ("visibility",), "community")
    api.service.update_image(Caller.administrator(), image_id, [public])
    assert api.as_("bob").get(file).content == DATA
    assert api.as_("bob").put(file, body=b"x", headers=OCTETS).status_code == 403
