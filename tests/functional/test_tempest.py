"""A selection of Tempest's image tests, against two servers and a real Keystone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tempest import features, known, report
from tests.tempest.cloud import cloud

# One class or test of each kind that is quick; `tox -e tempest` runs them all.
SELECTED = (
    r"test_images\.BasicOperationsImagesTest",
    r"test_images\.ListSharedImagesTest",
    r"test_images\.ImageLocationsTest\.test_replace_location",
    r"test_images\.ImportImagesTest\.test_(image_glance_direct_import|remote_import)",
    r"test_images\.MultiStoresImportImagesTest",
    r"test_images_negative\.",
    r"test_images_member_negative\.",
    r"test_images_tags\.",
    r"test_versions\.",
    r"admin\.test_image_task\.",
    r"admin\.test_images_metadefs_namespaces\.",
)


def test_tempest(tmp_path: Path) -> None:
    with cloud(tmp_path) as running:
        outcomes = report.run(running.directory, SELECTED, timeout=240)
    assert report.objections(outcomes, known.FAILURES, known.SKIPS) == [], report.told(outcomes)
    passed = [each.test for each in outcomes if each.outcome == "pass"]
    for pattern in SELECTED:
        assert any(re.search(pattern, test) for test in passed), pattern


def test_what_nobody_expected_is_objected_to() -> None:
    outcomes = [
        report.Outcome("a.test_good", "pass", "", 0.1),
        report.Outcome("a.test_bad", "fail", "Traceback:\nValueError: no", 0.1),
        report.Outcome("a.test_broken", "fail", "Traceback:\nValueError: known", 0.1),
        report.Outcome("b.test_broken", "pass", "", 0.1),
        report.Outcome("a.test_left", "skip", "do_secure_hash is enabled", 0.0),
        report.Outcome("a.test_lacking", "skip", "image import is not available", 0.0),
    ]
    assert report.objections(outcomes, {"broken": "it is"}, known.SKIPS) == [
        "a.test_bad failed: ValueError: no",
        "b.test_broken passes: take it out of FAILURES",
        "a.test_lacking was skipped: image import is not available",
    ]


def test_features_that_are_not_ready_are_left_out() -> None:
    assert "web" not in features.merged("server", frozenset())
    both = features.merged("server", frozenset({"http_store", "cache"}))["DEFAULT"]
    assert both["enabled_backends"] == "alpha:file, beta:file, web:http"
    assert features.written({"a": {"b": "{node}/c"}}, node="/n") == "[a]\nb = /n/c\n"
    with pytest.raises(KeyError, match="no such feature: magic"):
        features.merged("server", frozenset({"magic"}))
