"""Manifests of manifests, spread containers, other people's manifests, slow peers, URIs."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from itertools import islice

import pytest
from glancelike_store_swift import SwiftStore
from glancelike_store_swift.objects import Cluster
from glancelike_store_swift.options import from_uri
from glancelike_store_swift.segments import Segments
from swift_proxy import FlakyProxy
from swift_servers import KEY, MIB, USER, SmallSwift, inside, settings

import glancelike
from glancelike.errors import BlobNotFound, ConfigError, Unsupported
from glancelike.model import utcnow
from glancelike.stores.base import Cap
from glancelike.testing.sources import EndlessSource, WatchedSource, payload
from glancelike.testing.store_child import Job

TIB = 1 << 40


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftStore]:
    """Give a store whose cluster allows three segments a manifest."""
    server = SmallSwift(tmp_path_factory.mktemp("narrow"), segments=3)
    store = SwiftStore(settings(server.auth_url, swift_store_large_object_chunk_size=1))
    store.open()
    yield store
    store.close()
    server.stop()


def read(store: SwiftStore, key: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join(store.read(key, offset=offset, length=length))


def test_manifests_of_manifests(narrow: SwiftStore) -> None:
    upload = narrow.begin("parts")
    parts = [payload(100_000, seed=number) for number in range(11)]
    for number, data in enumerate(parts, 1):
        narrow.put_part("parts", upload, number, WatchedSource(data), size=len(data))
    narrow.put_part("parts", upload, 12, WatchedSource(b""), size=0)
    whole = b"".join(parts)
    assert narrow.complete("parts", upload).size == narrow.stat("parts").size == len(whole)
    assert read(narrow, "parts") == whole
    assert read(narrow, "parts", 99_999, 500_000) == whole[99_999:599_999]
    assert narrow.copy("parts", "copied").size == len(whole)
    narrow.delete("parts")
    assert read(narrow, "copied") == whole
    narrow.delete("copied")
    assert inside(narrow) == []


def test_an_unknown_size_outgrows_its_manifest(narrow: SwiftStore) -> None:
    size = 17 * MIB + 1
    narrow.write("grown", EndlessSource(size), size=None)
    stored = [entry for entry in narrow._objects.list("images", ".segments/") if "/m0" not in entry.name]
    assert [entry.size for entry in stored] == [MIB, 2 * MIB, 4 * MIB, 8 * MIB, 2 * MIB + 1]
    block = payload(MIB)
    assert read(narrow, "grown", 5 * MIB - 10, 2 * MIB) == (block * 20)[5 * MIB - 10 : 7 * MIB - 10]
    narrow.sweep(utcnow() + timedelta(minutes=1))
    assert read(narrow, "grown", size - 1) == block[:1]
    narrow.delete("grown")
    assert inside(narrow) == []


def test_five_tebibytes_have_room(narrow: SwiftStore) -> None:
    settings = {**narrow.settings, "swift_store_large_object_chunk_size": 200}
    segments = Segments(narrow._objects, Cluster.of(None), settings)
    known = list(islice(segments.sizes(3 * TIB), 1000))
    assert sum(known) >= 3 * TIB, "a known size must fit into one manifest while the segments may grow"
    total, count = 0, 0
    for size in segments.sizes(None):
        total, count = total + size, count + 1
        if total >= 5 * TIB:
            break
    assert count <= 1000 * 1000, "more segments than a manifest of manifests has"
    assert max(islice(segments.sizes(None), 5000)) <= Cluster.of(None).max_file


def test_images_spread_over_containers(swift: SmallSwift) -> None:
    store = SwiftStore(settings(swift.auth_url, "spread", swift_store_multiple_containers_seed=2))
    store.open()
    data = payload(3 * MIB)
    keys = ["ab12", "ac34", "a", "a/deep", "ab56"]
    with closing(store):
        for key in keys:
            store.write(key, WatchedSource(data), size=len(data))
        assert set(store._containers) == {"spread_ab", "spread_ac", "spread_a", "spread_a_"}
        assert sorted(info.key for info in store.list()) == sorted(keys)
        assert [info.key for info in store.list("ab1")] == ["ab12"]
        assert store.usage().used >= len(keys) * len(data)
        store.copy("ab12", "zz")
        assert read(store, "zz") == data
        upload = store.begin("new")
        assert store.sweep(utcnow() + timedelta(minutes=1)) == 1
        with pytest.raises(BlobNotFound):
            store.parts("new", upload)
        for key in [*keys, "zz"]:
            store.delete(key)
        assert inside(store) == []


def test_a_foreign_manifest_takes_nothing_along(swift: SmallSwift) -> None:
    """A temporary URL for one key must not delete what lies under another."""
    store = SwiftStore(settings(swift.auth_url, "foreign"))
    store.open()
    with closing(store):
        data = payload(3 * MIB)
        store.write("victim", WatchedSource(data), size=len(data))
        [name, *_] = inside(store)
        upload = name.split("/")[1]
        lines = json.dumps([{"path": f"/foreign/{name}"}]).encode()
        meta = {"X-Object-Meta-Glancelike-Upload": upload}
        store._objects.put_manifest("foreign", "attack", lines, meta)
        store.delete("attack")
        assert read(store, "victim") == data
        store.delete("victim")


def test_large_objects_that_glance_wrote(swift: SmallSwift) -> None:
    store = SwiftStore(settings(swift.auth_url, "glance"))
    store.open()
    with closing(store):
        halves = [payload(MIB, seed=number) for number in (1, 2)]
        names = [f"static-0000{number}" for number in (1, 2)]
        for name, half in zip(names, halves, strict=True):
            store._objects.put("glance", name, half)
        lines = json.dumps([{"path": f"/glance/{name}"} for name in names]).encode()
        store._objects.put_manifest("glance", "static", lines, {})
        store._client.call("PUT", "glance/dynamic", headers={"X-Object-Manifest": "glance/static-"})
        for key in ("static", "dynamic"):
            assert store.stat(key).size == 2 * MIB
            assert read(store, key) == b"".join(halves)
            assert read(store, key, MIB - 1, 2) == b"".join(halves)[MIB - 1 : MIB + 1]
            store.copy(key, f"copy-of-{key}")
            store.delete(key)
            assert read(store, f"copy-of-{key}") == b"".join(halves)
        left = {info.key for info in store.list()}
        assert left >= set(names), "Glance's segments aren't this driver's to delete"


def test_a_store_without_a_key_signs_nothing(swift: SmallSwift) -> None:
    store = SwiftStore(settings(swift.auth_url, swift_store_temp_url_key=None))
    assert Cap.PRESIGN not in store.capabilities
    assert Cap.PRESIGN in SwiftStore.capabilities
    with pytest.raises(Unsupported):
        store.presign("key", "GET", 60)


def test_what_the_cluster_can_do(swift: SmallSwift) -> None:
    store = SwiftStore(settings(swift.auth_url))
    store.open()
    with closing(store):
        found = store.probe()
        assert found["PUT if there is none"] == found["listings at once"] == "ok"
        assert found["bulk delete"] == found["container quotas"] == found["temporary URLs"] == "ok"
        assert store.public_properties()["container"] == "images"
        shown = json.dumps(dict(store.public_properties()))
        secrets = [store.settings[opt.dest] for opt in store.options if opt.secret]
        assert not [secret for secret in secrets if secret and secret in shown]
        assert not [name for name in inside(store) if "probe" in name]


@pytest.mark.slow
def test_memory_is_flat_when_swift_is_slow(swift: SmallSwift) -> None:
    size = 32 * MIB
    with FlakyProxy(swift.url) as proxy:
        proxy.rate = 24 * MIB
        job = Job("flat", SwiftStore, settings(f"{proxy.url}/auth/v1.0", "slow"), "slow", size)
        child = subprocess.run(
            [sys.executable, "-m", "glancelike.testing.store_child"],
            input=pickle.dumps(job),
            capture_output=True,
            timeout=280,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            check=False,
        )
    assert child.returncode == 0, child.stderr.decode()
    grown = json.loads(child.stdout)
    assert grown["count"] == size
    assert max(grown[what] for what in ("written", "read")) < 24 * MIB


def test_images_in_swift_by_uri(swift: SmallSwift, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST_AUTH", swift.auth_url)
    monkeypatch.setenv("ST_USER", USER)
    monkeypatch.setenv("ST_KEY", KEY)
    uri = "swift://library?auth_version=1&create_container_on_put=true&large_object_size=1"
    me = glancelike.Caller.administrator("my-project")
    data = payload(3 * MIB)
    with glancelike.open_service("memory://", stores={"objects": uri}) as images:
        image = images.create_image(me, {"name": "disk", "disk_format": "raw", "container_format": "bare"})
        image = images.upload(me, image.id, io.BytesIO(data))
        assert (image.status, image.size) == ("active", len(data))
        with images.open_image(me, image.id) as file:
            file.seek(-5, io.SEEK_END)
            assert file.read() == data[-5:]
        images.delete_image(me, image.id)
    store = SwiftStore(settings(swift.auth_url, "library"))
    store.open()
    with closing(store):
        assert [*store.list(), *inside(store)] == []


def test_uris() -> None:
    environment = {
        "OS_AUTH_URL": "http://keystone/v3",
        "OS_USERNAME": "nova",
        "OS_PROJECT_NAME": "service",
        "OS_PASSWORD": "pass phrase",
        "OS_REGION_NAME": "north",
    }
    query = "large_object_size=7&create_container_on_put=true&region=south"
    found = from_uri(f"swift://pictures?{query}", environment)
    assert found == {
        "swift_store_container": "pictures",
        "swift_store_large_object_size": 7,
        "swift_store_create_container_on_put": True,
        "swift_store_region": "south",
        "swift_store_auth_address": "http://keystone/v3",
        "swift_store_user": "service:nova",
        "swift_store_key": "pass phrase",
    }
    assert from_uri("swift://c", {"ST_USER": "a:b", "ST_KEY": "k"})["swift_store_user"] == "a:b"
    for wrong in (
        "swift://",
        "swift://user:secret@container",
        "swift://container/blob",
        "swift://c?key=secret",
        "swift://c?colour=red",
        "swift://c?large_object_size=large",
    ):
        with pytest.raises(ConfigError) as caught:
            from_uri(wrong, {})
        assert "secret@" not in str(caught.value)
        assert "=secret" not in str(caught.value)
