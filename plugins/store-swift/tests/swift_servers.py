"""Swift as the tests need it: small limits, quotas, an account a process may fill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glancelike_store_swift import SwiftStore

from tests.swift_server import SwiftServer

# Not "testing": that is in the paths of the traces in which secrets are looked for.
USER, KEY, ACCOUNT = "other:stranger", "stranging", "AUTH_other"
RESELLER, RESELLER_KEY = "boss:boss", "bossing"
TEMP_URL_KEY = "a key that signs URLs"
MIB = 1 << 20


class SmallSwift(SwiftServer):
    """A Swift with quotas, few segments a manifest, and tokens that it can forget."""

    token_life = 86400  # seconds

    def __init__(self, directory: Path, *, segments: int = 1000, **how: Any) -> None:
        self._segments = segments
        super().__init__(directory, **how)

    def _configure(self, keystone: tuple[str, str] | None) -> None:
        super()._configure(keystone)
        file = self._etc / "proxy.conf"
        text = file.read_text()
        text = text.replace(" copy slo ", " copy container-quotas account-quotas slo ")
        text = text.replace("[filter:slo]\n", f"[filter:slo]\nmax_manifest_segments = {self._segments}\n")
        text = text.replace("[filter:tempauth]\n", f"[filter:tempauth]\ntoken_life = {self.token_life}\n")
        text = text.replace(
            "user_other_stranger",
            f"user_{RESELLER.replace(':', '_')} = {RESELLER_KEY} .reseller_admin\nuser_other_stranger",
        )
        for name in ("container", "account"):
            text += f"[filter:{name}-quotas]\nuse = egg:swift#{name}_quotas\n"
        file.write_text(text)


def settings(auth_url: str, container: str = "images", **more: Any) -> dict[str, Any]:
    """Return a driver's settings for v1 authentication; segments are small."""
    return {
        "swift_store_auth_address": auth_url,
        "swift_store_auth_version": "1",
        "swift_store_user": USER,
        "swift_store_key": KEY,
        "swift_store_container": container,
        "swift_store_create_container_on_put": True,
        "swift_store_large_object_size": 2,
        "swift_store_large_object_chunk_size": 4,
        "swift_store_temp_url_key": TEMP_URL_KEY,
        "swift_store_temp_url_key_create": True,
        **more,
    }


def multi_tenant(auth_url: str, container: str = "images", **more: Any) -> dict[str, Any]:
    """Return the settings of a driver that puts images into their owners' accounts."""
    login = {"swift_store_user": RESELLER, "swift_store_key": RESELLER_KEY, "swift_store_multi_tenant": True}
    return settings(auth_url, container, **login, **more)


def inside(store: SwiftStore) -> list[str]:
    """List what lies in a store's containers beside the blobs."""
    return [entry.name for container in store._containers for entry in store._objects.list(container, ".")]
