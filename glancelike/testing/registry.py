"""The conformance kit for registry backends.

A plugin's own test is one class::

    class TestMyRegistry(RegistryConformance):
        processes = True  # other processes can open the same registry

        def make_registry(self):
            return MyRegistry({"path": str(self.tmp_path / "registry")})

What the clauses in the failures' messages are is said in
``glancelike.registry.base``.
"""

from __future__ import annotations

from glancelike.testing.registry_lists import ListTests
from glancelike.testing.registry_metadefs import MetadefTests
from glancelike.testing.registry_quotas import QuotaTests
from glancelike.testing.registry_races import OutageTests, ProcessTests, ThreadTests
from glancelike.testing.registry_records import RecordTests
from glancelike.testing.registry_sharing import LeaseTests, MemberTests
from glancelike.testing.registry_tasks import TaskTests
from glancelike.testing.registry_upkeep import UpkeepTests
from glancelike.testing.registry_uploads import UploadTests

__all__ = ["RegistryConformance"]


class RegistryConformance(
    RecordTests,
    MemberTests,
    LeaseTests,
    ListTests,
    TaskTests,
    UploadTests,
    QuotaTests,
    MetadefTests,
    UpkeepTests,
    ThreadTests,
    ProcessTests,
    OutageTests,
):
    """Every clause of ``glancelike.registry.base`` and ``registry.parts``, tested.

    Define ``make_registry``; set ``processes``; define ``outage`` where the
    registry can be away.
    """
