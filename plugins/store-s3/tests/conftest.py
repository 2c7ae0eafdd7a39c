"""What the tests of the S3 store share: one moto, and settings for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from glancelike_store_s3 import publishing
from s3_proxy import Proxy, moto_server, proxy_to


def settings(url: str, **more: Any) -> dict[str, Any]:
    """Return settings of a store at the endpoint."""
    return {
        "s3_store_host": url,
        "s3_store_access_key": "EXAMPLEKEY",
        "s3_store_secret_key": "a+very/secret0value",
        "s3_store_bucket": "images",
        "s3_store_create_bucket_on_put": True,
        "s3_store_bucket_url_format": "path",
        "s3_store_large_object_size": 5,
        "s3_store_large_object_chunk_size": 5,
        **more,
    }


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture
def proxy(moto: str) -> Iterator[Proxy]:
    """A proxy to moto."""
    with proxy_to(moto) as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a dead writer no longer than a request to a server of the tests can take."""
    monkeypatch.setattr(publishing, "CLAIM_SECONDS", 15.0)
