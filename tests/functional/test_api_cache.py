"""``/v2/cache`` and downloads by way of the cache, in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from glancelike.cache import ImageCache
from glancelike.model import CachedImage, Image, Status
from glancelike.registry.base import ADMIN
from glancelike.stores.base import Cap
from glancelike.stores.file import FileStore
from glancelike.stores.memory import MemoryStore
from tests.server_fixtures import Api, write_users
from tests.waiting import wait_for

DATA = os.urandom(3_000_000)
UNKNOWN = "99999999-9999-4999-8999-999999999999"
OPERATIONS = [
    ("GET", "/v2/cache"),
    ("DELETE", "/v2/cache"),
    ("PUT", "/v2/cache/{id}"),
    ("DELETE", "/v2/cache/{id}"),
    ("GET", "/v2/cache/nodes/{id}"),
    ("POST", "/v2/cache/clean"),
    ("POST", "/v2/cache/prune"),
]


class Remote(MemoryStore):
    """A memory store, which has no local files, that counts its reads."""

    reads = 0

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.reads += 1
        return super().read(key, offset=offset, length=length)


@pytest.fixture
def remote() -> Remote:
    return Remote({})


@pytest.fixture
def api(tmp_path: Path, remote: Remote) -> Iterator[Api]:
    """The Image API with a cache before its store, and one local store."""
    (tmp_path / "local").mkdir()
    local = FileStore({"filesystem_store_datadir": str(tmp_path / "local" / "images")})
    made = Api(
        write_users(tmp_path / "users"),
        stores={"remote": remote, "local": local},
        cache=ImageCache(tmp_path / "cache", node="http://here:9292"),
    )
    with made.service.cache.kept(300):
        yield made
    made.service.close()


def state(api: Api) -> dict[str, list[str]]:
    answer = api.as_("admin").get("/v2/cache")
    assert answer.status_code == 200
    return {
        "cached": [each["image_id"] for each in answer.json["cached_images"]],
        "queued": answer.json["queued_images"],
    }


def cached_image(api: Api) -> str:
    image_id = api.image(data=DATA)
    assert api.as_("alice").get(f"/v2/images/{image_id}/file").content == DATA
    wait_for("cached", lambda: image_id in state(api)["cached"])
    return image_id


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_only_administrators(api: Api, method: str, path: str) -> None:
    image_id = api.image(data=DATA)
    answer = api.as_("alice").simulate_request(method, path.format(id=image_id))
    assert answer.status_code == 403
    assert "You are not authorized to complete" in answer.json["message"]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_without_a_cache(tmp_path: Path, method: str, path: str) -> None:
    api = Api(write_users(tmp_path / "users"))
    image_id = api.image(data=b"data")
    answer = api.as_("admin").simulate_request(method, path.format(id=image_id))
    assert (answer.status_code, answer.json["message"]) == (
        404,
        "Caching via API is not supported at this site.",
    )
    # Policy comes first, as everywhere.
    assert api.as_("alice").simulate_request(method, path.format(id=image_id)).status_code == 403
    api.service.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/cache/x"), ("PUT", "/v2/cache"), ("POST", "/v2/cache/nodes/x"), ("GET", "/v2/cache/clean")],
)
def test_other_methods(api: Api, method: str, path: str) -> None:
    assert api.as_("admin").simulate_request(method, path).status_code == 405


def test_the_versions_of_the_cache_are_listed(api: Api) -> None:
    versions = api.as_(None).get("/versions").json["versions"]
    assert [each["id"] for each in versions] == [f"v2.{minor}" for minor in range(18, -1, -1)]
    assert [each["id"] for each in versions if each["status"] == "CURRENT"] == ["v2.18"]
    assert api.as_("admin").get("/v2.18/cache").status_code == 200


def test_a_download_is_cached_and_counted(api: Api, remote: Remote) -> None:
    before = time.time()
    image_id = cached_image(api)
    file = f"/v2/images/{image_id}/file"
    assert api.as_("alice").get(file).content == DATA
    part = api.as_("alice").get(file, headers={"Range": "bytes=1000000-1000009"})
    assert (part.status_code, part.content) == (206, DATA[1_000_000:1_000_010])
    assert api.as_("alice").simulate_head(file).status_code == 200
    assert remote.reads == 1
    (entry,) = api.as_("admin").get("/v2/cache").json["cached_images"]
    assert (entry["image_id"], entry["size"], entry["hits"]) == (image_id, len(DATA), 2)
    assert before - 1 < entry["last_modified"] <= entry["last_accessed"] < time.time() + 1


def test_what_is_local_isnt_cached_unless_asked_for(api: Api) -> None:
    image_id = api.image()
    octets = {"Content-Type": "application/octet-stream"}
    url = f"/v2/images/{image_id}/file"
    put = api.as_("alice").put(url, body=DATA, headers={**octets, "X-Image-Meta-Store": "local"})
    assert put.status_code == 204
    assert api.as_("alice").get(url).content == DATA
    assert state(api) == {"cached": [], "queued": []}
    assert api.as_("admin").put(f"/v2/cache/{image_id}").status_code == 202
    wait_for("fetched", lambda: state(api) == {"cached": [image_id], "queued": []})


def test_queueing(api: Api, remote: Remote) -> None:
    admin = api.as_("admin")
    assert admin.put(f"/v2/cache/{UNKNOWN}").status_code == 404
    assert admin.put("/v2/cache/non-existing-image-id").status_code == 404
    queued = admin.put(f"/v2/cache/{api.image()}")
    assert queued.status_code == 400
    assert "only active images can be cached" in queued.json["message"]
    image_id = api.image(data=DATA)
    assert admin.put(f"/v2/cache/{image_id}").status_code == 202
    wait_for("fetched", lambda: state(api) == {"cached": [image_id], "queued": []})
    again = admin.put(f"/v2/cache/{image_id}")
    assert (again.status_code, again.content) == (202, b"")
    assert again.headers["content-type"] == "text/html; charset=UTF-8"
    assert state(api)["queued"] == []
    assert api.as_("alice").get(f"/v2/images/{image_id}/file").content == DATA
    assert remote.reads == 1


def test_an_image_too_large_for_the_cache(tmp_path: Path, remote: Remote) -> None:
    api = Api(
        write_users(tmp_path / "users"),
        stores={"remote": remote},
        cache=ImageCache(tmp_path / "cache", max_size=1000),
    )
    image_id = api.image(data=DATA)
    answer = api.as_("admin").put(f"/v2/cache/{image_id}")
    assert answer.status_code == 413
    assert "image_cache_max_size" in answer.json["message"]
    assert api.as_("alice").get(f"/v2/images/{image_id}/file").content == DATA
    assert state(api)["cached"] == []
    api.service.close()


def test_deleting_from_the_cache(api: Api) -> None:
    admin = api.as_("admin")
    image_id = cached_image(api)
    assert admin.delete(f"/v2/cache/{UNKNOWN}").status_code == 404
    assert api.as_("bob").delete(f"/v2/cache/{image_id}").status_code == 404  # bob doesn't see it
    assert admin.delete(f"/v2/cache/{image_id}").status_code == 204
    assert state(api)["cached"] == []
    assert admin.delete(f"/v2/cache/{image_id}").status_code == 204


@pytest.mark.parametrize(
    ("target", "status", "left"),
    [
        (None, 204, (0, 0)),
        ("", 204, (0, 0)),
        ("both", 204, (0, 0)),
        ("cache", 204, (0, 1)),
        ("Queue", 204, (1, 0)),
        ("invalid", 400, (1, 1)),
    ],
)
def test_clearing(
    tmp_path: Path, remote: Remote, target: str | None, status: int, left: tuple[int, int]
) -> None:
    cache = ImageCache(tmp_path / "cache")
    api = Api(write_users(tmp_path / "users"), stores={"remote": remote}, cache=cache)
    cached_image(api)
    assert api.as_("admin").put(f"/v2/cache/{api.image(data=DATA)}").status_code == 202  # nobody fetches
    headers = {} if target is None else {"x-image-cache-clear-target": target}
    assert api.as_("admin").delete("/v2/cache", headers=headers).status_code == status
    now = state(api)
    assert (len(now["cached"]), len(now["queued"])) == left
    api.service.close()


def test_nodes(api: Api) -> None:
    admin = api.as_("admin")
    image_id = api.image(data=DATA)
    assert admin.get(f"/v2/cache/nodes/{image_id}").json == []
    now = datetime.now(UTC)
    registry = api.service._context.registry
    registry.put_cached(CachedImage("http://there:9292", image_id, len(DATA), 0, now, now))
    assert api.as_("alice").get(f"/v2/images/{image_id}/file").content == DATA
    nodes = ["http://here:9292", "http://there:9292"]
    wait_for("told", lambda: registry.cached_nodes(image_id) == tuple(nodes))
    assert admin.get(f"/v2/cache/nodes/{image_id}").json == nodes
    assert admin.delete("/v2/cache").status_code == 204
    assert admin.get(f"/v2/cache/nodes/{image_id}").json == nodes[1:]
    assert registry.cached_nodes(image_id) == ("http://there:9292",)
    assert admin.get(f"/v2/cache/nodes/{UNKNOWN}").status_code == 404


def test_clean_and_prune(api: Api, tmp_path: Path) -> None:
    admin = api.as_("admin")
    image_id = cached_image(api)
    clean = admin.post("/v2/cache/clean")
    assert (clean.status_code, clean.content) == (200, b"")
    assert clean.headers["content-type"] == "text/html; charset=UTF-8"
    pruned = admin.post("/v2/cache/prune")
    assert (pruned.status_code, pruned.json) == (200, {"total_files_pruned": 0, "total_bytes_pruned": 0})
    assert state(api)["cached"] == [image_id]
    # As when another node deleted the image.
    registry = api.service._context.registry
    registry.delete(image_id, expect=record(api, image_id).version)
    assert admin.post("/v2/cache/clean").status_code == 200
    assert state(api)["cached"] == []


def record(api: Api, image_id: str) -> Image:
    return api.service._context.registry.get(image_id, ADMIN)


def test_deleting_an_image_drops_it(api: Api) -> None:
    image_id = cached_image(api)
    assert api.as_("alice").delete(f"/v2/images/{image_id}").status_code == 204
    assert state(api)["cached"] == []
    assert api.as_("alice").get(f"/v2/images/{image_id}/file").status_code == 404


def test_cve_2013_4428_a_cached_image_needs_the_right_to_download(api: Api) -> None:
    """download_image and visibility are asked although the data is at hand."""
    private = cached_image(api)
    assert api.as_("bob").get(f"/v2/images/{private}/file").status_code == 404
    assert api.as_("reader").get(f"/v2/images/{private}/file").status_code == 403
    part = api.as_("reader").get(f"/v2/images/{private}/file", headers={"Range": "bytes=0-9"})
    assert part.status_code == 403
    assert api.as_("reader").simulate_head(f"/v2/images/{private}/file").status_code == 403


def test_a_deactivated_image_isnt_served_from_the_cache(api: Api) -> None:
    image_id = cached_image(api)
    image = record(api, image_id)
    registry = api.service._context.registry
    registry.update(replace(image, status=Status.DEACTIVATED), expect=image.version)
    assert api.as_("alice").get(f"/v2/images/{image_id}/file").status_code == 403
    assert api.as_("admin").put(f"/v2/cache/{image_id}").status_code == 400


def test_the_queue_waits_for_the_keeper(tmp_path: Path, remote: Remote) -> None:
    """What was queued before a restart is fetched after it; what is gone by then isn't."""
    cache = ImageCache(tmp_path / "cache")
    api = Api(write_users(tmp_path / "users"), stores={"remote": remote}, cache=cache)
    kept, gone = api.image(data=DATA), api.image(data=DATA)
    for image_id in (kept, gone):
        assert api.as_("admin").put(f"/v2/cache/{image_id}").status_code == 202
    assert state(api) == {"cached": [], "queued": [kept, gone]}
    registry = api.service._context.registry
    registry.delete(gone, expect=record(api, gone).version)
    with api.service.cache.kept(300):
        wait_for("fetched", lambda: state(api) == {"cached": [kept], "queued": []})
    api.service.close()


def test_parts_of_an_image_whose_store_only_reads_forward(tmp_path: Path) -> None:
    """The first part brings the whole into the cache, and what follows comes from there."""

    class Forward(Remote):
        capabilities = Remote.capabilities & ~Cap.RANGE

    remote = Forward({})
    for cache in (None, ImageCache(tmp_path / "cache")):
        api = Api(write_users(tmp_path / "users"), stores={"remote": remote}, cache=cache)
        remote.reads = 0
        image_id = api.image(data=DATA)
        for first in (2_000_000, 5):
            part = api.as_("alice").get(
                f"/v2/images/{image_id}/file", headers={"Range": f"bytes={first}-{first + 9}"}
            )
            assert (part.status_code, part.content) == (206, DATA[first : first + 10])
        assert remote.reads == (2 if cache is None else 1)
        api.service.close()
