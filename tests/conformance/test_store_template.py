"""The driver that new stores begin with, against the store contract."""

from __future__ import annotations

from glancelike.templates.store.glancelike_store_template import TemplateStore
from glancelike.testing import StoreConformance


class TestTemplateStore(StoreConformance):
    spawnable = True
    many_keys = 100

    def make_store(self) -> TemplateStore:
        return TemplateStore({"template_store_directory": str(self.tmp_path / "blobs")})
