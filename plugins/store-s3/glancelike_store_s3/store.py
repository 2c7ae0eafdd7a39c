"""The driver: images as objects of one bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from glancelike.errors import (
    BlobNotFound,
    ConfigError,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    Unsupported,
)
from glancelike.stores.base import BlobInfo, Cap, PartInfo, Source, Store, Usage
from glancelike_store_s3 import options, plan
from glancelike_store_s3.bucket import HIDDEN, TOKEN, Bucket
from glancelike_store_s3.client import REGION, Clients
from glancelike_store_s3.conditions import Conditions
from glancelike_store_s3.copying import Copier
from glancelike_store_s3.errors import BucketExists, BucketMissing, translated
from glancelike_store_s3.parts import Uploads
from glancelike_store_s3.probing import features
from glancelike_store_s3.publishing import Publisher, new_token
from glancelike_store_s3.reading import Blocks
from glancelike_store_s3.upload import Body, Sending, fill

PUBLIC = (
    "s3_store_host",
    "s3_store_region_name",
    "s3_store_bucket",
    "s3_store_prefix",
    "s3_store_large_object_size",
    "s3_store_large_object_chunk_size",
    "s3_store_thread_pools",
)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What there is between open() and close()."""

    clients: Clients
    bucket: Bucket
    conditions: Conditions
    publisher: Publisher
    uploads: Uploads
    copier: Copier


class S3Store(Store):
    """Keep the blobs in a bucket of S3, under their keys."""

    schemes = ("s3",)
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
    options = options.OPTIONS

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        options.check(self.settings)
        self._chunk: int = self.settings["s3_store_large_object_chunk_size"] * plan.MIB
        self._threads: int = self.settings["s3_store_thread_pools"]
        self._opened: _Opened | None = None

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        """Turn ``s3://bucket/prefix?endpoint=https://host`` into settings."""
        return options.from_uri(uri)

    def public_properties(self) -> Mapping[str, Any]:
        return {name: self.settings[name] for name in PUBLIC}

    def open(self) -> None:
        """Connect and look for the bucket; raise ConfigError if there is none."""
        clients = Clients(self.settings)
        client, unsigned = clients.make(), clients.make(unsigned=True)
        bucket = Bucket(client, unsigned, self.settings["s3_store_bucket"], self.settings["s3_store_prefix"])
        try:
            self._find(bucket)
        except BaseException as error:
            client.close()
            unsigned.close()
            if isinstance(error, StoreError) and not isinstance(error, StoreDenied | StoreUnavailable):
                raise ConfigError(f"s3_store_host: not an endpoint to work with: {error}") from error
            raise
        conditions = Conditions(bucket, self.settings["s3_store_conditional_writes"], clients.make)
        publisher = Publisher(bucket, conditions)
        self._opened = _Opened(
            clients,
            bucket,
            conditions,
            publisher,
            Uploads(bucket, publisher, self._chunk),
            Copier(bucket, publisher, conditions, self._threads),
        )

    def _find(self, bucket: Bucket) -> None:
        try:
            bucket.check()
        except BucketMissing as error:
            if not self.settings["s3_store_create_bucket_on_put"]:
                raise ConfigError(
                    f"s3_store_bucket {bucket.name!r} doesn't exist; "
                    f"make it, or set s3_store_create_bucket_on_put"
                ) from error
            region = bucket.client.meta.region_name
            where = {"CreateBucketConfiguration": {"LocationConstraint": region}} if region != REGION else {}
            # Another process may have been faster; whose it is the next look tells.
            with suppress(BucketExists), translated():
                bucket.client.create_bucket(Bucket=bucket.name, **where)
            bucket.check()

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.bucket.client.close()
            opened.bucket.unsigned.close()

    @property
    def _open(self) -> _Opened:
        if self._opened is None:
            raise StoreUnavailable("the store isn't open")
        return self._opened

    @property
    def _bucket(self) -> Bucket:
        return self._open.bucket

    def stat(self, key: str) -> BlobInfo:
        found = self._bucket.stat(key)
        return BlobInfo(key, found.size, found.modified, found.etag)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return Blocks(self._bucket, key, offset, length, self.settings["s3_store_max_attempts"])

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        first = None
        if size is None:
            first = fill(source, self._chunk)
            if len(first) < self._chunk:
                return self._put(key, first)
        elif size < max(1, self.settings["s3_store_large_object_size"] * plan.MIB):
            return self._put(key, fill(source, size))
        else:
            plan.check_size(size)
        return self._put_in_parts(key, source, size, first)

    def _put(self, key: str, body: bytearray) -> BlobInfo:
        token = new_token()

        def send(condition: dict[str, str]) -> Any:
            return self._bucket.put(key, Body(body), Metadata={TOKEN: token}, **condition)

        answer = self._open.publisher.publish(key, token, "put", send)
        return BlobInfo(key, len(body), etag=(answer or {}).get("ETag"))

    def _put_in_parts(self, key: str, source: Source, size: int | None, first: bytearray | None) -> BlobInfo:
        bucket, token = self._bucket, new_token()
        # One more than are sent at a time: it is read while they are.
        memory = self._chunk * (self._threads + 1)
        with (
            self._open.publisher.begin(key, token, "complete") as publication,
            bucket.upload(key, token) as upload,
        ):
            sending = Sending(bucket, key, upload.id, threads=self._threads, memory=memory)
            size_of = partial(plan.part_size, chunk=self._chunk, size=size)
            sending.run(source, size_of, size, first, publication.announce)

            def send(condition: dict[str, str]) -> Any:
                return upload.complete(sending.etags, **condition)

            answer = publication.publish(send)
        return BlobInfo(key, sending.size, etag=(answer or {}).get("ETag"))

    def delete(self, key: str) -> None:
        # S3 says nothing of a missing object.
        self._bucket.stat(key)
        self._bucket.delete(key)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        return (info for info in self._bucket.list(prefix) if not info.key.startswith("."))

    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        origin = self if source is None else source
        if not isinstance(origin, S3Store) or not self._shares_endpoint(origin):
            raise Unsupported("the other store has another endpoint, or other keys: it has to be written")
        return self._open.copier.copy(origin._bucket, source_key, target_key)

    def _shares_endpoint(self, other: S3Store) -> bool:
        """Tell whether this store's requests may name the other's bucket."""
        same = ("host", "region_name", "access_key", "secret_key", "session_token")
        return all(self.settings[f"s3_store_{name}"] == other.settings[f"s3_store_{name}"] for name in same)

    def presign(self, key: str, method: str, expires: int) -> str:
        operation = {"GET": "get_object", "PUT": "put_object"}[method]
        with translated():
            url: str = self._bucket.client.generate_presigned_url(
                operation, Params=self._bucket.at(key), ExpiresIn=expires
            )
        return url

    def key_of_location(self, url: str) -> str | None:
        """Recognise ``s3+https://host/bucket/key``; older ones have keys to S3 before the host."""
        scheme, _, rest = url.partition("://")
        if scheme not in ("s3", "s3+http", "s3+https"):
            return None
        # From the end, as Glance reads it: a secret key may have slashes.
        host, bucket, key = ["", "", *rest.rsplit("@", 1)[-1].rsplit("/", 2)][-3:]
        own = self.settings["s3_store_host"]
        prefix: str = self.settings["s3_store_prefix"]
        if bucket != self.settings["s3_store_bucket"] or (own and host != urlsplit(own).netloc):
            return None
        return key.removeprefix(prefix) if key.startswith(prefix) and key != prefix else None

    def begin(self, key: str) -> str:
        return self._open.uploads.begin(key)

    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        return self._open.uploads.put(key, upload, number, source, size)

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        return self._open.uploads.parts(key, upload)

    def complete(self, key: str, upload: str) -> BlobInfo:
        return self._open.uploads.complete(key, upload)

    def abort(self, key: str, upload: str) -> None:
        self._open.uploads.abort(key, upload)

    def sweep(self, before: datetime) -> int:
        """Drop multipart uploads, and claims of writers, that are older than ``before``."""
        bucket, swept = self._bucket, 0
        for page in bucket.pages("list_multipart_uploads", Prefix=bucket.prefix):
            for upload in page.get("Uploads", ()):
                if upload["Initiated"] < before:
                    key = upload["Key"].removeprefix(bucket.prefix)
                    swept += self._open.uploads.drop(key, upload["UploadId"])
        for info in bucket.list(HIDDEN):
            if info.modified is not None and info.modified < before:
                with suppress(BlobNotFound):
                    bucket.delete(info.key)
                swept += 1
        return swept

    def usage(self) -> Usage:
        """Tell the bytes of all blobs; S3 doesn't tell what is free."""
        return Usage(sum(info.size for info in self.list()))

    def probe(self) -> Mapping[str, str]:
        return features(self._bucket, self._open.conditions, self._open.clients)
