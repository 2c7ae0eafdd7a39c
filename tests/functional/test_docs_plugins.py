"""docs/writing-plugins.md: its plugin installs, loads, and conforms."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from glancelike import plugins
from glancelike.stores.base import Cap
from glancelike.testing.store_kit import StoreKit

PAGE = Path(__file__).parents[2] / "docs/writing-plugins.md"


NAMED = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", re.M | re.S)
COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)
# A test of its own runs the whole kit on what "plugin new" makes.
QUICK = '-k "stat_and_read or ranges or race_of_writers"'
# Enough for some pages of a list; ten thousand commits of SQLite take a quarter of a minute.
FEWER_KEYS = "from glancelike.testing.store_kit import StoreKit\nStoreKit.many_keys = 1_200\n"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make a virtual environment on top of this one, with the commands that the page uses."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "below.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    python = venv / "bin/python"
    for name, call in {
        "glancelike": "-m glancelike.cli",
        "pytest": "-m pytest -q -W error -p no:cacheprovider",
        "pip": "-m pip --quiet --disable-pip-version-check",
    }.items():
        offline = " --no-build-isolation --no-index" if name == "pip" else ""
        command = venv / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {python} {call} "$@"{offline}\n')
        command.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "PYTEST_"))}
    # The plugins of pytest that are here take as long to start as the tests of the page.
    return {**kept, "PATH": f"{venv / 'bin'}:{kept['PATH']}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def run(commands: str, cwd: Path, environment: dict[str, str], **more: str) -> str:
    """Run a block of the page; return what it printed."""
    done = subprocess.run(
        ["sh", "-ec", commands],
        cwd=cwd,
        env={**environment, **more},
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the page up to where its driver is written and installed."""
    here = tmp_path_factory.mktemp("page")
    begin = COMMANDS.findall(PAGE.read_text())[0]
    said = run(begin, here, environment, PYTEST_ADDOPTS=QUICK)
    assert " passed" in said
    project = here / "glancelike-store-sqlite"
    files = dict(NAMED.findall(PAGE.read_text()))
    assert list(files) == ["glancelike_store_sqlite.py", "tests/test_sqlite_store.py", "images.conf"]
    for name, text in files.items():
        # What the page changes is there; what it adds is not.
        assert (project / name).exists() == (name != "images.conf"), name
        (project / name).write_text(text)
    (project / "conftest.py").write_text(FEWER_KEYS)
    return project


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_driver_conforms(project: Path, environment: dict[str, str]) -> None:
    said = run(COMMANDS.findall(PAGE.read_text())[1], project, environment)
    assert re.search(r"^\d{3} passed", said, re.M), said
    assert "test_killed_write" in run("pytest --co", project, environment)


def test_the_store_is_used(project: Path, environment: dict[str, str]) -> None:
    said = run(COMMANDS.findall(PAGE.read_text())[2], project, environment)
    assert said.splitlines()[0].startswith("archive\tsqlite\tok\t")
    assert (project / "README.copy").read_bytes() == (project / "README.md").read_bytes()
    assert (project / "images.db").stat().st_size > (project / "README.md").stat().st_size


def test_the_uri_is_what_the_page_says(project: Path, environment: dict[str, str]) -> None:
    code = (
        "from glancelike import plugins; from glancelike.stores.base import Store; "
        "print(plugins.for_uri('glancelike.stores', 'sqlite:///srv/images.db', Store)[1])"
    )
    assert "sqlite:///srv/images.db" in PAGE.read_text()
    assert run(f'python -c "{code}"', project, environment) == "{'sqlite_store_path': '/srv/images.db'}\n"


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
