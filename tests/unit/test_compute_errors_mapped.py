"""Every error class of novalite has an HTTP status and a fault's name."""

from __future__ import annotations

import inspect

import pytest

from novalite import errors
from novalite.api.compute.errors import NAMES, TABLE

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, errors.NovaliteError)
]
EXPECTED = {
    "NovaliteError": 500,
    "InvalidInput": 400,
    "FlavorTooSmall": 400,
    "ImageUnusable": 400,
    "NotFound": 404,
    "ServerNotFound": 404,
    "FlavorNotFound": 404,
    "KeyPairNotFound": 404,
    "ImageMissing": 404,
    "InstanceNotFound": 404,
    "Conflict": 409,
    "KeyPairExists": 409,
    "FlavorExists": 409,
    "AggregateExists": 409,
    "InvalidState": 409,
    "ServerLocked": 409,
    "StaleRecord": 409,
    "Forbidden": 403,
    "QuotaExceeded": 403,
    "NoValidHost": 500,
    "MigrationTimedOut": 500,
    "Unsupported": 501,
    "ConfigError": 500,
    "DatabaseFault": 500,
    "Unavailable": 503,
    "HypervisorDown": 503,
    "ImageServiceDown": 503,
    "QueueDown": 503,
    "DatabaseDown": 503,
    "OutcomeUnknown": 503,
    "DatabaseSchema": 500,
}


def test_every_class_is_expected_here() -> None:
    assert {cls.__name__ for cls in CLASSES} == set(EXPECTED)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_status(cls: type[Exception]) -> None:
    status = TABLE.status_of(cls)
    assert status == EXPECTED[cls.__name__]
    assert status in NAMES or status == 500
