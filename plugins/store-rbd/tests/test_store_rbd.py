"""The RBD store against the store contract, on a real Ceph."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from glancelike_store_rbd import RbdStore

from glancelike.errors import (
    BlobExists,
    BlobInUse,
    BlobNotFound,
    ConfigError,
    StoreFault,
    StoreUnavailable,
)
from glancelike.model import utcnow
from glancelike.testing import StoreConformance
from glancelike.testing.sources import EndlessSource, payload
from tests.ceph_server import CephServer, missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"no Ceph: {missing()}")


@pytest.fixture(scope="module", name="ceph")
def ceph_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephServer]:
    server = CephServer(tmp_path_factory.mktemp("ceph"), more={"osd client watch timeout": "5"})
    try:
        server.make_pool("images")
        server.make_pool("other")
        yield server
    finally:
        server.stop()


def settings(ceph: CephServer, **more: object) -> dict[str, object]:
    return {"rbd_store_ceph_conf": str(ceph.conf), "rbd_store_timeout": 30, **more}


class TestRbdStore(StoreConformance):
    variants = ("bare",)
    spawnable = True
    flat_size = 80 << 20  # more than may be held
    many_keys = 30  # an image takes a tenth of a second, and a list has no pages

    def backend(self) -> str:
        said = subprocess.run(["ceph", "--version"], check=True, capture_output=True, text=True).stdout
        return f"Ceph {said.split()[2]}"

    patience = 60.0
    ceph: CephServer

    @pytest.fixture(autouse=True)
    def _ceph(self, ceph: CephServer) -> None:
        self.ceph = ceph

    def make_store(self) -> RbdStore:
        return RbdStore(settings(self.ceph))

    def make_peer(self) -> RbdStore:
        return RbdStore(settings(self.ceph, rbd_store_pool="other"))


@pytest.fixture(name="store")
def store_fixture(ceph: CephServer) -> Iterator[RbdStore]:
    store = RbdStore(settings(ceph))
    store.open()
    yield store
    store.close()


def write(store: RbdStore, data: bytes) -> str:
    key = f"{uuid.uuid4()}"
    store.write(key, io.BytesIO(data), size=len(data))
    return key


def leftovers(store: RbdStore) -> list[str]:
    return [name for name in store.pool.names() if name.startswith(".")]


def test_zeros_take_no_space(ceph: CephServer, store: RbdStore) -> None:
    data = payload(100_000) + bytes(40 << 20) + payload(70_000)
    key = write(store, data)
    usage = json.loads(ceph.rbd("du", f"images/{key}@snap", "--format", "json"))["images"][0]
    assert usage["provisioned_size"] == len(data)
    assert usage["used_size"] <= 16 << 20  # two objects; without the holes it would be six
    assert b"".join(store.read(key)) == data
    store.delete(key)


# The boot sector of a guest that says B to QEMU's debug console, then resets its processor:
# mov al, 42h; out 0e9h, al; mov al, 0feh; out 64h, al; hlt.
BOOT_SECTOR = bytes.fromhex("b042e6e9b0fee664f4").ljust(510, b"\0") + b"\x55\xaa"


def test_a_clone_boots_and_keeps_its_parent(ceph: CephServer, store: RbdStore, tmp_path: Path) -> None:
    data = BOOT_SECTOR + payload((5 << 20) - len(BOOT_SECTOR))
    key = write(store, data)
    ceph.rbd("clone", f"images/{key}@snap", "other/disk")
    conf = f":conf={ceph.conf}"
    shown = subprocess.run(
        ["qemu-img", "info", "--output", "json", f"rbd:other/disk{conf}"],
        check=True,
        capture_output=True,
    )
    assert json.loads(shown.stdout)["virtual-size"] == len(data)
    out = tmp_path / "disk.raw"
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "raw", f"rbd:other/disk{conf}", out], check=True
    )
    assert out.read_bytes() == data
    assert boot(f"rbd:other/disk{conf}") == b"B"
    with pytest.raises(BlobInUse):
        store.delete(key)
    assert b"".join(store.read(key)) == data
    with store.pool.opened(key) as image:
        assert image.is_protected_snap("snap")
    ceph.rbd("rm", "--no-progress", "other/disk")
    store.delete(key)
    with pytest.raises(BlobNotFound):
        store.stat(key)
    assert leftovers(store) == []


def boot(disk: str) -> bytes:
    """Boot a guest from a disk, without KVM, and return what it says on the debug console."""
    return subprocess.run(
        [
            *(
                "qemu-system-x86_64",
                "-accel",
                "tcg",
                "-M",
                "pc",
                "-m",
                "16",
                "-nodefaults",
                "-no-user-config",
            ),
            *("-display", "none", "-no-reboot", "-debugcon", "stdio"),
            *("-drive", f"file={disk},format=raw,if=ide"),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    ).stdout[-1:]


def test_a_rename_cut_short_is_swept(store: RbdStore) -> None:
    """A process killed inside librbd's rename leaves an image with two names."""
    for name in leftovers(store):  # of the killed writers above
        store.pool.discard(name)
    key = str(uuid.uuid4())
    name = store.pool.create(1 << 20)
    with store.pool.opened(name, writable=True) as image:
        image.metadata_set("glancelike.name", key)
        image.create_snap("snap")
        image.protect_snap("snap")
    store.pool.ioctx.write_full(f"rbd_id.{key}", store.pool.ioctx.read(f"rbd_id.{name}"))
    assert key not in [info.key for info in store.list()]
    assert store.sweep(utcnow() + timedelta(minutes=1)) == 1
    assert leftovers(store) == []
    store.write(key, io.BytesIO(b"again"), size=5)
    store.delete(key)


def test_a_reader_never_sees_the_zeros_of_a_removed_blob(store: RbdStore) -> None:
    data = payload(12 << 20)
    key = write(store, data)
    blocks = store.read(key)
    assert data.startswith(next(blocks))
    store.delete(key)
    with pytest.raises(StoreFault, match="removed"):
        next(blocks)


def test_what_glance_is_still_writing_is_no_blob(store: RbdStore) -> None:
    key = str(uuid.uuid4())
    name = store.pool.create(1 << 20)
    store.pool.rename(name, key)
    with pytest.raises(BlobNotFound):
        store.stat(key)
    assert key not in [info.key for info in store.list()]
    with pytest.raises(BlobExists):
        store.write(key, io.BytesIO(b"x"), size=1)
    store.pool.discard(key)
    assert leftovers(store) == []


def test_a_dead_cluster_is_told_in_time(ceph: CephServer) -> None:
    store = RbdStore(settings(ceph, rbd_store_timeout=5))
    store.open()
    key = str(uuid.uuid4())

    def kill(at: int) -> None:
        if at >= 8 << 20 and not killed:
            ceph.stop("osd")
            killed.append(at)

    killed: list[int] = []
    try:
        with pytest.raises(StoreUnavailable):
            store.write(key, EndlessSource(64 << 20, hook=kill), size=64 << 20)
    finally:
        ceph.start()
        store.close()
    store = RbdStore(settings(ceph))
    store.open()
    with pytest.raises(BlobNotFound):
        store.stat(key)
    deadline = time.monotonic() + 90
    while leftovers(store):  # until the cluster has forgotten the client that was cut off
        assert time.monotonic() < deadline, leftovers(store)
        time.sleep(0.5)
        store.sweep(utcnow() + timedelta(minutes=1))
    store.close()


def test_configuration(ceph: CephServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for wrong, said in (
        ({"rbd_store_pool": "nopool"}, "rbd_store_pool 'nopool'"),
        ({"rbd_store_ceph_conf": "/nowhere/ceph.conf"}, "rbd_store_ceph_conf"),
    ):
        with pytest.raises(ConfigError, match=said):
            RbdStore(settings(ceph, **wrong)).open()
    with pytest.raises(ConfigError, match="power of two"):
        RbdStore({"rbd_store_chunk_size": 3})
    assert RbdStore.settings_from_uri("rbd://Vms?user=me&conf=/x.conf") == {
        "rbd_store_pool": "Vms",
        "rbd_store_user": "me",
        "rbd_store_ceph_conf": "/x.conf",
    }
    for uri in ("rbd://", "rbd://pool/path", "rbd://pool?secret=1"):
        with pytest.raises(ConfigError, match="written like"):
            RbdStore.settings_from_uri(uri)
    for name in ("rados", "rbd"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("glancelike_store_rbd.bindings.FOLDERS", (tmp_path,))
    with pytest.raises(ConfigError, match="install the packages python3-rados and python3-rbd"):
        RbdStore(settings(ceph)).open()


def test_locations_of_glance(ceph: CephServer) -> None:
    store = RbdStore(settings(ceph))
    store.open()
    try:
        fsid = store.public_properties()["fsid"]
        assert store.key_of_location(f"rbd://{fsid}/images/{fsid}/snap") == fsid
        assert store.key_of_location(f"rbd://{fsid}") == fsid, "as old Glances wrote it: of their own pool"
        for foreign in (
            f"rbd://{fsid}/other/a/snap",
            "rbd://x/images/a/snap",
            "rbd://",
            "rbd://a/b",
            "file:///a",
        ):
            assert store.key_of_location(foreign) is None
    finally:
        store.close()
