"""Every error class has an HTTP status, and no class is forgotten."""

from __future__ import annotations

import inspect

import pytest

from glancelike import errors
from glancelike.api.errors import TABLE

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, errors.GlancelikeError)
]
EXPECTED = {
    "GlancelikeError": 500,
    "InvalidInput": 400,
    "InvalidMarker": 400,
    "ForbiddenUrl": 400,
    "InvalidSignature": 400,
    "ChecksumMismatch": 460,
    "FormatMismatch": 415,
    "UnsafeImage": 415,
    "NotFound": 404,
    "ImageNotFound": 404,
    "MemberNotFound": 404,
    "TagNotFound": 404,
    "TaskNotFound": 404,
    "UploadNotFound": 404,
    "NamespaceNotFound": 404,
    "DefinitionNotFound": 404,
    "NoImageData": 204,
    "Conflict": 409,
    "ImageExists": 409,
    "MemberExists": 409,
    "NamespaceExists": 409,
    "DefinitionExists": 409,
    "StaleImage": 409,
    "StaleTask": 409,
    "StaleUpload": 409,
    "StaleNamespace": 409,
    "InvalidTransition": 409,
    "LeaseLost": 409,
    "Forbidden": 403,
    "ImageProtected": 403,
    "ReadOnlyProperty": 403,
    "LimitExceeded": 413,
    "ImageTooLarge": 413,
    "QuotaExceeded": 413,
    "ConfigError": 500,
    "PluginError": 500,
    "BrokenPlugin": 500,
    "DataMismatch": 500,
    "Unreachable": 503,
    "RegistryError": 500,
    "RegistryUnavailable": 503,
    "OutcomeUnknown": 503,
    "SchemaOutdated": 500,
    "SchemaNewer": 500,
    "StoreError": 500,
    "BlobNotFound": 500,
    "BlobExists": 409,
    "BlobInUse": 409,
    "InvalidKey": 500,
    "InvalidRange": 416,
    "SizeMismatch": 400,
    "UnknownStore": 400,
    "Unsupported": 400,
    "StoreFull": 413,
    "StoreDenied": 503,
    "StoreUnavailable": 503,
    "StoreFault": 500,
}


def test_every_class_is_expected_here() -> None:
    assert {cls.__name__ for cls in CLASSES} == set(EXPECTED)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_status(cls: type[Exception]) -> None:
    assert TABLE.status_of(cls) == EXPECTED[cls.__name__]


def test_retryable_errors_are_503_or_a_conflict() -> None:
    assert {TABLE.status_of(cls) for cls in CLASSES if cls.retryable} == {503, 409}
