"""What can be checked without running the code: style, types, imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
CODE = ["glancelike", "novalite", "plugins", "tests", "benchmarks"]


def run(*command: str) -> None:
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_style_lint() -> None:
    run("ruff", "check", "--no-cache", *CODE)


def test_style_format() -> None:
    run("ruff", "format", "--no-cache", "--check", *CODE)


@pytest.mark.timeout(600)
def test_types() -> None:
    stores = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("plugins/store-*/glancelike_store_*"))
    run("mypy", "glancelike", "novalite", *(path for path in stores if not path.endswith(".egg-info")))


def test_imports() -> None:
    run("lint-imports", "--no-cache", "--config", "setup.cfg")
