"""The README is true: each of its blocks is run."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(), re.S)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def run(*command: str, cwd: Path, **env: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        command, cwd=cwd, env={**environment, **env}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_library_example(tmp_path: Path) -> None:
    example = blocks("python")[0]
    said = run(
        sys.executable,
        "-W",
        "error",
        "-c",
        example.replace("/tmp/images", str(tmp_path / "images")),
        cwd=tmp_path,
    )
    # What the example prints stands beside each print, as a comment.
    assert said.splitlines() == re.findall(r"print\(.*\)  # (.*)", example)


def test_the_plugin_example(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(blocks("python")[1])
    said = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py", cwd=tmp_path)
    assert " passed" in said


def test_the_new_plugin(tmp_path: Path) -> None:
    (example,) = (text for text in blocks("sh") if "plugin new" in text)
    run("sh", "-ec", example, cwd=tmp_path)
    assert (tmp_path / "glancelike-store-mine" / "glancelike_store_mine.py").is_file()


@pytest.mark.clients
def test_the_server_example(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    (example,) = (text for text in blocks("sh") if "glancelike-api" in text)
    shutil.copytree(ROOT / "etc", tmp_path / "etc")
    shutil.copy(ROOT / "README.md", tmp_path)
    # The server is the shell's only child in the background, and ends with it.
    script = "set -eu\ntrap 'kill $! && wait $!' EXIT\n" + example.replace("9292", port)
    said = run("bash", "-c", script, cwd=tmp_path, OS_DEFAULT__BIND_PORT=port)
    assert re.search(r"\| readme\s+\| active", said)


def test_the_two_commands_exist() -> None:
    (first, *_rest) = blocks("sh")
    targets = re.findall(r"^make (\w+)", first, re.M)
    assert targets == ["run", "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / link).exists(), f"{page}: {link}"
