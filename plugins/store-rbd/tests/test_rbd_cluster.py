"""What only a Ceph with a manager and with keys shows: full pools, free space, users."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from glancelike_store_rbd import RbdStore

from glancelike.errors import BlobInUse, BlobNotFound, ConfigError, StoreDenied, StoreError, StoreFull
from glancelike.model import utcnow
from glancelike.testing.sources import EndlessSource, payload
from tests.ceph_server import CephServer, missing
from tests.server_fixtures import Api, write_users
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(
    missing(manager=True) is not None, reason=f"no Ceph with a manager: {missing(manager=True)}"
)
MIB = 1 << 20
KEEPER = [("mon", "profile rbd"), ("osd", "profile rbd pool=images, profile rbd pool=thick")]


@pytest.fixture(scope="module", name="ceph")
def ceph_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephServer]:
    quick = {"mgr stats period": "1", "mon tick interval": "1"}
    server = CephServer(tmp_path_factory.mktemp("ceph"), manager=True, cephx=True, more=quick)
    try:
        server.make_pool("images")
        server.make_pool("thick")
        yield server
    finally:
        server.stop()


def as_user(ceph: CephServer, name: str, caps: list[tuple[str, str]], key_of: str = "") -> Path:
    """Give a user a key, and return a configuration that names its keyring."""
    keyring = ceph.directory / f"{name}.keyring"
    ceph.add_user(f"client.{name}", keyring, caps)
    if key_of:
        ceph.add_user(f"client.{key_of}", keyring, caps)
        keyring.write_text(keyring.read_text().replace(f"[client.{key_of}]", f"[client.{name}]"))
    conf = ceph.directory / f"{name}.conf"
    conf.write_text(f"{ceph.conf.read_text()}\n[client.{name}]\nkeyring = {keyring}\n")
    return conf


@contextmanager
def opened(conf: Path, user: str = "keeper", **more: object) -> Iterator[RbdStore]:
    settings = {"rbd_store_ceph_conf": str(conf), "rbd_store_user": user, "rbd_store_timeout": 20, **more}
    store = RbdStore(settings)
    store.open()
    with closing(store):
        yield store


@pytest.fixture(name="conf")
def conf_fixture(ceph: CephServer) -> Path:
    return as_user(ceph, "keeper", KEEPER)


@pytest.fixture(name="store")
def store_fixture(ceph: CephServer, conf: Path) -> Iterator[RbdStore]:
    """Give a store whose pool has no quota at the end, and nothing in it."""
    with opened(conf) as store:
        yield store
        room(ceph)
        for info in store.list():
            store.delete(info.key)
        store.sweep(utcnow() + timedelta(minutes=1))
        assert store.pool.names() == []
        assert data_of(store) == [], "space is lost"


def data_of(store: RbdStore) -> list[str]:
    """List the objects of the pool that hold images' data, those of removed images, too."""
    return [found.key for found in store.pool.ioctx.list_objects() if found.key.startswith("rbd_data")]


def is_full(ceph: CephServer) -> bool:
    pools = ceph.ceph("osd", "pool", "ls", "detail")
    return any("full" in pool["flags_names"].split(",") for pool in pools if pool["pool_name"] == "images")


def fill(ceph: CephServer, size: int) -> None:
    """Have the pool, with what is in it, reach its quota."""
    ceph.ceph("osd", "pool", "set-quota", "images", "max_bytes", str(size))
    wait_for("the pool isn't full", lambda: is_full(ceph))


def room(ceph: CephServer) -> None:
    ceph.ceph("osd", "pool", "set-quota", "images", "max_bytes", "0")
    wait_for("the pool stays full", lambda: not is_full(ceph))


def put(store: RbdStore, data: bytes) -> str:
    key = str(uuid.uuid4())
    store.write(key, io.BytesIO(data), size=len(data))
    return key


def all_of(store: RbdStore, key: str) -> bytes:
    return b"".join(store.read(key))


@pytest.mark.parametrize("known", [True, False], ids=["sized", "unsized"])
def test_a_quota_that_is_reached_in_a_write(ceph: CephServer, store: RbdStore, known: bool) -> None:
    size, key, seen = 48 * MIB, str(uuid.uuid4()), []

    def wait(at: int) -> None:
        # Until then Ceph lets everything in: it counts with a delay.
        if at >= 20 * MIB and not seen:
            seen.append(at)
            fill(ceph, 8 * MIB)

    with pytest.raises(StoreFull):
        store.write(key, EndlessSource(size, hook=wait), size=size if known else None)
    assert seen, "the write ended before the pool was full"
    with pytest.raises(BlobNotFound):
        store.stat(key)
    assert store.pool.names() == [], "a full pool keeps what failed"
    room(ceph)
    assert store.write(key, EndlessSource(size), size=size if known else None).size == size
    assert store.stat(key).size == size


def test_a_full_pool_can_be_emptied(ceph: CephServer, store: RbdStore) -> None:
    data = payload(9 * MIB)
    kept, parent, doomed = (put(store, data) for _ in range(3))
    ceph.rbd("clone", f"images/{parent}@snap", "thick/disk")
    fill(ceph, 4 * MIB)
    with pytest.raises(StoreFull):
        put(store, b"x")
    with pytest.raises(StoreFull):
        store.copy(kept, "copied")
    with pytest.raises(BlobInUse):
        store.delete(parent)
    store.delete(doomed)
    with pytest.raises(BlobNotFound):
        store.stat(doomed)
    assert all_of(store, kept) == all_of(store, parent) == data
    assert sorted(store.pool.names()) == sorted([kept, parent])
    assert list(store.pool.trash(utcnow() + timedelta(minutes=1))) == []
    ceph.rbd("rm", "--no-progress", "thick/disk")
    store.delete(kept)
    store.delete(parent)
    assert data_of(store) == [], "what was deleted still takes space"
    room(ceph)
    assert all_of(store, put(store, b"fits again")) == b"fits again"


def test_a_removal_cut_short_in_a_full_pool_is_swept(
    ceph: CephServer, store: RbdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, theirs = put(store, payload(9 * MIB)), put(store, b"somebody moved it there")
    ceph.rbd("trash", "mv", f"images/{theirs}")
    fill(ceph, 4 * MIB)

    def killed(_image_id: str) -> None:
        raise StoreError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(store.pool, "purge", killed)
        store.delete(key)
    with pytest.raises(BlobNotFound):
        store.stat(key)
    assert store.sweep(utcnow() - timedelta(minutes=5)) == 0
    assert store.sweep(utcnow() + timedelta(minutes=1)) == 1
    left = json.loads(ceph.rbd("trash", "ls", "images", "--format", "json"))
    assert [entry["name"] for entry in left] == [theirs], "the trash of others isn't this store's"
    ceph.rbd("trash", "restore", f"images/{left[0]['id']}")
    assert all_of(store, theirs) == b"somebody moved it there"


def test_a_full_cluster_is_a_full_store(ceph: CephServer, store: RbdStore) -> None:
    key = put(store, payload(40 * MIB))
    ratios = {"nearfull": "0.001", "backfillfull": "0.002", "full": "0.01"}  # of 2 GiB
    normal = {"full": "0.95", "backfillfull": "0.9", "nearfull": "0.85"}
    try:
        for name, ratio in ratios.items():
            ceph.ceph("osd", f"set-{name}-ratio", ratio)
        wait_for("the cluster isn't full", lambda: is_full(ceph))
        with pytest.raises(StoreFull):
            put(store, b"x")
        store.delete(key)
    finally:
        for name, ratio in normal.items():
            ceph.ceph("osd", f"set-{name}-ratio", ratio)
    wait_for("the cluster stays full", lambda: not is_full(ceph))


def test_the_api_answers_413(ceph: CephServer, store: RbdStore, conf: Path, tmp_path: Path) -> None:
    mounted = RbdStore({"rbd_store_ceph_conf": str(conf), "rbd_store_user": "keeper"})
    api = Api(write_users(tmp_path / "users"), {"ceph": mounted})
    with closing(api.service):
        first = api.image("alice", payload(9 * MIB), name="first")
        fill(ceph, 4 * MIB)
        second, alice = api.image("alice", name="second"), api.as_("alice")
        path, how = f"/v2/images/{second}/file", {"Content-Type": "application/octet-stream"}
        assert alice.put(path, body=b"data", headers=how).status_code == 413
        assert alice.get(f"/v2/images/{second}").json["status"] == "queued"
        assert alice.delete(f"/v2/images/{first}").status_code == 204
        room(ceph)
        assert alice.put(path, body=b"data", headers=how).status_code == 204
        assert alice.get(path).content == b"data"


def test_free_space(ceph: CephServer, store: RbdStore) -> None:
    wait_for("nobody counts what is free", lambda: store.usage().free is not None)
    before = store.usage()
    key = put(store, payload(40 * MIB))
    assert before.free is not None

    def counted() -> bool:
        return (store.usage().free or 0) <= (before.free or 0) - 30 * MIB

    wait_for("what is written doesn't count", counted)
    assert store.usage().used == before.used + 40 * MIB
    assert store.probe()["free space"] == "ok"
    store.delete(key)


def test_thick_images_hold_their_zeros(ceph: CephServer, conf: Path) -> None:
    data = payload(100_000) + bytes(40 * MIB)
    for thin, least, most in ((True, 0, 16 * MIB), (False, 40 * MIB, 48 * MIB)):
        with opened(conf, rbd_store_pool="thick", rbd_thin_provisioning=thin) as store:
            key = put(store, data)
            usage = json.loads(ceph.rbd("du", f"thick/{key}@snap", "--format", "json"))["images"][0]
            assert least <= usage["used_size"] <= most
            assert all_of(store, key) == data
            store.delete(key)


def test_users_and_their_keys(ceph: CephServer, conf: Path) -> None:
    wrong = as_user(ceph, "wrong", KEEPER, key_of="keeper")
    strangers = as_user(ceph, "stranger", [("mon", "profile rbd"), ("osd", "profile rbd pool=thick")])
    without = ceph.directory / "without.conf"
    without.write_text(conf.read_text().replace("keeper.keyring", "no.keyring"))
    for kind, said, user, file in (
        (StoreDenied, "rbd_store_user 'wrong': the cluster refuses", "wrong", wrong),
        (StoreDenied, "permission", "stranger", strangers),
        (ConfigError, "rbd_store_user 'keeper': no monitor is found, or no keyring", "keeper", without),
        (StoreDenied, "rbd_store_user 'unknown'", "unknown", conf),
    ):
        with pytest.raises(kind, match=said) as caught, opened(file, user):
            pass
        assert "key =" not in str(caught.value)
    reader = as_user(ceph, "reader", [("mon", "profile rbd"), ("osd", "profile rbd-read-only pool=images")])
    with opened(conf) as store, opened(reader, "reader") as only:
        key = put(store, b"to be read")
        assert all_of(only, key) == b"to be read"
        for refused in (lambda: put(only, b"x"), lambda: only.delete(key)):
            with pytest.raises(StoreDenied):
                refused()
        assert all_of(store, key) == b"to be read"
        store.delete(key)
