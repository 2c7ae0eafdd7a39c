"""What a start loads: only what it uses. Named here are libraries that took long and crept in before."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from glancelike import starting
from glancelike.starting import Later, put_off
from tests.server_fixtures import write_config

# Loaded by ``glancelike`` alone, whose help must come at once.
LIBRARIES = (
    "alembic asyncio cryptography dataclasses falcon importlib.metadata oslo_config oslo_policy "
    "sqlalchemy urllib3"
)
# Loaded with the first request, image, rule or database that needs one.
SELDOM = (
    "alembic cryptography fsspec jsonschema requests urllib3 "
    "oslo_utils.strutils oslo_utils.imageutils rfc3986 yaml "
    "sqlalchemy.dialects.mysql sqlalchemy.dialects.postgresql"
)
SERVERS = "falcon gunicorn"

RUN = """
import gc, sys
from glancelike.starting import Later
before = sum(each["collections"] for each in gc.get_stats())
try:
    {0}
finally:
    loaded = [name for name, module in sys.modules.items() if type(module) is not Later]
    print("\\n!", sum(each["collections"] for each in gc.get_stats()) - before, *loaded)
"""
PROGRAM = "from {}.programs import {} as program; program()"


def loaded(code: str, *words: str) -> tuple[int, set[str]]:
    """Run a program; return how often the collector has run, and what is loaded at the end."""
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(code), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _, collections, *names = done.stdout.splitlines()[-1].split()
    return int(collections), set(names)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("starting"), upgrade=False)


def test_help_loads_no_library() -> None:
    collections, names = loaded(PROGRAM.format("glancelike", "cli"), "--help")
    assert names & set(LIBRARIES.split()) == set()
    assert "glancelike.cli" in names
    assert collections <= 1  # which may be due when the program begins


def test_help_of_novalite_loads_no_library() -> None:
    _, names = loaded(PROGRAM.format("novalite", "cli"), "--help")
    assert names & {*LIBRARIES.split(), "libvirt", "oslo_messaging"} == set()


def test_an_empty_database_is_upgraded_without_alembic(config_file: Path) -> None:
    _, names = loaded(PROGRAM.format("glancelike", "cli"), "--config-file", str(config_file), "db", "upgrade")
    assert names & {*SELDOM.split(), *SERVERS.split()} == set()
    assert "sqlalchemy" in names


def test_a_command_on_the_configured_service_loads_no_server(config_file: Path) -> None:
    words = ("--config-file", str(config_file))
    loaded(PROGRAM.format("glancelike", "cli"), *words, "db", "upgrade")
    _, names = loaded(PROGRAM.format("glancelike", "cli"), *words, "image", "list")
    assert names & {*SELDOM.split(), *SERVERS.split()} == set()
    assert "sqlalchemy" in names


def test_a_command_on_a_server_loads_no_service() -> None:
    code = "import glancelike.cli as cli; cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(code), "--url", "http://127.0.0.1:9", "image", "list"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "no_proxy": "*"},
    )
    names = set(done.stdout.splitlines()[-1].split())
    assert "urllib3" in names, done.stderr
    assert names & {*(set(LIBRARIES.split()) - {"urllib3", "dataclasses", "importlib.metadata"})} == set()


def test_a_server_loads_what_it_uses(config_file: Path) -> None:
    words = ("--config-file", str(config_file))
    loaded(PROGRAM.format("glancelike", "cli"), *words, "db", "upgrade")
    code = "import glancelike.app; app = glancelike.app.wsgi(sys.argv[1:])"
    _, names = loaded(code, *words)
    assert names & set(SELDOM.split()).difference(starting.SELDOM) == set()
    assert set(SERVERS.split()) <= names


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that counts how often it is loaded, and lets others run meanwhile."""
    package = tmp_path / "put_off_here"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import pathlib, time\n"
        f"with pathlib.Path({str(tmp_path / 'loads')!r}).open('a') as loads: loads.write('x')\n"
        "time.sleep(0.05)\n"
        "answer = 42\n"
    )
    (package / "part.py").write_text("from put_off_here import answer\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield package.name
    for name in (package.name, f"{package.name}.part"):
        sys.modules.pop(name, None)


def test_what_is_put_off_is_loaded_once_by_all_threads(module: str, tmp_path: Path) -> None:
    put_off(module)
    import put_off_here  # type: ignore[import-not-found]

    assert not (tmp_path / "loads").exists()
    found = []
    threads = [threading.Thread(target=lambda: found.append(put_off_here.answer)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [42] * 8
    assert (tmp_path / "loads").read_text() == "x"
    assert type(sys.modules[module]) is ModuleType


def test_what_lies_in_a_package_that_is_put_off_can_be_imported(module: str) -> None:
    put_off(module)
    from put_off_here.part import answer  # type: ignore[import-not-found]

    assert answer == 42
    assert type(sys.modules[module]) is ModuleType


def test_what_is_loaded_already_stays(module: str) -> None:
    __import__(module)
    put_off(module)
    assert not isinstance(sys.modules[module], Later)


def test_a_module_that_is_put_off_is_found_in_its_package(module: str, tmp_path: Path) -> None:
    put_off(f"{module}.part")
    from put_off_here import part

    assert isinstance(part, Later)
    assert part.answer == 42


def test_what_is_put_off_and_missing_is_an_import_error(module: str) -> None:
    put_off(f"{module}.nowhere")
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        _ = sys.modules[f"{module}.nowhere"].anything
    sys.modules.pop(f"{module}.nowhere", None)


def test_the_collector_works_again_once_a_program_has_started() -> None:
    code = (
        "import gc; from glancelike.starting import settle, starting\n"
        "settle(); assert gc.get_freeze_count() == 0, 'nothing was started'\n"
        "with starting():\n"
        "    assert not gc.isenabled()\n"
        "    settle()\n"
        "    assert gc.isenabled(); assert gc.get_freeze_count() > 1000\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
