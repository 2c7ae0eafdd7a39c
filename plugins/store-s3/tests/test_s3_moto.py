"""A choice of the conformance kit against moto, which answers as AWS does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from conftest import settings
from glancelike_store_s3 import S3Store

from glancelike.stores.base import Store
from glancelike.testing import StoreConformance


def only(*chosen: str) -> Callable[[type], type]:
    """Leave out the other tests of the kit: all of them run against Swift."""

    def leave_out(kit: type) -> type:
        names = {name for name in dir(kit) if name.startswith("test_")}
        assert set(chosen) <= names
        for name in names - set(chosen):
            setattr(kit, name, None)
        return kit

    return leave_out


class OnMoto(StoreConformance):
    variants = ("bare",)
    __test__ = False
    more: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _endpoint(self, moto: str) -> None:
        self.url = moto

    def make_store(self) -> Store:
        return S3Store(settings(self.url, **self.more))

    def make_peer(self) -> Store:
        return S3Store(settings(self.url, **{**self.more, "s3_store_bucket": "peers"}))


# Not the races: moto itself looks first and stores then, in threads. Not the sweep: to moto all
# uploads began in 2010.
@only(
    "test_copy",
    "test_copy_from_a_peer",
    "test_copy_keeps_existing",
    "test_existing_is_kept",
    "test_list",
    "test_missing_blob",
    "test_part_replaced",
    "test_parts_in_any_order",
    "test_presign",
    "test_presigned_put",
    "test_ranges",
    "test_ranges_behind_the_end",
    "test_stat_and_read",
    "test_uploads_keep_existing",
    "test_usage",
)
class TestConditionalWrites(OnMoto):
    """The endpoint decides which of several writers wins."""

    __test__ = True


@only("test_copy", "test_copy_keeps_existing", "test_race_of_completes", "test_race_of_writers", "test_list")
class TestClaims(OnMoto):
    """The endpoint decides nothing; and the store has a part of its bucket alone."""

    __test__ = True
    more: ClassVar[dict[str, Any]] = {
        "s3_store_conditional_writes": "never",
        "s3_store_prefix": "cloud/images/",
    }
