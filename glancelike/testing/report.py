"""A pytest plugin that writes down what the store kit has proved of each installed driver.

``pytest -p glancelike.testing.report --kit-report DIRECTORY`` runs the kit's
tests alone and adds a record (JSON) a line for each to a file of its own
process; ``python -m glancelike.testing.matrix DIRECTORY`` makes a page of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from glancelike.stores.base import Cap
from glancelike.testing.store_kit import StoreKit

RECORD = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kit-report", type=Path, help="directory for the store kit's records")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what isn't of the kit alone: it proves nothing here."""
    if config.getoption("--kit-report") is not None:
        items[:] = [item for item in items if issubclass(getattr(item, "cls", None) or object, StoreKit)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    directory = item.config.getoption("--kit-report")
    if directory is None:
        return report
    if report.when == "setup":
        item.stash[RECORD] = {"outcome": "passed"}
    record = item.stash[RECORD]
    if report.outcome != "passed" and record["outcome"] != "failed":
        record["outcome"] = report.outcome
    if report.when == "call":
        record.update(_facts(item))
    if report.when == "teardown" and record.get("driver"):
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(record, sort_keys=True) + "\n")
    return report


def _facts(item: pytest.Item) -> dict[str, Any]:
    """Return what a record says of a test that has run: which driver, and what it was about."""
    kit: StoreKit = item.instance  # type: ignore[attr-defined]
    names = _names(type(kit.driver))
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return {
        "driver": names[0] if names else None,
        "test": item.originalname,  # type: ignore[attr-defined]
        "capabilities": [cap.name for cap in Cap if cap in kit.driver.capabilities],
        "needs": sorted(cap.name or "" for cap in kit.needed),
        "refuses": params["cap"].name if "cap" in params else None,
        "spawnable": kit.spawnable,
        "many_keys": kit.many_keys,
        "flat_size": kit.flat_size,
        "backend": kit.backend(),
    }


def _names(driver: type) -> list[str]:
    """Return the names that a driver is installed by, wherever its package shows it."""
    package = driver.__module__.partition(".")[0]
    entries = entry_points(group="glancelike.stores")
    return [
        entry.name
        for entry in entries
        if entry.module.partition(".")[0] == package
        and entry.attr == driver.__qualname__
        and entry.load() is driver
    ]
