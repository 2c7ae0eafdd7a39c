"""docs/store-matrix.md says of each driver what the driver itself declares, and how the page is made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from glancelike import plugins
from glancelike.stores.base import Cap, Store
from glancelike.testing import StoreConformance, matrix

PAGE = Path(__file__).parents[2] / "docs/store-matrix.md"
KIT = """
from glancelike.errors import BlobNotFound
from glancelike.stores.memory import MemoryStore
from glancelike.testing import StoreConformance

class TestMemory(StoreConformance):
    many_keys = 7

    def backend(self):
        return "memory 1.0"

    def make_store(self):
        return MemoryStore({})

class TestBroken(TestMemory):
    def make_store(self):
        store = MemoryStore({})
        store.usage = lambda: 1 / 0
        return store

def test_of_something_else():
    raise SystemExit("the plugin runs the kit alone")
"""


def rows(page: str) -> dict[str, list[str]]:
    """Return the cells of the first table, by driver."""
    table = page.partition("## Capabilities")[2].partition("##")[0]
    lines = [re.findall(r"[^|]+", line) for line in table.splitlines() if line.startswith("| ")]
    assert [cell.strip(" `") for cell in lines[0][1:]] == [cap.name for cap in Cap]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines[2:]}


@pytest.mark.parametrize("name", plugins.available("glancelike.stores"))
def test_the_page_has_each_driver_as_it_is(name: str) -> None:
    driver = plugins.load("glancelike.stores", name, Store)
    told = rows(PAGE.read_text())
    assert name in told, "make matrix"
    for cap, cell in zip(Cap, told[name], strict=True):
        declared = bool(re.fullmatch(r"[1-9]\d*", cell))
        assert declared == (cap in driver.capabilities), f"{cap.name} is {cell}: make matrix"


def test_each_pattern_finds_a_test() -> None:
    tests = [name for name in dir(StoreConformance) if name.startswith("test_")]
    for number, patterns in matrix.CLAUSES.items():
        for pattern in patterns:
            assert any(fnmatch(test, pattern) for test in tests), (number, pattern)


def test_the_page_says_what_was_proved(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(KIT)
    options = ["-q", "-p", "no:cacheprovider", "-p", "glancelike.testing.report", "--kit-report", "out"]
    chosen = ["-k", "usage or undeclared or missing or probe or something or many_keys or race_of_writers"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *chosen, "test_mine.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout
    records = matrix.read([tmp_path / "out"])
    assert all(json.dumps(each) for each in records)
    page = matrix.render(records)
    assert page == matrix.render(records[::-1])
    cells = dict(zip((cap.name for cap in Cap), rows(page)["memory"], strict=True))
    assert cells["USAGE"] == "FAILED"
    assert cells["PRESIGN"] == "no"
    assert cells["LIST"] == "2"
    assert re.search(r"^\| memory \| memory 1\.0 \| no \| 7 \|", page, re.M)
