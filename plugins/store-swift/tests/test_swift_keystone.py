"""The store behind a real Keystone: password, application credential, two projects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from glancelike_store_swift import SwiftStore
from swift_servers import MIB, SmallSwift, inside, settings

from glancelike.errors import ConfigError, StoreDenied, Unsupported
from glancelike.stores.base import Store
from glancelike.testing import StoreConformance
from glancelike.testing.sources import WatchedSource, payload
from tests.keystone_fixtures import DEFAULT_DOMAIN, PASSWORD, REGION, Keystone

DATA = payload(3 * MIB)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    server = Keystone(tmp_path_factory.mktemp("keystone"))
    for project in ("pictures", "others"):
        server.grant("keeper", project, "member")
    server.grant("visitor", "others", "member")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cloud(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallSwift]:
    server = SmallSwift(tmp_path_factory.mktemp("swift"), keystone=(keystone.url, PASSWORD))
    keystone.add_endpoint("object-store", f"{server.url}/v1/AUTH_%(project_id)s")
    yield server
    server.stop()


def login(keystone: Keystone, user: str = "pictures:keeper", **more: Any) -> dict[str, Any]:
    return settings(
        keystone.url,
        swift_store_auth_version="3",
        swift_store_user=user,
        swift_store_key=PASSWORD,
        swift_store_region=REGION,
        **more,
    )


@contextmanager
def opened(how: dict[str, Any]) -> Iterator[SwiftStore]:
    store = SwiftStore(how)
    store.open()
    with closing(store):
        yield store


class TestSwiftStoreWithKeystone(StoreConformance):
    """Some of the kit: all of it would only repeat what v1 authentication shows."""

    variants = ("bare",)

    @pytest.fixture(autouse=True)
    def _server(self, keystone: Keystone, cloud: SmallSwift) -> None:
        self.keystone = keystone

    def make_store(self) -> Store:
        return SwiftStore(login(self.keystone))


CHOSEN = (
    *("test_secrets", "test_presign", "test_copy", "test_race", "test_parts_in_any"),
    *("test_usage", "test_sweep"),
)
for _name in dir(TestSwiftStoreWithKeystone):
    if _name.startswith("test_") and not _name.startswith(CHOSEN):
        setattr(TestSwiftStoreWithKeystone, _name, None)


def test_application_credential(keystone: Keystone, cloud: SmallSwift) -> None:
    user = keystone.grant("keeper", "pictures", "member")
    adapter = keystone.adapter(keystone.session("keeper", "pictures"))
    body = {"application_credential": {"name": "images"}}
    made = adapter.post(f"/users/{user}/application_credentials", json=body).json()["application_credential"]
    how = login(
        keystone,
        swift_store_application_credential_id=made["id"],
        swift_store_application_credential_secret=made["secret"],
    )
    with opened({**how, "swift_store_user": None, "swift_store_key": None}) as store:
        store.write("by-credential", WatchedSource(DATA), size=len(DATA))
        assert b"".join(store.read("by-credential")) == DATA
        store.delete("by-credential")
    with pytest.raises(StoreDenied):
        SwiftStore({**how, "swift_store_application_credential_secret": "wrong"}).open()


def test_domains_by_id_and_by_name(keystone: Keystone, cloud: SmallSwift) -> None:
    by_id = {f"swift_store_{whose}_domain_id": DEFAULT_DOMAIN for whose in ("user", "project")}
    by_id |= {f"swift_store_{whose}_domain_name": "nonsense" for whose in ("user", "project")}
    with opened(login(keystone, **by_id)):
        pass
    for change, kind in (
        ({"swift_store_user_domain_name": "nonsense"}, StoreDenied),
        ({"swift_store_key": "wrong"}, StoreDenied),
        ({"swift_store_region": "nowhere"}, ConfigError),
        ({"swift_store_service_type": "nothing"}, ConfigError),
    ):
        with pytest.raises(kind) as caught:
            SwiftStore({**login(keystone), **change}).open()
        assert PASSWORD not in str(caught.value)


def test_a_revoked_token_is_renewed(keystone: Keystone, cloud: SmallSwift) -> None:
    with opened(login(keystone)) as store:
        store.write("revoked", WatchedSource(DATA), size=len(DATA))
        token = store._client.auth.access().token
        keystone.admin.delete("/auth/tokens", headers={"X-Subject-Token": token})
        # Swift remembers tokens that were good; what it has never seen it refuses.
        store._client.auth._access = type(store._client.auth.access())(store._objects.url, "never seen")
        assert b"".join(store.read("revoked")) == DATA
        assert store._client.auth.access().token not in (token, "never seen")
        store.delete("revoked")


def test_copies_between_projects(keystone: Keystone, cloud: SmallSwift, tmp_path: Path) -> None:
    with (
        opened(login(keystone)) as ours,
        opened(login(keystone, "others:visitor")) as theirs,
    ):
        theirs.write("theirs", WatchedSource(DATA), size=len(DATA))
        with pytest.raises(Unsupported):
            ours.copy("theirs", "ours", source=theirs)
        assert inside(ours) == []
        # The other project lets our user read.
        project = keystone.add_project("pictures")
        user = keystone.grant("keeper", "pictures", "member")
        theirs._objects.post_container("images", {"X-Container-Read": f"{project}:{user}"})
        assert ours.copy("theirs", "ours", source=theirs).size == len(DATA)
        theirs.delete("theirs")
        assert b"".join(ours.read("ours")) == DATA
        ours.delete("ours")


def test_images_in_the_accounts_of_projects(keystone: Keystone, cloud: SmallSwift) -> None:
    # The role that this Swift takes for that of reseller administrators.
    keystone.grant("reseller", "pictures", "admin")
    owner = keystone.add_project("others")
    how = login(keystone, "pictures:reseller", swift_store_multi_tenant=True)
    with opened(how) as store, opened(login(keystone, "others:visitor")) as theirs:
        key = f"{owner}/image"
        store.write(key, WatchedSource(DATA), size=len(DATA))
        assert list(theirs._objects.containers("images_image")) == ["images_image"]
        assert b"".join(store.read(key, offset=MIB)) == DATA[MIB:]
        assert store.copy(key, "copied").size == len(DATA)
        assert [info.key for info in store.list()] == ["copied", key]
        for each in (key, "copied"):
            store.delete(each)
        assert list(theirs._objects.containers("images_image")) == []
    with pytest.raises(StoreDenied, match="ResellerAdmin"):
        SwiftStore({**how, "swift_store_user": "pictures:keeper"}).open()
