"""The store driver: what the contract asks for, put together from the other modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from oslo_config import cfg

from glancelike.errors import ConfigError, Unsupported
from glancelike.stores.base import BlobInfo, Cap, PartInfo, Source, Store, Usage
from glancelike_store_swift.auth import make_auth
from glancelike_store_swift.client import Client
from glancelike_store_swift.containers import Shared
from glancelike_store_swift.examining import probe
from glancelike_store_swift.layout import BEFORE_KEYS, Layout
from glancelike_store_swift.objects import Cluster, Headers, Objects, modified_of, require, size_of
from glancelike_store_swift.options import OPTIONS, from_uri
from glancelike_store_swift.owners import Owners
from glancelike_store_swift.place import Place
from glancelike_store_swift.tempurls import TempUrlKey


class SwiftStore(Store):
    """Keep each blob as one object of a Swift container, its data in segments beside it.

    With ``swift_store_multi_tenant`` a key ``<owner>/<name>`` lies in the
    account of that owner. What has no owner lies where all blobs do else.
    """

    schemes = ("swift",)
    capabilities = (
        Cap.RANGE
        | Cap.WRITE
        | Cap.UNKNOWN_SIZE
        | Cap.DELETE
        | Cap.LIST
        | Cap.COPY
        | Cap.PRESIGN
        | Cap.PARTS
        | Cap.USAGE
    )
    options: ClassVar[tuple[cfg.Opt, ...]] = OPTIONS

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        if not self.settings["swift_store_temp_url_key"]:
            # Known before the guard asks, and different from one store to the next.
            vars(self)["capabilities"] = type(self).capabilities & ~Cap.PRESIGN
        self.keys_by_owner = self.settings["swift_store_multi_tenant"]
        self._layout = Layout(
            self.settings["swift_store_container"], self.settings["swift_store_multiple_containers_seed"]
        )
        self._client = Client(make_auth(self.settings), self.settings)
        self._objects = Objects(self._client)
        self._temp_url_key = TempUrlKey(self.settings)
        self._containers = Shared(
            self._objects,
            self._layout,
            self._temp_url_key,
            create=self.settings["swift_store_create_container_on_put"],
        )
        self._owners: Owners | None = None

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        """Turn ``swift://container?…`` and the environment of Swift's clients into settings."""
        return from_uri(uri)

    def public_properties(self) -> Mapping[str, Any]:
        names = ("container", "large_object_size", "large_object_chunk_size", "multiple_containers_seed")
        more = ("multi_tenant", "region", "auth_version")
        return {name: self.settings[f"swift_store_{name}"] for name in (*names, *more)}

    def open(self) -> None:
        """Log in, look what the cluster can do, find or make the containers.

        Raises ConfigError, StoreDenied, StoreUnavailable.
        """
        self._client.auth.access()
        self._cluster = Cluster.of(self._client.info())
        if self._cluster.told and "slo" not in self._cluster.features:
            raise ConfigError("the Swift cluster has no static large objects (slo), which the store needs")
        self._temp_url_key.choose(self._cluster)
        self._own = Place(self._objects, self._layout, self._containers, self._cluster, self.settings)
        if self.keys_by_owner:
            self._owners = Owners(self._objects, self._temp_url_key, self._cluster, self.settings)
            self._owners.check()
        if self.keys_by_owner or not self._layout.seed:
            self._containers.find(self._layout.container)

    def close(self) -> None:
        self._client.close()

    def _place(self, key: str) -> tuple[Place, str]:
        """Return the place of a blob, and its name there."""
        owner, slash, name = key.partition("/")
        if self._owners is None or not slash:
            return self._own, key
        return self._owners.place(owner), name

    def stat(self, key: str) -> BlobInfo:
        place, name = self._place(key)
        return _info(key, require(place.head(name)))

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        place, name = self._place(key)
        return place.read(name, offset, length)

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        place, name = self._place(key)
        return BlobInfo(key, place.write(name, source, size))

    def delete(self, key: str) -> None:
        place, name = self._place(key)
        place.delete(name)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        for container in self._containers:
            for entry in self._objects.list(container, prefix, marker=BEFORE_KEYS):
                if self._owners is None or "/" not in entry.name:
                    yield BlobInfo(entry.name, entry.size, entry.modified, entry.etag)
        if self._owners is not None:
            for key, headers in self._owners.blobs(prefix):
                yield _info(key, headers)

    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        origin = self if source is None else source
        if not isinstance(origin, SwiftStore):
            raise Unsupported("the other store isn't in Swift")
        place, name = self._place(target_key)
        return BlobInfo(target_key, place.copy(*origin._place(source_key), name))

    def presign(self, key: str, method: str, expires: int) -> str:
        if Cap.PRESIGN not in self.capabilities:
            raise Unsupported("the store can't presign")
        place, name = self._place(key)
        if method == "PUT" and self._owners is not None:
            place.containers.ready(name)
        return self._temp_url_key.sign(place.objects, place.path(name), method, expires)

    def key_of_location(self, url: str) -> str | None:
        """Recognise ``swift+config://reference/container/object`` and its kin by the container.

        Accounts aren't compared: Glance names them by how it logs in.
        """
        scheme, _, rest = url.partition("://")
        if scheme not in ("swift", "swift+http", "swift+https", "swift+config"):
            return None
        container, key = ["", *rest.rsplit("/", 2)][-2:]
        return key if key and container == self._own.layout.container_of(key) else None

    def begin(self, key: str) -> str:
        place, name = self._place(key)
        return place.begin(name)

    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        place, name = self._place(key)
        return place.put_part(name, upload, number, source, size)

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        place, name = self._place(key)
        return place.parts(name, upload)

    def complete(self, key: str, upload: str) -> BlobInfo:
        place, name = self._place(key)
        return BlobInfo(key, place.complete(name, upload))

    def abort(self, key: str, upload: str) -> None:
        place, name = self._place(key)
        place.abort(name, upload)

    def sweep(self, before: datetime) -> int:
        """Remove segments that no blob has, uploads, and claims that began ``before``."""
        swept = self._own.sweep(self._containers, before)
        return swept + (self._owners.sweep(before) if self._owners else 0)

    def probe(self) -> Mapping[str, str]:
        container = next(iter(self._containers), self._layout.container)
        found = probe(self._cluster, self._objects, container)
        key = self.settings["swift_store_temp_url_key"]
        return {**found, "temporary URLs": "ok" if key else "swift_store_temp_url_key isn't set"}

    def usage(self) -> Usage:
        """Tell the bytes in the containers, and what is left of quotas that are set.

        With images in their owners' accounts nobody can tell what is free.
        """
        used, free = 0, []
        for container in self._containers:
            headers = self._objects.head_container(container) or {}
            used += _used(headers)
            free += _left(headers, "Container")
        if self._owners is not None:
            return Usage(used + sum(map(_used, self._owners.containers())))
        free += _left(self._objects.head_account() or {}, "Account")
        return Usage(used, min(free) if free else None)


def _info(key: str, headers: Headers) -> BlobInfo:
    return BlobInfo(key, size_of(headers), modified_of(headers), headers.get("Etag", "").strip('"') or None)


def _used(headers: Headers) -> int:
    return int(headers.get("X-Container-Bytes-Used", 0))


def _left(headers: Headers, whose: str) -> list[int]:
    """Return what is left of a quota, as a list of one; of none, an empty one."""
    quota = headers.get(f"X-{whose}-Meta-Quota-Bytes", "")
    used = headers.get(f"X-{whose}-Bytes-Used", "0")
    return [max(0, int(quota) - int(used))] if quota.isdigit() else []
