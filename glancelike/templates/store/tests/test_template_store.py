"""The store against the store contract: nothing else has to be tested of what is in it."""

from glancelike_store_template import TemplateStore

from glancelike.testing import StoreConformance


class TestTemplateStore(StoreConformance):
    spawnable = True  # the blobs survive the process, so it is killed, too

    def make_store(self):
        return TemplateStore({"template_store_directory": str(self.tmp_path / "blobs")})
