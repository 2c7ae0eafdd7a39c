"""Uploads in pieces, as tus 1.0.0 says: headers, statuses, what is refused."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import falcon.testing
import pytest

from tests.server_fixtures import Api

TUS = {"Tus-Resumable": "1.0.0", "Accept": "application/json"}
OCTETS = "application/offset+octet-stream"
DATA = os.urandom(3000)
Answer = falcon.testing.Result


class Client:
    """Speaks tus to one image, as one user."""

    def __init__(self, api: Api, image_id: str | None = None, user: str = "alice") -> None:
        self.image_id = image_id or api.image()
        self.path = f"/v2/images/{self.image_id}/uploads"
        self.client = api.as_(user)
        self.url = ""

    def ask(self, method: str, path: str = "", body: bytes | None = None, **headers: Any) -> Answer:
        told = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        return self.client.simulate_request(method, path or self.url, body=body, headers={**TUS, **told})

    def begin(self, length: int | None = len(DATA), **headers: Any) -> Answer:
        if length is not None:
            headers["Upload_Length"] = length
        made = self.ask("POST", self.path, **headers)
        if made.status_code == 201:
            self.url = made.headers["location"].removeprefix("http://falconframework.org")
        return made

    def send(self, offset: int, body: bytes, **headers: Any) -> Answer:
        told = {"Upload_Offset": offset, "Content_Type": OCTETS, **headers}
        return self.ask("PATCH", self.url, body, **told)

    def offset(self) -> int:
        told = self.ask("HEAD")
        assert told.status_code == 200
        return int(told.headers["upload-offset"])

    def status(self) -> str:
        return str(self.client.get(f"/v2/images/{self.image_id}").json["status"])


@pytest.fixture
def tus(api: Api) -> Client:
    return Client(api)


def test_what_is_spoken_is_told(tus: Client) -> None:
    tus.begin()
    for path in (tus.path, tus.url):
        told = tus.client.simulate_options(path)
        assert told.status_code == 204
        assert told.headers["tus-version"] == told.headers["tus-resumable"] == "1.0.0"
        assert told.headers["tus-max-size"] == str(1 << 40)
        assert set(told.headers["tus-checksum-algorithm"].split(",")) >= {"sha1", "sha256", "md5"}
        assert set(told.headers["tus-extension"].split(",")) == {
            *("creation", "creation-defer-length", "creation-with-upload", "termination"),
            *("checksum", "expiration", "concatenation"),
        }


def test_another_version_is_refused(tus: Client) -> None:
    tus.begin()
    for version in ("0.2.2", "1.0", ""):
        for method, path in (("POST", tus.path), ("HEAD", tus.url), ("PATCH", tus.url), ("DELETE", tus.url)):
            refused = tus.ask(method, path, Tus_Resumable=version)
            assert refused.status_code == 412
            assert refused.headers["tus-version"] == "1.0.0"
    assert tus.client.simulate_head(tus.url).status_code == 412
    assert tus.offset() == 0


def test_an_upload_from_its_beginning_to_its_end(tus: Client) -> None:
    made = tus.begin(Upload_Metadata="filename d29ybGQ=,is_confidential")
    assert made.status_code == 201
    assert made.headers["tus-resumable"] == "1.0.0"
    assert made.headers["upload-expires"].endswith("GMT")
    told = tus.ask("HEAD")
    assert {name: told.headers.get(name) for name in ("upload-offset", "upload-length")} == {
        "upload-offset": "0",
        "upload-length": "3000",
    }
    assert told.headers["upload-metadata"] == "filename d29ybGQ=,is_confidential"
    assert told.headers["cache-control"] == "no-store"
    sent = tus.send(0, DATA[:1000])
    assert (sent.status_code, sent.headers["upload-offset"]) == (204, "1000")
    assert "upload-expires" in sent.headers
    assert (tus.offset(), tus.status()) == (1000, "queued")
    sent = tus.send(1000, DATA[1000:])
    assert (sent.status_code, sent.headers["upload-offset"]) == (204, "3000")
    assert (tus.offset(), tus.status()) == (3000, "active")
    assert tus.client.get(f"/v2/images/{tus.image_id}/file").content == DATA
    assert tus.send(3000, b"").status_code == 204
    assert tus.send(3000, b"x").status_code == 409


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Upload_Length": "-1"}, 400),
        ({"Upload_Length": "x"}, 400),
        ({"Upload_Length": "1", "Upload_Defer_Length": "1"}, 400),
        ({"Upload_Defer_Length": "2"}, 400),
        ({"Upload_Length": str((1 << 40) + 1)}, 413),
        ({"Upload_Length": "1", "Upload_Metadata": "no base64!"}, 400),
        ({"Upload_Length": "1", "Upload_Concat": "other"}, 400),
        ({"Upload_Concat": "final;"}, 400),
        ({"Upload_Concat": "final;/v2/images/x/uploads/none"}, 404),
        ({"Upload_Length": "1", "Upload_Checksum": "crc32 AAAA"}, 400),
        ({"Upload_Length": "1", "X_Image_Meta_Store": "none"}, 400),
    ],
)
def test_what_can_not_begin(tus: Client, headers: dict[str, str], status: int) -> None:
    refused = tus.begin(None, **headers)
    assert refused.status_code == status, refused.text
    assert refused.headers["tus-resumable"] == "1.0.0"


def test_what_can_not_go_on(tus: Client) -> None:
    tus.begin()
    assert tus.send(0, b"x", Content_Type="application/octet-stream").status_code == 415
    assert tus.ask("PATCH", tus.url, b"x", Content_Type=OCTETS).status_code == 400
    assert tus.send(1, b"x").status_code == 409
    assert tus.send(0, DATA + b"x").status_code == 413
    assert tus.send(0, b"x", Upload_Length=4).status_code == 400
    for path in (f"{tus.path}/none", f"/v2/images/none/uploads/{tus.url.rpartition('/')[2]}"):
        for method in ("HEAD", "PATCH", "DELETE"):
            answer = tus.ask(method, path, b"", Content_Type=OCTETS, Upload_Offset=0)
            assert answer.status_code == 404, (method, path)
    assert tus.offset() == 0


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512", "md5"])
def test_checksums(tus: Client, algorithm: str) -> None:
    tus.begin()

    def told(data: bytes) -> str:
        return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"

    wrong = tus.send(0, DATA[:1000], Upload_Checksum=told(b"other"))
    assert (wrong.status_code, tus.offset()) == (460, 0)
    assert wrong.json["code"] == "460 Checksum Mismatch"
    assert tus.send(0, DATA[:1000], Upload_Checksum="crc32 AAAA").status_code == 400
    assert tus.send(0, DATA[:1000], Upload_Checksum=f"{algorithm} not base64").status_code == 400
    assert tus.send(0, DATA[:1000], Upload_Checksum=told(DATA[:1000])).status_code == 204
    assert tus.send(1000, DATA[1000:], Upload_Checksum=told(DATA[1000:])).status_code == 204
    assert tus.status() == "active"


def test_a_length_that_is_told_later(tus: Client) -> None:
    assert tus.begin(None, Upload_Defer_Length=1).status_code == 201
    assert tus.send(0, DATA[:10]).status_code == 204
    told = tus.ask("HEAD")
    assert (told.headers["upload-defer-length"], told.headers.get("upload-length")) == ("1", None)
    assert tus.send(10, DATA[10:20], Upload_Length=5).status_code == 400
    assert tus.send(10, DATA[10:20], Upload_Length=len(DATA)).status_code == 204
    assert tus.ask("HEAD").headers["upload-length"] == str(len(DATA))
    assert tus.send(20, DATA[20:]).status_code == 204
    assert tus.status() == "active"


def test_data_in_the_first_request(tus: Client) -> None:
    told = {**TUS, "Content-Type": OCTETS, "Upload-Length": str(len(DATA))}
    made = tus.client.simulate_post(tus.path, body=DATA[:100], headers=told)
    assert (made.status_code, made.headers["upload-offset"]) == (201, "100")
    made = tus.client.simulate_post(tus.path, body=DATA, headers=told)
    assert (made.status_code, made.headers["upload-offset"]) == (201, str(len(DATA)))
    assert tus.status() == "active"


def test_methods_in_disguise(tus: Client) -> None:
    tus.begin()
    told = {"Upload_Offset": 0, "Content_Type": OCTETS, "X_HTTP_Method_Override": "PATCH"}
    assert tus.ask("POST", tus.url, DATA[:10], **told).status_code == 204
    assert tus.offset() == 10
    assert tus.ask("POST", tus.url, X_HTTP_Method_Override="HEAD").headers["upload-offset"] == "10"
    assert tus.ask("POST", tus.url, X_HTTP_Method_Override="DELETE").status_code == 204
    assert tus.ask("HEAD").status_code == 404
    # Nothing else takes another method than its own.
    image = f"/v2/images/{tus.image_id}"
    assert tus.ask("POST", image, X_HTTP_Method_Override="DELETE").status_code == 405
    assert tus.ask("GET", tus.path, X_HTTP_Method_Override="PATCH").status_code == 405
    assert tus.status() == "queued"


def test_partial_uploads(tus: Client) -> None:
    urls = []
    for start, end in ((0, 1000), (1000, 2500), (2500, 3000)):
        assert tus.begin(end - start, Upload_Concat="partial").status_code == 201
        urls.append(tus.url)
        if start < 2500:
            assert tus.send(0, DATA[start:end]).status_code == 204
        assert tus.ask("HEAD").headers["upload-concat"] == "partial"
    joined = f"final;http://host{urls[0]} {urls[1]} {urls[2]}"
    assert tus.begin(None, Upload_Concat=joined).status_code == 409, "one isn't complete"
    assert tus.send(0, DATA[2500:]).status_code == 204
    assert tus.begin(3000, Upload_Concat=joined).status_code == 400
    assert tus.begin(None, Upload_Concat=joined).status_code == 201
    told = tus.ask("HEAD")
    assert told.headers["upload-concat"] == "final;" + " ".join(urls)
    assert (told.headers["upload-offset"], told.headers["upload-length"]) == ("3000", "3000")
    assert tus.send(3000, b"").status_code == 403
    assert tus.status() == "active"
    assert tus.client.get(f"/v2/images/{tus.image_id}/file").content == DATA


def test_what_compute_could_not_boot_is_refused(api: Api) -> None:
    tus = Client(api, api.image(disk_format="qcow2"))
    tus.begin()
    assert tus.send(0, DATA).status_code == 415
    assert (tus.status(), tus.ask("HEAD").status_code) == ("queued", 404)


def test_whose_upload_it_is(api: Api, tus: Client) -> None:
    tus.begin()
    upload = tus.url
    for user, status in (("bob", 404), ("reader", 403), ("nobody", 404)):
        other = Client(api, tus.image_id, user)
        other.url = upload
        assert other.begin().status_code == status
        assert other.ask("HEAD").status_code == status
        assert other.send(0, b"x").status_code == status
        assert other.ask("DELETE").status_code == status
    admin = Client(api, tus.image_id, "admin")
    admin.url = upload
    assert admin.offset() == 0
    assert api.as_(None).simulate_head(upload, headers=TUS).status_code == 401


def test_pages_of_other_sites(api: Api) -> None:
    """tus-js-client in a browser sends these headers, and reads those."""
    from glancelike.app import create_app
    from glancelike.web.options import OptionSet
    from glancelike.web.settings import OPTIONS, settings_of

    options = OptionSet(OPTIONS)
    options.parse([], project="glancelike", prog="test")
    values = {group: dict(section) for group, section in options.of_part(OPTIONS).items()}
    values["cors"]["allowed_origin"] = ["https://horizon.example"]
    app = create_app(api.service, api.auth, settings_of(values))
    sent = ["tus-resumable", "upload-length", "upload-metadata", "upload-offset", "upload-concat"]
    sent += ["upload-defer-length", "upload-checksum", "x-http-method-override", "content-type"]
    preflight = falcon.testing.TestClient(app).simulate_options(
        f"/v2/images/{api.image()}/uploads",
        headers={
            "Origin": "https://horizon.example",
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": ",".join(sent),
        },
    )
    assert preflight.status_code == 200
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    assert set(preflight.headers["access-control-allow-headers"].split(", ")) == set(sent)
    shown = set(preflight.headers["access-control-expose-headers"].lower().split(", "))
    assert shown >= {"location", "upload-offset", "upload-length", "upload-expires", "tus-resumable"}
