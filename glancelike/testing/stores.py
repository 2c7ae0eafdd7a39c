"""The store conformance kit.

The whole test of a plugin::

    from glancelike.testing import StoreConformance

    class TestMyStore(StoreConformance):
        spawnable = True  # the blobs survive the process

        def make_store(self):
            return MyStore({"my_directory": str(self.tmp_path)})

What a driver declares is tested, what it doesn't is tested to refuse. Each
failure names the clause of ``glancelike.stores.base`` that is broken. Most
tests run twice: with the driver as it is, and behind the guard.
"""

from __future__ import annotations

from glancelike.testing.store_crowded import Crowded
from glancelike.testing.store_killing import Killing
from glancelike.testing.store_looking import Looking
from glancelike.testing.store_parts import Parts
from glancelike.testing.store_reading import Reading
from glancelike.testing.store_writing import Writing


class StoreConformance(Reading, Looking, Writing, Parts, Crowded, Killing):
    """All tests of the store contract; see ``StoreKit`` for the hooks."""
