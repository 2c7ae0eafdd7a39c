"""The bucket: names of objects, and the few requests that everything else needs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from glancelike.errors import BlobExists, BlobNotFound, StoreError, StoreUnavailable
from glancelike.stores.base import BlobInfo
from glancelike_store_s3.errors import BucketMissing, translated

# Begins like no key, so it can't be one: what lies there is no blob.
HIDDEN = ".glancelike/"
TOKEN = "glancelike-write"  # noqa: S105 - the name of a metadata item
CONTENT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Found:
    """An object as a look finds it; ``token`` names the write that stored it."""

    size: int
    modified: datetime | None
    etag: str | None
    token: str | None


class Bucket:
    """One bucket, or what in it starts with one prefix. Safe for threads."""

    def __init__(self, client: Any, unsigned: Any, name: str, prefix: str) -> None:
        self.client = client
        self.unsigned = unsigned
        self.name = name
        self.prefix = prefix

    def at(self, key: str) -> dict[str, str]:
        """Return the parameters that name the object of a key."""
        return {"Bucket": self.name, "Key": self.prefix + key}

    def look(self, key: str) -> Found:
        """Describe an object; raise BlobNotFound."""
        with translated():
            answer = self.client.head_object(**self.at(key))
        return Found(
            answer["ContentLength"],
            answer.get("LastModified"),
            answer.get("ETag"),
            answer.get("Metadata", {}).get(TOKEN),
        )

    def stat(self, key: str) -> Found:
        """Describe an object; BlobNotFound is raised only if the bucket is there."""
        try:
            return self.look(key)
        except BlobNotFound:
            # To a HEAD a missing bucket gives the same bare 404: blobs would seem lost that aren't.
            self.check()
            raise

    def check(self) -> None:
        """Raise StoreUnavailable or StoreDenied where the bucket can't be listed."""
        try:
            with translated():
                self.client.list_objects_v2(Bucket=self.name, Prefix=self.prefix, MaxKeys=1)
        except BlobNotFound as error:
            raise BucketMissing("the bucket can't be listed: the endpoint finds nothing there") from error

    def check_absent(self, key: str) -> None:
        """Raise BlobExists where there is an object of the key."""
        with suppress(BlobNotFound):
            self.look(key)
            raise BlobExists("the blob is there already")

    def put(self, key: str, body: Any, **more: Any) -> Any:
        """Store an object in one request; ``body`` can be read again."""
        with translated():
            return self.client.put_object(**self.at(key), Body=body, ContentType=CONTENT_TYPE, **more)

    def delete(self, key: str) -> None:
        """Delete an object; no error when there is none."""
        with translated():
            self.client.delete_object(**self.at(key))

    def begin(self, key: str, token: str) -> str:
        """Start a multipart upload and return its id."""
        with translated():
            answer = self.client.create_multipart_upload(
                **self.at(key), ContentType=CONTENT_TYPE, Metadata={TOKEN: token}
            )
        return str(answer["UploadId"])

    @contextmanager
    def upload(self, key: str, token: str) -> Iterator[Upload]:
        """Start a multipart upload that is dropped if the body fails; raise BlobExists.

        But not where nobody knows whether it was completed: to drop it then
        would take the bytes from under the blob on some endpoints. What
        can't be dropped is left to the sweep.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="s3-look") as beside:
            absent = beside.submit(self.check_absent, key)
            upload = Upload(self, key, self.begin(key, token))
        try:
            absent.result()
            yield upload
        except BaseException as error:
            if not (upload.completing and isinstance(error, StoreUnavailable)):
                with suppress(StoreError):
                    self.abort(key, upload.id)
            raise

    def complete(self, key: str, upload: str, etags: dict[int, str], **more: Any) -> Any:
        """Join parts, given by number, into the object."""
        parts = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
        with translated():
            return self.client.complete_multipart_upload(
                **self.at(key), UploadId=upload, MultipartUpload={"Parts": parts}, **more
            )

    def abort(self, key: str, upload: str) -> None:
        """Drop a multipart upload; no error when it's gone."""
        with suppress(BlobNotFound), translated():
            self.client.abort_multipart_upload(**self.at(key), UploadId=upload)

    def pages(self, operation: str, **params: Any) -> Iterator[Any]:
        """Iterate over the answers of an operation that gives its results in pages."""
        with translated():
            yield from self.client.get_paginator(operation).paginate(Bucket=self.name, **params)

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Iterate over the objects whose key starts with ``prefix``, the hidden ones, too."""
        for page in self.pages("list_objects_v2", Prefix=self.prefix + prefix):
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self.prefix)
                yield BlobInfo(key, item["Size"], item.get("LastModified"), item.get("ETag"))


class Upload:
    """A multipart upload of this process; ``completing`` once it was asked to be an object."""

    def __init__(self, bucket: Bucket, key: str, upload: str) -> None:
        self._bucket = bucket
        self._key = key
        self.id = upload
        self.completing = False

    def complete(self, etags: dict[int, str], **more: Any) -> Any:
        """Join the parts into the object."""
        self.completing = True
        return self._bucket.complete(self._key, self.id, etags, **more)
