"""``?redirect=true``: a caller that asks for it fetches data from the store itself."""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from glancelike.errors import BlobNotFound, StoreUnavailable
from glancelike.stores.base import Cap
from glancelike.stores.file import FileStore
from glancelike.stores.memory import MemoryStore
from tests.server_fixtures import Api, write_users

DATA = os.urandom(100_000)
SECRET = b"of the store"


def signature(key: str, expires: str) -> str:
    return hmac.new(SECRET, f"GET {key} {expires}".encode(), hashlib.sha256).hexdigest()


class SignedStore(FileStore):
    """A store with a web server of its own, which serves whoever has a signed URL."""

    capabilities = (FileStore.capabilities & ~Cap.LOCAL) | Cap.PRESIGN
    away = False
    server: ThreadingHTTPServer

    def open(self) -> None:
        super().open()
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                key = url.path[1:]
                if (
                    query.get("sig") != signature(key, query.get("until", ""))
                    or float(query["until"]) < time.time()
                ):
                    self.send_error(403)
                    return
                try:
                    data = b"".join(store.read(key))
                except BlobNotFound:
                    self.send_error(404)
                    return
                wanted = self.headers.get("Range")
                if wanted:
                    first, _, last = wanted.removeprefix("bytes=").partition("-")
                    data = data[int(first) : int(last) + 1]
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        super().close()

    def presign(self, key: str, method: str, expires: int) -> str:
        if self.away:
            raise StoreUnavailable("no key to sign with")
        until = f"{time.time() + expires:.0f}"
        port = self.server.server_address[1]
        return f"http://127.0.0.1:{port}/{key}?until={until}&sig={signature(key, until)}"


def serve(tmp_path: Path, **settings: Any) -> Api:
    (tmp_path / "signed").mkdir()
    stores = {"signed": SignedStore({"filesystem_store_datadir": str(tmp_path / "signed")})}
    return Api(write_users(tmp_path / "users"), stores={**stores, "plain": MemoryStore({})}, **settings)


@pytest.fixture(name="signed")
def signed_fixture(tmp_path: Path) -> Iterator[Api]:
    api = serve(tmp_path, presigned_download_expires=60)
    yield api
    api.service.close()


def ask(api: Api, image_id: str, user: str = "alice", **headers: str) -> Any:
    return api.as_(user).get(f"/v2/images/{image_id}/file?redirect=true", headers=headers)


def fetch(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        body: bytes = answer.read()
        return body


def test_whoever_asks_gets_a_url_and_what_to_verify_by(signed: Api) -> None:
    image_id = signed.image(data=DATA)
    answer = ask(signed, image_id)
    assert (answer.status_code, answer.content) == (307, b"")
    digest = hashlib.sha256(DATA).hexdigest()
    assert answer.headers["OpenStack-image-hash"] == f"sha256:{digest}"
    assert answer.headers["ETag"] == f'"sha256:{digest}"'
    assert answer.headers["Cache-Control"] == "no-store"
    url = answer.headers["Location"]
    assert fetch(url) == DATA
    assert fetch(url, Range="bytes=5-9") == DATA[5:10]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetch(url.replace("until=", "until=9"))


def test_a_range_is_repeated_to_the_store(signed: Api) -> None:
    image_id = signed.image(data=DATA)
    answer = ask(signed, image_id, Range="bytes=5-9")
    assert answer.status_code == 307
    assert "Content-Range" not in answer.headers
    assert fetch(answer.headers["Location"], Range="bytes=5-9") == DATA[5:10]
    assert ask(signed, image_id, Range=f"bytes={len(DATA)}-").status_code == 416


def test_who_doesnt_ask_gets_the_data(signed: Api) -> None:
    image_id = signed.image(data=DATA)
    for query in ("", "?redirect=false"):
        answer = signed.as_("alice").get(f"/v2/images/{image_id}/file{query}")
        assert (answer.status_code, answer.content) == (200, DATA)
    assert signed.as_("alice").head(f"/v2/images/{image_id}/file?redirect=true").status_code == 200
    odd = signed.as_("alice").get(f"/v2/images/{image_id}/file?redirect=yes")
    assert odd.status_code == 400


def test_what_is_known_already_isnt_sent_anywhere(signed: Api) -> None:
    image_id = signed.image(data=DATA)
    tag = ask(signed, image_id).headers["ETag"]
    again = ask(signed, image_id, **{"If-None-Match": tag})
    assert again.status_code == 304
    assert "Location" not in again.headers


def test_the_default_is_no_url(tmp_path: Path) -> None:
    api = serve(tmp_path)
    try:
        image_id = api.image(data=DATA)
        answer = ask(api, image_id)
        assert (answer.status_code, answer.content) == (200, DATA)
    finally:
        api.service.close()


def test_a_store_without_urls_and_one_that_is_away_are_read_here(signed: Api) -> None:
    plain = signed.image()
    put = signed.as_("alice").put(
        f"/v2/images/{plain}/file",
        body=DATA,
        headers={"Content-Type": "application/octet-stream", "X-Image-Meta-Store": "plain"},
    )
    assert put.status_code == 204
    assert ask(signed, plain).content == DATA
    image_id = signed.image(data=DATA)
    driver: Any = signed.service._context.mounts["signed"].store.driver
    driver.away = True
    answer = ask(signed, image_id)
    assert (answer.status_code, answer.content) == (200, DATA)


def test_who_may_not_download_gets_no_url(signed: Api) -> None:
    image_id = signed.image(data=DATA)
    assert ask(signed, image_id, "bob").status_code == 404
    assert ask(signed, image_id, "reader").status_code == 403
    public = signed.image("admin", data=DATA, visibility="public")
    assert ask(signed, public, "bob").status_code == 307


def test_a_deactivated_image_has_no_url(signed: Api) -> None:
    image_id = signed.image(data=DATA)
    admin = signed.as_("admin")
    assert admin.post(f"/v2/images/{image_id}/actions/deactivate").status_code == 204
    assert ask(signed, image_id).status_code == 403
    # An administrator may read it, but leaves nothing behind that others could use.
    answer = ask(signed, image_id, "admin")
    assert (answer.status_code, answer.content) == (200, DATA)
    assert ask(signed, signed.image()).status_code == 204


def test_an_empty_image_isnt_worth_a_url(signed: Api) -> None:
    assert ask(signed, signed.image(data=b"")).status_code == 200
