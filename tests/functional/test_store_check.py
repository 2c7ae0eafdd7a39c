"""``glancelike store check`` tells which stores work, whatever the others do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tests.broken_plugins import MODULES, SECRET, write_distribution

BIN = Path(sys.executable).parent
# The store's driver, and what is said of it.
REASONS = {
    "needslibrary": "load: glancelike.stores 'needslibrary' can't be loaded: No module named 'no_such",
    "assertsonimport": "can't be loaded: not today",
    "exitsonimport": "can't be loaded: 3",
    "notastore": "isn't a subclass of glancelike.stores.base.Store",
    "incomplete": "Store lacks read",
    "oddcapabilities": "capabilities isn't a Cap",
    "oddoptions": "load: glancelike.stores 'oddoptions': ",
    "raisesinit": "make: RuntimeError: can't take {'broken_password': '***'",
    "raisesopen": "open: ConnectionError: http://***@host/ refused *** at all",
    "lies": "stat: no such blob",
    "forgetful": "read: other bytes came back than were written",
    "overwrites": "keep: a second write to a key must raise BlobExists",
    "ends": "stat: its process ended with status 0",
    "crashes": "stat: its process was killed by SIGSEGV",
}
SOUND = {"disk": "file", "web": "http", "chatty": "chatty"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_distribution(tmp_path_factory.mktemp("broken"))


def check(
    path: Path, directory: Path, stores: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    enabled = ", ".join(f"{name}:{driver}" for name, driver in stores.items())
    text = f"[DEFAULT]\nstate_path = {directory}\nenabled_backends = {enabled}\n"
    for name, driver in stores.items():
        if "WithPassword" in MODULES.get(driver, ""):
            text += f"[{name}]\nbroken_password = {SECRET}\nbroken_file = {directory}/pid\n"
    config_file = directory / "glancelike.conf"
    config_file.write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    done = warm.run(
        [str(BIN / "glancelike"), "--config-file", str(config_file), "store", "check", *words],
        timeout=250,
        env={**environment, "PYTHONPATH": str(path)},
    )
    for said in (done.stdout, done.stderr):
        assert SECRET not in said
        assert "Traceback" not in said
    return done


@pytest.fixture(scope="module")
def report(path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The report on all stores at once, by the store's id, or driver."""
    directory = tmp_path_factory.mktemp("state")
    stores = {**SOUND, **{name: name for name in REASONS}}
    done = check(path, directory, stores, "--json", "--installed")
    assert done.returncode == 1, done.stderr
    assert list((directory / "images").glob("store-check-*")) == [], "nothing is left in the stores"
    return {each["store"] or f"-{each['driver']}": each for each in json.loads(done.stdout)}


@pytest.mark.slow
@pytest.mark.parametrize("name", REASONS)
def test_a_broken_store_is_told_in_one_line(report: dict[str, dict[str, Any]], name: str) -> None:
    assert report[name]["status"] == "broken"
    assert REASONS[name] in report[name]["reason"]
    assert "\n" not in report[name]["reason"]


@pytest.mark.slow
def test_the_others_are_tried_all_the_same(report: dict[str, dict[str, Any]]) -> None:
    assert {name: report[name]["status"] for name in SOUND} == dict.fromkeys(SOUND, "ok")
    tried = {"write", "range", "unknown size", "list", "copy", "local path", "parts", "delete", "usage"}
    assert tried <= set(report["disk"]["checks"])
    assert report["web"]["reason"] == "read-only: nothing was written"
    assert report["chatty"]["probe"] == {"versioning": "ok", "locks": "no: ***"}
    # Installed, and no store's driver.
    assert (report["-memory"]["status"], report["-hangs"]["status"]) == ("ok", "ok")
    assert "WRITE" in report["-memory"]["capabilities"]


@pytest.mark.slow
def test_a_store_that_hangs_is_ended_with_all_it_started(path: Path, tmp_path: Path) -> None:
    done = check(path, tmp_path, {"stuck": "hangs", "ram": "memory"}, "--timeout", "20")
    assert done.returncode == 1, done.stderr
    stuck, ram = (line.split("\t") for line in done.stdout.splitlines())
    assert stuck[:4] == ["stuck", "hangs", "broken", "open: no answer in 20 seconds"]
    assert ram[:4] == ["ram", "memory", "ok", ""]
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 90
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "what the driver started runs on"
        time.sleep(0.1)


def test_one_store_alone(path: Path, tmp_path: Path) -> None:
    done = check(path, tmp_path, {"bad": "needslibrary", "disk": "file"}, "disk")
    assert (done.returncode, done.stdout.split("\t")[:3]) == (0, ["disk", "file", "ok"])
    done = check(path, tmp_path, {"disk": "file"}, "disc")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no store is configured as disc" in done.stderr


def test_a_read_only_store_is_not_written(path: Path, tmp_path: Path) -> None:
    config_file = tmp_path / "glancelike.conf"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one").write_bytes(b"blob")
    done = check(path, tmp_path, {"disk": "file"})
    config_file.write_text(config_file.read_text() + "[disk]\nread_only = yes\n")
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [str(BIN / "glancelike"), "--config-file", str(config_file), "store", "check", "--json"]
    done = warm.run(command, timeout=250, env=environment)
    (told,) = json.loads(done.stdout)
    assert (told["status"], told["reason"]) == ("ok", "read-only: nothing was written")
    assert "list and read" in told["checks"]
    assert "write" not in told["checks"]


def test_what_the_operator_wrote_wrong_is_told(path: Path, tmp_path: Path) -> None:
    done = check(path, tmp_path, {"one": "nowhere", "two": "memory"})
    one, two = (line.split("\t") for line in done.stdout.splitlines())
    assert (one[2], two[2], done.returncode) == ("broken", "ok", 1)
    assert "'nowhere' isn't installed" in one[3]
