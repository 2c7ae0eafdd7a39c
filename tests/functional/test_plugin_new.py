"""``glancelike plugin new store``: what it makes conforms as it is, and serves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm
from tests.server_fixtures import start, write_config

BIN = Path(sys.executable).parent
SETTINGS = """\
[mine]
{name}_store_directory = {directory}
[glance_store]
default_backend = mine
"""
FEWER_KEYS = "from glancelike.testing.store_kit import StoreKit\nStoreKit.many_keys = 1_200\n"


def new(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "glancelike"), "plugin", "new", "store", *words]
    return warm.run(command, cwd=cwd)


def python(*words: str | Path, cwd: Path, path: str | Path = "") -> str:
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": str(path)}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the store ``tape``."""
    here = tmp_path_factory.mktemp("new")
    done = new("tape", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "made glancelike-store-tape" in done.stdout
    assert [path.name for path in here.iterdir()] == ["glancelike-store-tape"]
    return here / "glancelike-store-tape"


@pytest.fixture(scope="module")
def installed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("target")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    python("-m", "pip", "install", *options, "--target", target, made, cwd=target)
    return target


def test_it_is_a_whole_distribution(made: Path) -> None:
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.suffix in (".py", ".cfg", ".md")}
    assert files >= {"README.md", "glancelike_store_tape.py", "setup.cfg", "tests/test_tape_store.py"}
    for path in (made / name for name in files):
        assert "template" not in path.read_text().lower(), path
    style = ["check", "--no-cache", "--isolated", "--select", "E,F,B,UP,SIM,S", "--line-length", "110"]
    ran = subprocess.run(
        [BIN / "ruff", *style, made / "glancelike_store_tape.py"], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_conforms(made: Path, installed: Path, tmp_path: Path) -> None:
    (tmp_path / "fewer.py").write_text(FEWER_KEYS)
    options = ["-q", "-p", "no:cacheprovider", "-p", "fewer", "--basetemp", tmp_path / "tmp"]
    said = python("-m", "pytest", *options, cwd=made, path=f"{installed}{os.pathsep}{tmp_path}")
    assert re.search(r"^\d{3} passed", said, re.M), said


def test_it_serves(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file = write_config(tmp_path, extra="")
    text = config_file.read_text().replace("ram:memory", "mine:tape")
    config_file.write_text(text + SETTINGS.format(name="tape", directory=tmp_path / "blobs"))
    monkeypatch.setenv("PYTHONPATH", str(installed))
    server = start(config_file)
    data = os.urandom(2_500_000)
    (tmp_path / "disk").write_bytes(data)
    command = [str(BIN / "glancelike"), "--url", server.url, "image"]
    try:
        options = ["--disk-format", "raw", "--file", str(tmp_path / "disk")]
        assert warm.run([*command, "create", "one", *options]).returncode == 0
        save = [*command, "save", "one", "--file", str(tmp_path / "back")]
        assert warm.run(save).returncode == 0
        assert (tmp_path / "back").read_bytes() == data
        (blob,) = (tmp_path / "blobs").iterdir()
        assert blob.read_bytes()[1024:] == data
        assert warm.run([*command, "delete", "one"]).returncode == 0
        assert list((tmp_path / "blobs").iterdir()) == []
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Tape", "lower-case letters and digits"),
        ("my-tape", "lower-case letters and digits"),
        ("../tape", "lower-case letters and digits"),
        ("1tape", "a letter first"),
        ("file", "'file' is installed already"),
        ("taken", "glancelike-store-taken exists already"),
    ],
)
def test_names_that_wont_do(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "glancelike-store-taken").mkdir()
    done = new(name, "--directory", str(tmp_path), cwd=tmp_path)
    assert (done.returncode, says in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["glancelike-store-taken"]


def test_a_directory_that_isnt_there(tmp_path: Path) -> None:
    done = new("tape", "--directory", str(tmp_path / "nowhere"), cwd=tmp_path)
    assert (done.returncode, "isn't a directory" in done.stderr) == (1, True)
