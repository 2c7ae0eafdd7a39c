"""The conformance kit on a real Swift."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from glancelike_store_swift import SwiftStore
from swift_servers import MIB, SmallSwift, settings

from glancelike.stores.base import Store
from glancelike.testing import StoreConformance


class TestSwiftStore(StoreConformance):
    variants = ("bare",)
    spawnable = True
    many_keys = 125  # two pages

    def backend(self) -> str:
        return f"Swift {version('swift')}"

    flat_size = 80 * MIB  # more than may be held

    @pytest.fixture(autouse=True)
    def _server(self, swift: SmallSwift) -> None:
        self.swift = swift

    def make_store(self) -> Store:
        return SwiftStore(settings(self.swift.auth_url))

    def make_peer(self) -> Store:
        return SwiftStore(settings(self.swift.auth_url, "others"))
