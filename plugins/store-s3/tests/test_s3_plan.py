"""The sizes of parts, and the settings: no endpoint is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from glancelike_store_s3 import S3Store
from glancelike_store_s3.plan import MAX_PART, MAX_PARTS, MIB, MIN_PART, check_size, part_size
from hypothesis import given, settings
from hypothesis import strategies as st

from glancelike.errors import ConfigError, StoreFull

TIB = 1 << 40
# Ten thousand numbers an example; and how long one takes depends on who else is on the machine.
unhurried = settings(deadline=None, max_examples=30)
chunks = st.integers(5, 5120).map(lambda mib: mib * MIB)


@unhurried
@given(chunks)
def test_parts_of_unknown_size_hold_5_tib(chunk: int) -> None:
    sizes = [part_size(number, chunk, None) for number in range(1, MAX_PARTS + 1)]
    assert sum(sizes) >= 5 * TIB
    assert min(sizes) >= MIN_PART
    assert max(sizes) <= MAX_PART
    assert sizes == sorted(sizes)
    assert sizes[0] == chunk


@unhurried
@given(chunks)
def test_parts_of_unknown_size_stay_small(chunk: int) -> None:
    sent = 0
    for number in range(1, MAX_PARTS + 1):
        size = part_size(number, chunk, None)
        assert size <= max(chunk, sent / 400)
        sent += size


@unhurried
@given(chunks, st.integers(0, 5 * TIB))
def test_parts_of_known_size(chunk: int, size: int) -> None:
    part = part_size(1, chunk, size)
    assert part == part_size(MAX_PARTS, chunk, size)
    assert part * MAX_PARTS >= size
    assert chunk <= part <= MAX_PART
    assert part == chunk or (part - MIB) * MAX_PARTS < size  # and no larger than it must be


def test_more_than_an_object_can_have() -> None:
    check_size(MAX_PART * MAX_PARTS)
    with pytest.raises(StoreFull):
        check_size(MAX_PART * MAX_PARTS + 1)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://images", {"s3_store_bucket": "images", "s3_store_prefix": ""}),
        ("s3://images/", {"s3_store_bucket": "images", "s3_store_prefix": ""}),
        ("s3://images/a/b", {"s3_store_bucket": "images", "s3_store_prefix": "a/b/"}),
        (
            "s3://images?endpoint=http://127.0.0.1:9000&addressing=path&region=eu",
            {
                "s3_store_bucket": "images",
                "s3_store_prefix": "",
                "s3_store_host": "http://127.0.0.1:9000",
                "s3_store_bucket_url_format": "path",
                "s3_store_region_name": "eu",
            },
        ),
    ],
)
def test_settings_from_uri(uri: str, expected: dict[str, str]) -> None:
    assert S3Store.settings_from_uri(uri) == expected
    assert S3Store(expected).settings["s3_store_bucket"] == "images"


@pytest.mark.parametrize(
    "uri", ["s3://", "s3:///images", "s3://key:verysecret@images", "s3://images?secret_key=verysecret"]
)
def test_refused_uri(uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        S3Store.settings_from_uri(uri)
    assert "verysecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"s3_store_bucket": None}, "s3_store_bucket"),
        ({"s3_store_host": "s3.example.org"}, "s3_store_host"),
        ({"s3_store_host": "http://key:verysecret@host"}, "s3_store_host"),
        ({"s3_store_secret_key": "verysecret"}, "s3_store_access_key"),
        ({"s3_store_session_token": "verysecret"}, "s3_store_session_token"),
        ({"s3_store_prefix": "/images"}, "s3_store_prefix"),
        ({"s3_store_checksums": "never"}, "s3_store_checksums"),
        ({"s3_store_large_object_chunk_size": 4}, "s3_store_large_object_chunk_size"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        S3Store({"s3_store_bucket": "images", **changes})
    assert "verysecret" not in str(caught.value)


def test_import_is_light() -> None:
    code = "import sys, glancelike_store_s3; sys.exit(bool({'boto3', 'botocore'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("s3+https://s3.example.org/images/abc", "abc"),
        ("s3://s3.example.org/images/abc", "abc"),
        ("s3+https://AKIA:s3/cr@et@s3.example.org/images/abc", "abc"),
        ("s3+https://s3.example.org/other/abc", None),
        ("s3+https://s3.example.com/images/abc", None),
        ("s3+https://s3.example.org/images/", None),
        ("s3+https://s3.example.org/abc", None),
        ("https://s3.example.org/images/abc", None),
    ],
)
def test_locations_of_glance(url: str, key: str | None) -> None:
    store = S3Store({"s3_store_bucket": "images", "s3_store_host": "https://s3.example.org"})
    assert store.key_of_location(url) == key
    below = S3Store({"s3_store_bucket": "images", "s3_store_prefix": "p/"})
    assert below.key_of_location(url) is None, "Glance puts its objects under no prefix"
