"""What the endpoint can do beyond what the driver needs, or instead of it."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from glancelike.errors import BlobExists, ConfigError, StoreError, StoreFault
from glancelike_store_s3.bucket import HIDDEN, Bucket
from glancelike_store_s3.client import Clients
from glancelike_store_s3.conditions import OK, Conditions
from glancelike_store_s3.errors import translated
from glancelike_store_s3.parts import Streamed

DATA = b"0123456789"
CLAIMED = "{}; racing writers are told apart by claims"


def features(bucket: Bucket, conditions: Conditions, clients: Clients) -> dict[str, str]:
    """Try each feature and tell ``ok`` or why not; what is written is removed."""
    trial = _Trial(bucket, clients)
    found = {}
    try:
        conditional = conditions.found()
        found["conditional put"] = conditional["put"]
        found["conditional complete"] = conditional["complete"]
        race = conditional["race"]
        found["one winner of racing puts"] = race if race == OK else CLAIMED.format(race)
        found["conditional copy"] = conditions.copy()
        for name, attempt in trial.attempts().items():
            found[name] = _tried(attempt)
    finally:
        trial.tidy()
    return found


def _tried(attempt: Callable[[], None]) -> str:
    try:
        attempt()
    except (StoreError, ConfigError) as error:
        return str(error)
    return OK


class _Trial:
    """The attempts, each of which raises a StoreError where the feature is missing."""

    def __init__(self, bucket: Bucket, clients: Clients) -> None:
        self._bucket = bucket
        self._clients = clients
        self._name = f"{HIDDEN}probe/{uuid.uuid4().hex}"

    def attempts(self) -> dict[str, Callable[[], None]]:
        """Return them by the feature's name, in the order to make them."""
        return {
            "ranges with If-Match": self._ranges,
            "checksums (when_supported)": self._checksums,
            "unsigned payload": self._unsigned,
            "multipart copy": self._multipart_copy,
            "list of multipart uploads": self._list_uploads,
            "bucket in the path": lambda: self._address("path"),
            "bucket in the host": lambda: self._address("virtual"),
        }

    def tidy(self) -> None:
        """Remove the object that the attempts share."""
        with suppress(StoreError):
            self._bucket.delete(self._name)

    def _ranges(self) -> None:
        at = self._bucket.at(self._name)
        etag = self._bucket.put(self._name, DATA)["ETag"]
        with translated():
            some = self._bucket.client.get_object(**at, Range="bytes=1-2", IfMatch=etag)
            got = some["Body"].read()
        if got != DATA[1:3]:
            raise StoreFault(f"the bytes 1-2 of {DATA!r} came as {got[:20]!r}")
        with suppress(BlobExists), translated():
            self._bucket.client.get_object(**at, Range="bytes=1-2", IfMatch=f'"{"0" * 32}"')["Body"].close()
            raise StoreFault("If-Match is ignored: a blob replaced while it is read isn't noticed")

    def _checksums(self) -> None:
        client = self._clients.make(s3_store_checksums="when_supported", s3_store_max_attempts=1)
        try:
            with translated():
                client.put_object(**self._bucket.at(self._name), Body=io.BytesIO(DATA))
        finally:
            client.close()

    def _unsigned(self) -> None:
        with _upload(self._bucket, self._name) as upload, translated():
            self._bucket.unsigned.upload_part(
                **upload, PartNumber=1, Body=Streamed(io.BytesIO(DATA), len(DATA)), ContentLength=len(DATA)
            )

    def _multipart_copy(self) -> None:
        self._bucket.put(self._name, DATA)
        with _upload(self._bucket, self._name) as upload, translated():
            self._bucket.client.upload_part_copy(
                **upload, PartNumber=1, CopySource=self._bucket.at(self._name), CopySourceRange="bytes=1-2"
            )

    def _list_uploads(self) -> None:
        with _upload(self._bucket, self._name) as upload:
            pages = self._bucket.pages("list_multipart_uploads", Prefix=upload["Key"])
            if not any(page.get("Uploads") for page in pages):
                raise StoreFault("an upload isn't listed: what dead writers leave can't be swept")

    def _address(self, style: str) -> None:
        client = self._clients.make(
            s3_store_bucket_url_format=style,
            s3_store_max_attempts=1,
            s3_store_connect_timeout=5,
        )
        try:
            host = urlsplit(
                client.generate_presigned_url("head_object", Params=self._bucket.at("a"))
            ).hostname
            if style == "virtual" and not (host or "").startswith(f"{self._bucket.name}."):
                raise StoreFault("boto names it in the path: the endpoint is an address, not a name")
            with translated():
                client.list_objects_v2(Bucket=self._bucket.name, Prefix=self._bucket.prefix, MaxKeys=1)
        finally:
            client.close()


class _upload:
    """A multipart upload that is dropped at the end."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket = bucket
        self._name = name

    def __enter__(self) -> dict[str, str]:
        self._id = self._bucket.begin(self._name, "")
        return {**self._bucket.at(self._name), "UploadId": self._id}

    def __exit__(self, *_: object) -> None:
        with suppress(StoreError):
            self._bucket.abort(self._name, self._id)
