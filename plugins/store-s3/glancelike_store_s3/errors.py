"""The one place where boto's errors become a store's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from glancelike.errors import (
    BlobExists,
    BlobNotFound,
    InvalidRange,
    SizeMismatch,
    StoreDenied,
    StoreError,
    StoreFault,
    StoreFull,
    StoreUnavailable,
    Unsupported,
)


class Conflicting(StoreUnavailable):
    """Another write to the same key is going on: ask again."""


class BucketMissing(StoreUnavailable):
    """The bucket isn't there, which says nothing of its blobs."""


class BucketExists(StoreFault):
    """The bucket that should be made is there."""


_BY_CODE: dict[str, type[StoreError]] = {
    **dict.fromkeys(("NoSuchKey", "NoSuchUpload", "NotFound", "404"), BlobNotFound),
    **dict.fromkeys(("PreconditionFailed", "412"), BlobExists),
    **dict.fromkeys(("ConditionalRequestConflict", "OperationAborted"), Conflicting),
    **dict.fromkeys(("InvalidRange", "416"), InvalidRange),
    **dict.fromkeys(("EntityTooSmall", "InvalidPart", "InvalidPartOrder"), SizeMismatch),
    **dict.fromkeys(
        (
            "EntityTooLarge",
            "InsufficientStorage",
            "QuotaExceeded",
            "ServiceQuotaExceededException",
            "XMinioStorageFull",
            "XMinioAdminBucketQuotaExceeded",
        ),
        StoreFull,
    ),
    **dict.fromkeys(
        (
            "AccessDenied",
            "AllAccessDisabled",
            "ExpiredToken",
            "InvalidAccessKeyId",
            "InvalidToken",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
        ),
        StoreDenied,
    ),
    **dict.fromkeys(("RequestTimeout", "SlowDown", "Throttling", "TooManyRequests"), StoreUnavailable),
    **dict.fromkeys(("BucketAlreadyExists", "BucketAlreadyOwnedByYou"), BucketExists),
    "NoSuchBucket": BucketMissing,
    "NotImplemented": Unsupported,
}
_BY_STATUS: dict[int, type[StoreError]] = {
    401: StoreDenied,
    403: StoreDenied,
    404: BlobNotFound,
    412: BlobExists,
    413: StoreFull,
    416: InvalidRange,
    429: StoreUnavailable,
    501: Unsupported,
    507: StoreFull,
}
_SAID: dict[type[StoreError], str] = {
    BlobExists: "the blob is there already",
    BlobNotFound: "no such blob or upload",
    BucketMissing: "the bucket doesn't exist",
}
_HINTS = {
    "EntityTooSmall": "every part but the last needs 5 MiB at least: send the small one again, larger",
    "RequestTimeTooSkewed": "this host's clock differs from the endpoint's",
    "PermanentRedirect": "the bucket is in another region: see s3_store_region_name",
    "AuthorizationHeaderMalformed": "is it another region? see s3_store_region_name",
    "MissingContentLength": "the endpoint can't take checksums: see s3_store_checksums",
}


@contextmanager
def translated() -> Iterator[None]:
    """Turn what boto raises into StoreErrors. No source is read in the body."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _of_answer(error.response, error.operation_name) from error
    except BotoCoreError as error:
        raise _of_failure(error) from error


def _of_answer(response: Any, operation: str) -> StoreError:
    """Return the StoreError that an answer of the endpoint means."""
    told = response.get("Error", {})
    code = str(told.get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if kind is None:
        kind = StoreUnavailable if status >= 500 else StoreFault
    if kind in _SAID:
        return kind(_SAID[kind])
    hint = _HINTS.get(code)
    said = f"{operation} was answered {status} {code}: {told.get('Message', '')}"
    return kind(f"{said} ({hint})" if hint else said)


def _of_failure(error: Exception) -> StoreError:
    """Return the StoreError for a request that got no answer to go by."""
    from botocore import exceptions as boto

    denied = (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.NoAuthTokenError,
        boto.TokenRetrievalError,
    )
    away = (
        boto.ConnectionError,
        boto.HTTPClientError,
        boto.IncompleteReadError,
        boto.ResponseStreamingError,
        boto.UnseekableStreamError,
    )
    if isinstance(error, denied):
        return StoreDenied(str(error))
    if isinstance(error, away):
        return StoreUnavailable(f"{type(error).__name__}: {error}")
    return StoreFault(f"{type(error).__name__}: {error}")
