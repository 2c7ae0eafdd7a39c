"""The store driver: what the contract asks for, put together from the other modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import unquote

from oslo_config import cfg

from glancelike.errors import (
    BlobExists,
    BlobNotFound,
    ConfigError,
    StoreError,
    Unsupported,
)
from glancelike.stores.base import BlobInfo, Cap, PartInfo, Source, Store, Usage
from glancelike_store_swift.auth import make_auth
from glancelike_store_swift.client import Client
from glancelike_store_swift.examining import probe
from glancelike_store_swift.failures import Undecided
from glancelike_store_swift.intake import BLOCK, Intake, SourceFailed
from glancelike_store_swift.layout import BEFORE_KEYS, Group, Layout, new_id
from glancelike_store_swift.objects import (
    Cluster,
    Headers,
    Objects,
    Segment,
    modified_of,
    require,
    size_of,
)
from glancelike_store_swift.options import OPTIONS, from_uri
from glancelike_store_swift.publishing import Publisher, Put
from glancelike_store_swift.reading import Download
from glancelike_store_swift.segments import Segments
from glancelike_store_swift.tempurls import TempUrlKey
from glancelike_store_swift.uploads import Uploads, sweep


class SwiftStore(Store):
    """Keep each blob as one object of a Swift container, its data in segments beside it."""

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
        if self.settings["swift_store_multi_tenant"]:
            raise ConfigError(
                "swift_store_multi_tenant isn't supported: a driver never sees who calls. "
                "Mount one store for each account instead"
            )
        if not self.settings["swift_store_temp_url_key"]:
            # Known before the guard asks, and different from one store to the next.
            vars(self)["capabilities"] = type(self).capabilities & ~Cap.PRESIGN
        self._layout = Layout(
            self.settings["swift_store_container"], self.settings["swift_store_multiple_containers_seed"]
        )
        self._client = Client(make_auth(self.settings), self.settings)
        self._objects = Objects(self._client)
        self._create: bool = self.settings["swift_store_create_container_on_put"]
        self._temp_url_key = TempUrlKey(self._objects, self.settings)
        self._made: set[str] = set()

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        """Turn ``swift://container?…`` and the environment of Swift's clients into settings."""
        return from_uri(uri)

    def public_properties(self) -> Mapping[str, Any]:
        names = ("container", "large_object_size", "large_object_chunk_size", "multiple_containers_seed")
        return {name: self.settings[f"swift_store_{name}"] for name in (*names, "region", "auth_version")}

    def open(self) -> None:
        """Log in, look what the cluster can do, find or make the containers.

        Raises ConfigError, StoreDenied, StoreUnavailable.
        """
        self._client.auth.access()
        cluster = Cluster.of(self._client.info())
        if cluster.told and "slo" not in cluster.features:
            raise ConfigError("the Swift cluster has no static large objects (slo), which the store needs")
        self._segments = Segments(self._objects, cluster, self.settings)
        self._publisher = Publisher(self._objects, self._layout)
        self._uploads = Uploads(self._objects, self._layout, self._segments, self._publisher)
        self._temp_url_key.choose(cluster)
        if not self._layout.seed:
            self._find_container(self._layout.container)

    def close(self) -> None:
        self._client.close()

    def stat(self, key: str) -> BlobInfo:
        return _info(key, require(self._objects.head(self._layout.container_of(key), key)))

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return Download.start(self._client, f"{self._layout.container_of(key)}/{key}", offset, length)

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        self._make_container(key)
        intake = Intake(source, size)
        try:
            return BlobInfo(key, self._write(key, intake, size))
        except (SourceFailed, StoreError) as error:
            failed: BaseException = intake.error or error
        raise failed

    def delete(self, key: str) -> None:
        """Remove the blob, then its segments: a crash in between leaves these to ``sweep``."""
        container = self._layout.container_of(key)
        headers = require(self._objects.head(container, key))
        if not self._objects.delete(container, key):
            raise BlobNotFound("no such blob")
        upload = self._segments.upload_of(headers)
        if upload and "X-Static-Large-Object" in headers:
            self._segments.discard(self._layout.group(key, upload))
        if unquote(headers.get("X-Object-Manifest", "")) == f"{container}/{key}-":
            self._segments.discard_glances(container, key)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        for container in self._containers():
            for entry in self._objects.list(container, prefix, marker=BEFORE_KEYS):
                yield BlobInfo(entry.name, entry.size, entry.modified, entry.etag)

    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        origin = self if source is None else source
        if not isinstance(origin, SwiftStore):
            raise Unsupported("the other store isn't in Swift")
        path, headers, through = self._origin(source_key, origin)
        self._check_absent(target_key)
        self._make_container(target_key)
        group = self._layout.group(target_key, new_id())
        self._store(group, self._segments.copy(group, path, headers, through))
        return BlobInfo(target_key, size_of(headers))

    def presign(self, key: str, method: str, expires: int) -> str:
        self._require(Cap.PRESIGN, "presign")
        return self._temp_url_key.sign(self._layout.container_of(key), key, method, expires)

    def key_of_location(self, url: str) -> str | None:
        """Recognise ``swift+config://reference/container/object`` and its kin by the container.

        Accounts aren't compared: Glance names them by how it logs in.
        """
        scheme, _, rest = url.partition("://")
        if scheme not in ("swift", "swift+http", "swift+https", "swift+config"):
            return None
        container, key = ["", *rest.rsplit("/", 2)][-2:]
        return key if key and container == self._layout.container_of(key) else None

    def begin(self, key: str) -> str:
        self._make_container(key)
        return self._uploads.begin(key)

    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        return self._uploads.put_part(key, upload, number, source, size)

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        return self._uploads.parts(key, upload)

    def complete(self, key: str, upload: str) -> BlobInfo:
        return BlobInfo(key, self._uploads.complete(key, upload))

    def abort(self, key: str, upload: str) -> None:
        self._uploads.abort(key, upload)

    def sweep(self, before: datetime) -> int:
        """Remove segments that no blob has, uploads, and claims that began ``before``."""
        return sweep(self._objects, self._containers(), before, self._uploads.drop)

    def probe(self) -> Mapping[str, str]:
        container = next(self._containers(), self._layout.container)
        found = probe(self._segments.cluster, self._objects, container)
        key = self.settings["swift_store_temp_url_key"]
        return {**found, "temporary URLs": "ok" if key else "swift_store_temp_url_key isn't set"}

    def usage(self) -> Usage:
        """Tell the bytes in the containers, and what is left of quotas that are set."""
        used, free = 0, []
        for container in self._containers():
            headers = self._objects.head_container(container) or {}
            used += int(headers.get("X-Container-Bytes-Used", 0))
            free += _left(headers, "Container")
        free += _left(self._objects.head_account() or {}, "Account")
        return Usage(used, min(free) if free else None)

    def _write(self, key: str, intake: Intake, size: int | None) -> int:
        group = self._layout.group(key, new_id())
        if size is None or size < BLOCK:
            small = intake.small()
            if small is not None:
                # No segments: what is in memory anyway is published as it is.
                self._publisher.publish(key, group.id, self._put_whole(key, small))
                return len(small)
        return self._store(group, self._segments.send(group, intake, size))

    def _store(self, group: Group, arriving: Iterator[Segment]) -> int:
        """Gather segments and publish them; what failed for certain is deleted."""
        try:
            segments = list(arriving)
        except BaseException:
            self._segments.discard(group)
            raise
        container, key = self._layout.container_of(group.key), group.key
        try:
            self._publisher.publish(
                key, group.id, lambda headers: self._segments.join(group, segments, container, key, headers)
            )
        except Undecided:
            raise  # the object may appear yet, and needs its segments
        except StoreError:
            self._segments.discard(group)
            raise
        return sum(segment.size for segment in segments)

    def _put_whole(self, key: str, data: bytes) -> Put:
        path = f"{self._layout.container_of(key)}/{key}"
        return lambda headers: self._client.call(
            "PUT", path, headers=headers, body=data, expect={202, 409, 412}
        )

    def _origin(self, key: str, origin: SwiftStore) -> tuple[str, Headers, dict[str, str]]:
        """Return path and headers of a blob to copy, and what makes Swift find it.

        Raises Unsupported where this store's user can't read the other's blobs.
        """
        path = f"{origin._layout.container_of(key)}/{key}"
        headers = require(origin._objects.head(*path.split("/", 1)))
        if origin is self or origin._objects.url == self._objects.url:
            return path, headers, {}
        if _cluster_url(origin._objects.url) != _cluster_url(self._objects.url):
            raise Unsupported("the two stores are in different clusters")
        account = origin._objects.account
        if not self._objects.may_read(account, path):
            raise Unsupported("this store's user may not read the other store's account")
        return path, headers, {"X-Copy-From-Account": account}

    def _check_absent(self, key: str) -> None:
        if self._objects.head(self._layout.container_of(key), key) is not None:
            raise BlobExists("the blob is there already")

    def _containers(self) -> Iterator[str]:
        if not self._layout.seed:
            yield self._layout.container
            return
        yield from self._layout.own(self._objects.containers(f"{self._layout.container}_"))

    def _make_container(self, key: str) -> None:
        """Make the container of a key, once; only where keys are spread is any left to make."""
        container = self._layout.container_of(key)
        if self._layout.seed and container not in self._made:
            self._find_container(container)
            self._made.add(container)

    def _find_container(self, container: str) -> None:
        headers = self._objects.head_container(container)
        if headers is None:
            if not self._create:
                raise ConfigError(
                    f"the container {container!r} is missing: make it, or set "
                    f"swift_store_create_container_on_put"
                )
            self._objects.put_container(container)
            headers = {}
        self._temp_url_key.check(container, headers)

    def _require(self, cap: Cap, what: str) -> None:
        if cap not in self.capabilities:
            raise Unsupported(f"the store can't {what}")


def _info(key: str, headers: Headers) -> BlobInfo:
    return BlobInfo(key, size_of(headers), modified_of(headers), headers.get("Etag", "").strip('"') or None)


def _left(headers: Headers, whose: str) -> list[int]:
    """Return what is left of a quota, as a list of one; of none, an empty one."""
    quota = headers.get(f"X-{whose}-Meta-Quota-Bytes", "")
    used = headers.get(f"X-{whose}-Bytes-Used", "0")
    return [max(0, int(quota) - int(used))] if quota.isdigit() else []


def _cluster_url(url: str) -> str:
    return url.rpartition("/")[0]
