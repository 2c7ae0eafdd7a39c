"""Several stores by the Image API: told, chosen, preferred, left."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import falcon.testing
import pytest

from glancelike.errors import BlobInUse
from glancelike.model import Caller
from glancelike.service import ImportRequest
from glancelike.stores.file import FileStore
from glancelike.stores.http import HttpStore
from glancelike.stores.memory import MemoryStore
from glancelike.vfs import STAGING, MountOptions
from tests.server_fixtures import Api, write_users

OCTETS = {"Content-Type": "application/octet-stream"}


class Clinging(MemoryStore):
    """A store some of whose blobs are in use."""

    clings = False

    def delete(self, key: str) -> None:
        if self.clings:
            raise BlobInUse("a volume is made of it")
        super().delete(key)


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Api]:
    """The Image API over stores ram (default), disk, big and web."""
    made = Api(
        write_users(tmp_path / "users"),
        stores={
            "ram": Clinging({}),
            "disk": FileStore({"filesystem_store_datadir": str(tmp_path / "disk")}),
            "frozen": MemoryStore({}),
            "web": HttpStore({}),
        },
        store_options={
            "disk": MountOptions("on disk", weight=5),
            "frozen": MountOptions(read_only=True),
        },
        enabled_import_methods=("glance-direct", "copy-image"),
    )
    yield made
    made.service.close()


def in_stores(many: Api, *stores: str, data: bytes = b"data") -> str:
    """Make an active image of alice's with a copy in each of the stores."""
    image_id = many.image(data=data)
    caller = Caller.administrator()
    others = tuple(store for store in stores if store != "ram")
    many.service.import_image(caller, image_id, ImportRequest("copy-image", stores=others))
    assert many.service.run_tasks() == 1
    return image_id


def stores_of(many: Api, image_id: str) -> str:
    return str(many.as_("alice").get(f"/v2/images/{image_id}").json["stores"])


def test_the_stores_are_told(many: Api) -> None:
    told = many.as_("reader").get("/v2/info/stores")
    assert told.json == {
        "stores": [
            {"id": "ram", "default": "true"},
            {"id": "disk", "description": "on disk"},
            {"id": "frozen", "read-only": "true"},
            {"id": "web", "read-only": "true"},
        ]
    }


def test_details_are_for_administrators(many: Api, tmp_path: Path) -> None:
    assert many.as_("alice").get("/v2/info/stores/detail").status_code == 403
    told = {store["id"]: store for store in many.as_("admin").get("/v2/info/stores/detail").json["stores"]}
    assert set(told) == {"ram", "disk", "frozen", "web"}
    assert told["disk"] == {
        "id": "disk",
        "description": "on disk",
        "type": "file",
        "weight": 5,
        "properties": {
            "data_dir": str(tmp_path / "disk"),
            "chunk_size": 1 << 20,
            "thin_provisioning": True,
        },
    }
    assert (told["web"]["type"], told["web"]["read-only"], told["web"]["properties"]) == ("http", "true", {})


def test_a_new_image_tells_the_ways_in(many: Api) -> None:
    made = many.as_("alice").post("/v2/images", json={"name": "x"})
    assert made.headers["OpenStack-image-store-ids"] == "ram,disk,frozen,web"
    assert made.headers["OpenStack-image-import-methods"] == "glance-direct,copy-image"


@pytest.mark.parametrize(
    ("store", "status"), [("disk", 204), ("nowhere", 400), (STAGING, 400), ("frozen", 400), ("web", 400)]
)
def test_an_upload_goes_to_the_store_it_names(many: Api, store: str, status: int) -> None:
    image_id = many.image()
    client = many.as_("alice")
    put = client.put(
        f"/v2/images/{image_id}/file", body=b"abc", headers={**OCTETS, "X-Image-Meta-Store": store}
    )
    assert put.status_code == status
    shown = client.get(f"/v2/images/{image_id}").json
    if status == 204:
        assert (shown["status"], shown["stores"]) == ("active", store)
    else:
        assert shown["status"] == "queued"
        assert store in put.text


def test_the_store_with_the_highest_weight_is_read_first(many: Api) -> None:
    image_id = in_stores(many, "ram", "disk")
    assert stores_of(many, image_id) == "disk,ram"
    download = many.service.read(Caller.administrator(), image_id)
    assert [location.store for location in download.image.locations] == ["disk", "ram"]


def test_prefer_names_the_store_to_read_from(many: Api) -> None:
    image_id = in_stores(many, "ram", "disk")
    client = many.as_("alice")
    read = [
        many.service.read(Caller.administrator(), image_id, prefer=prefer).path is None
        for prefer in ((), ("ram",), ("disk",), ("frozen",))
    ]
    assert read == [False, True, False, False]
    for query in ("prefer=ram", "prefer=ram,disk", "prefer=frozen", "prefer=", "prefer=%20ram%20,"):
        got = client.get(f"/v2/images/{image_id}/file", query_string=query)
        assert (got.status_code, got.content) == (200, b"data"), query
    for query in ("prefer=nowhere", "prefer=ram,nowhere", f"prefer={STAGING}"):
        assert client.get(f"/v2/images/{image_id}/file", query_string=query).status_code == 400, query


def remove(client: falcon.testing.TestClient, store: str, image_id: str) -> int:
    return client.delete(f"/v2/stores/{store}/{image_id}").status_code


def test_a_copy_is_deleted_from_one_store(many: Api, tmp_path: Path) -> None:
    image_id = in_stores(many, "ram", "disk")
    admin = many.as_("admin")
    assert len(list((tmp_path / "disk").glob(f"{image_id}*"))) == 1
    assert remove(many.as_("alice"), "disk", image_id) == 403
    assert remove(many.as_("bob"), "disk", image_id) == 404
    assert remove(admin, "nowhere", image_id) == 409
    assert remove(admin, "frozen", image_id) == 404
    assert remove(admin, "disk", "0a0a0a0a-0000-4000-8000-000000000000") == 404
    assert stores_of(many, image_id) == "disk,ram"
    assert remove(admin, "disk", image_id) == 204
    assert stores_of(many, image_id) == "ram"
    assert list((tmp_path / "disk").glob(f"{image_id}*")) == []
    assert remove(admin, "ram", image_id) == 403
    assert many.as_("alice").get(f"/v2/images/{image_id}/file").content == b"data"


def test_only_an_active_image_leaves_a_store(many: Api) -> None:
    assert remove(many.as_("admin"), "ram", many.image()) == 409


def test_of_two_deletes_at_once_one_leaves_the_last_copy(many: Api) -> None:
    image_id = in_stores(many, "ram", "disk")
    admin = many.as_("admin")
    statuses: list[int] = []
    both = [
        threading.Thread(target=lambda store=store: statuses.append(remove(admin, store, image_id)))
        for store in ("ram", "disk")
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(statuses) == [204, 403]
    assert many.as_("alice").get(f"/v2/images/{image_id}/file").content == b"data"


def test_what_is_in_use_stays(many: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = in_stores(many, "ram", "disk")
    monkeypatch.setattr(Clinging, "clings", True)
    answer = many.as_("admin").delete(f"/v2/stores/ram/{image_id}")
    assert (answer.status_code, "in use" in answer.text or "made of it" in answer.text) == (409, True)
    assert stores_of(many, image_id) == "disk,ram"
    assert b"".join(many.service.read(Caller.administrator(), image_id, prefer=("ram",)).chunks()) == b"data"


def test_staged_data_lies_where_nobody_looks_and_gc_finds_what_is_left(tmp_path: Path) -> None:
    made = Api(write_users(tmp_path / "users"), stores={"disk": f"file://{tmp_path}/disk"})
    with made.service as service:
        image_id = made.image()
        client = made.as_("alice")
        put = client.put(f"/v2/images/{image_id}/stage", body=b"staged", headers=OCTETS)
        assert put.status_code == 204
        (blob,) = (tmp_path / "disk" / ".staging").glob(f"{image_id}*")
        assert blob.read_bytes() == b"staged"
        assert list(service.gc(grace_seconds=0)) == []
        assert "stores" not in client.get(f"/v2/images/{image_id}").json
        stray = blob.with_name(f"{image_id}-0123456789ab")
        stray.write_bytes(b"left by a dead process")
        (found,) = service.gc(grace_seconds=0)
        assert (found.store, found.key, found.removed) == (STAGING, stray.name, True)
        assert not stray.exists()
        assert blob.exists()


def test_a_read_only_store_keeps_what_it_has(tmp_path: Path) -> None:
    shared = MemoryStore({})
    made = Api(
        write_users(tmp_path / "users"),
        stores={"own": MemoryStore({}), "shared": shared},
        store_options={"shared": MountOptions(read_only=True)},
    )
    with made.service as service:
        key = "11111111-1111-4111-8111-111111111111-0123456789ab"
        shared.write(key, io.BytesIO(b"x"), size=1)
        assert list(service.gc(grace_seconds=0)) == []
        assert shared.stat(key).size == 1
