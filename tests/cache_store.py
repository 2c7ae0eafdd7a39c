"""A store driver that is remote as far as anybody can tell, for the tests of the cache.

Each read is written down, and waits after its first block for as long as a
file called ``.hold`` lies beside the data; if there is a number in it, reads
before that one don't.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from glancelike.stores.base import Cap
from glancelike.stores.file import FileStore

ENTRY_POINT = "[glancelike.stores]\nremote = tests.cache_store:RemoteStore\n"


class RemoteStore(FileStore):
    """Keep blobs in a directory, but tell nobody."""

    capabilities = FileStore.capabilities & ~Cap.LOCAL

    @property
    def _beside(self) -> Path:
        return Path(self.settings["filesystem_store_datadir"])

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        with (self._beside / ".reads").open("a+") as log:
            log.write(f"{key} {offset}\n")
            log.seek(0)
            number = len(log.readlines())
        return self._slowly(super().read(key, offset=offset, length=length), number)

    def _slowly(self, blocks: Iterator[bytes], number: int) -> Iterator[bytes]:
        for block in blocks:
            yield block
            while self._held(number):
                time.sleep(0.01)

    def _held(self, number: int) -> bool:
        try:
            return number >= int((self._beside / ".hold").read_text() or 1)
        except FileNotFoundError:
            return False


def install(directory: Path) -> Path:
    """Make a distribution with the driver; return what PYTHONPATH needs."""
    info = directory / "remote-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: remote\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINT)
    return directory
