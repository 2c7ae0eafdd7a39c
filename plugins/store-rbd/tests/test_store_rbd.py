"""The RBD store against the store contract, on a real Ceph."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from glancelike_store_rbd import RbdStore

from glancelike.testing import StoreConformance
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
    spawnable = True
    flat_size = 128 << 20
    patience = 60.0
    ceph: CephServer

    @pytest.fixture(autouse=True)
    def _ceph(self, ceph: CephServer) -> None:
        self.ceph = ceph

    def make_store(self) -> RbdStore:
        return RbdStore(settings(self.ceph))

    def make_peer(self) -> RbdStore:
        return RbdStore(settings(self.ceph, rbd_store_pool="other"))
