"""docs/writing-plugins.md: its plugin installs, loads, and conforms."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from glancelike import plugins
from glancelike.stores.base import Cap
from glancelike.testing.store_kit import StoreKit

PAGE = Path(__file__).parents[2] / "docs/writing-plugins.md"


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Run Python with a directory in front of its path; return what it printed."""
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page's blocks into the files that it names."""
    project = tmp_path_factory.mktemp("project")
    blocks = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for name, text in blocks:
        (project / name).write_text(text)
    (project / "setup.py").write_text("from setuptools import setup\n\nsetup()\n")
    return project


@pytest.fixture(scope="module")
def installed(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("target")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run("-m", "pip", "install", *options, "--target", target, project, cwd=target)
    return target


def test_page_names_its_files(project: Path) -> None:
    assert {"sqlite_store.py", "setup.cfg", "test_sqlite_store.py"} <= {
        path.name for path in project.iterdir()
    }


def test_plugin_loads(installed: Path, tmp_path: Path) -> None:
    code = (
        "from glancelike import plugins\n"
        "from glancelike.stores.base import Store\n"
        "print(plugins.load('glancelike.stores', 'sqlitestore', Store).__name__)\n"
        "print(plugins.for_uri('glancelike.stores', 'sqlitestore:///srv/images.db', Store)[1])\n"
    )
    said = run("-c", code, cwd=tmp_path, path=installed).splitlines()
    assert said == ["SqliteStore", "{'sqlite_store_path': '/srv/images.db'}"]


def test_plugin_conforms(installed: Path, project: Path, tmp_path: Path) -> None:
    test = tmp_path / "test_sqlite_store.py"
    test.write_text((project / "test_sqlite_store.py").read_text())
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "tmp")]
    said = run("-m", "pytest", *options, test, cwd=tmp_path, path=installed)
    assert re.search(r"\d{3} passed", said)
    assert "test_killed_write" in run("-m", "pytest", *options, "--co", test, cwd=tmp_path, path=installed)


def test_page_names_every_capability_clause_and_hook() -> None:
    page = PAGE.read_text()
    for cap in Cap:
        assert re.search(rf"^\| `{cap.name}` \|", page, re.MULTILINE), cap
    assert [int(number) for number in re.findall(r"^\| (\d) \|", page, re.MULTILINE)] == list(range(1, 10))
    hooks = re.findall(r"^\| `(\w+)(?:\([\w, ]*\))?` \| ", page, re.MULTILINE)
    for hook in set(hooks) - {cap.name for cap in Cap}:
        assert hasattr(StoreKit, hook), hook


def test_the_other_kinds_of_plugins_are_what_the_page_says() -> None:
    root = PAGE.parents[1]
    rows = re.findall(
        r"^\| [a-z ]+ \| `([\w.]+)` \| `([\w./]+)` \| (?:`([\w.]+)`)? ?\|$", PAGE.read_text(), re.M
    )
    assert len(rows) == 5
    for namespace, contract, kit in rows:
        assert plugins.available(namespace), namespace
        assert (root / contract).is_file(), contract
        if kit:
            module, _, name = kit.rpartition(".")
            assert getattr(importlib.import_module(module), name)
