"""The store conformance kit catches what it's there for, by the test it should."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
FILE = HERE / "broken_stores.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("broken_stores", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stores = load()


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """Run the kit on all drivers in one process; map (class, test) to what failed."""
    base = tmp_path_factory.mktemp("kit")
    wanted = [
        f"{FILE}::{stores.name_of(driver)}::{test}"
        for driver in (*stores.BROKEN, *stores.SOUND)
        for test in stores.tests_for(driver)
    ]
    (base / "wanted").write_text("\n".join(wanted))
    ran = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-W",
                "error",
                "-p",
                "no:cacheprovider",
                "-p",
                "pytest_timeout",
            ),
            *("--confcutdir", str(HERE), "--basetemp", str(base / "tmp"), "--tb=short"),
            *(f"--junitxml={base / 'report.xml'}", f"@{base / 'wanted'}"),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=base,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    found = {}
    for case in ElementTree.parse(base / "report.xml").iter("testcase"):
        name = (case.attrib["classname"].rpartition(".")[2], case.attrib["name"])
        troubles = [element for element in case if element.tag in ("failure", "error")]
        found[name] = "\n".join(element.attrib["message"] + (element.text or "") for element in troubles)
    return found


@pytest.mark.parametrize("driver", stores.BROKEN, ids=lambda driver: driver.__name__)
def test_broken_driver_is_caught(driver: type[Any], verdicts: dict[tuple[str, str], str]) -> None:
    said = verdicts[stores.name_of(driver), driver.caught_by]
    assert re.search(rf"\b{driver.blame}\b", said), said or "the kit found nothing"


@pytest.mark.parametrize("driver", stores.SOUND, ids=lambda driver: driver.__name__)
def test_sound_driver_passes(driver: type[Any], verdicts: dict[tuple[str, str], str]) -> None:
    mine = {test: said for (name, test), said in verdicts.items() if name == stores.name_of(driver)}
    assert sorted(mine) == stores.tests_for(driver)
    assert {test: said for test, said in mine.items() if said} == {}


@pytest.mark.parametrize("number", range(1, 10))
def test_each_clause_has_a_broken_driver(number: int) -> None:
    assert any(driver.blame == f"clause {number}" for driver in stores.BROKEN)
