"""The conformance kit against a real Swift, through its S3."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from glancelike_store_s3 import S3Store

from glancelike.stores.base import Store
from glancelike.testing import StoreConformance
from tests.swift_server import SwiftServer

BUCKET, OTHER = "images", "peers"


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    server = SwiftServer(tmp_path_factory.mktemp("swift") / "s")
    yield server
    server.stop()


class TestS3Store(StoreConformance):
    spawnable = True

    @pytest.fixture(autouse=True)
    def _settings(self, swift: SwiftServer) -> None:
        self.swift = swift

    def _store(self, bucket: str) -> Store:
        return S3Store(
            {
                "s3_store_host": self.swift.url,
                "s3_store_access_key": "other:stranger",
                "s3_store_secret_key": "stranging",
                "s3_store_bucket": bucket,
                "s3_store_create_bucket_on_put": True,
                "s3_store_bucket_url_format": "path",
            }
        )

    def make_store(self) -> Store:
        return self._store(BUCKET)

    def make_peer(self) -> Store:
        return self._store(OTHER)
