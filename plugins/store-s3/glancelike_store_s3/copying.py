"""Copies that the endpoint makes: no bytes pass through here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from glancelike.stores.base import BlobInfo
from glancelike_store_s3.bucket import CONTENT_TYPE, TOKEN, Bucket
from glancelike_store_s3.conditions import Conditions
from glancelike_store_s3.errors import translated
from glancelike_store_s3.plan import MAX_PARTS
from glancelike_store_s3.publishing import Publisher, new_token

# S3 copies 5 GiB at once. Less is better: an answer has to come before the read timeout.
COPY_AT_ONCE = 1 << 30
COPY_PART = 256 << 20


class Copier:
    """Copies objects into a bucket, from it or from another of the same endpoint."""

    def __init__(self, bucket: Bucket, publisher: Publisher, conditions: Conditions, threads: int) -> None:
        self._bucket = bucket
        self._publisher = publisher
        self._conditions = conditions
        self._threads = threads

    def copy(self, source: Bucket, source_key: str, key: str) -> BlobInfo:
        """Copy an object; raise BlobNotFound, BlobExists."""
        size = source.stat(source_key).size
        token = new_token()
        origin = source.at(source_key)
        # Where only whole uploads can be conditional, the copy is made as one.
        at_once = size <= COPY_AT_ONCE and (not self._conditions.decides or self._conditions.of("copy"))
        if at_once:
            answer = self._publisher.publish(key, token, "copy", lambda c: self._whole(origin, key, token, c))
        elif not size:
            answer = self._publisher.publish(
                key, token, "put", lambda c: self._bucket.put(key, b"", Metadata={TOKEN: token}, **c)
            )
        else:
            answer = self._in_parts(origin, key, token, size)
        answer = answer or {}
        return BlobInfo(key, size, etag=answer.get("ETag") or answer.get("CopyObjectResult", {}).get("ETag"))

    def _whole(self, origin: dict[str, str], key: str, token: str, condition: dict[str, str]) -> Any:
        with translated():
            return self._bucket.client.copy_object(
                **self._bucket.at(key),
                CopySource=origin,
                MetadataDirective="REPLACE",
                ContentType=CONTENT_TYPE,
                Metadata={TOKEN: token},
                **condition,
            )

    def _in_parts(self, origin: dict[str, str], key: str, token: str, size: int) -> Any:
        at = {**self._bucket.at(key), "CopySource": origin}
        step = max(COPY_PART, -(-size // MAX_PARTS))

        def copy_part(upload: str, start: int) -> tuple[int, str]:
            number = start // step + 1
            span = f"bytes={start}-{min(size, start + step) - 1}"
            with translated():
                answer = self._bucket.client.upload_part_copy(
                    **at, UploadId=upload, PartNumber=number, CopySourceRange=span
                )
            return number, answer["CopyPartResult"]["ETag"]

        with self._bucket.upload(key, token) as upload:
            with ThreadPoolExecutor(self._threads, thread_name_prefix="s3-copy") as pool:
                etags = dict(pool.map(partial(copy_part, upload.id), range(0, size, step)))
            return self._publisher.publish(key, token, "complete", lambda c: upload.complete(etags, **c))
