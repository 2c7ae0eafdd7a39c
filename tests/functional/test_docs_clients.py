"""The examples of docs/clients.md that send images in pieces, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server_fixtures import Server
from tests.tus_fixtures import NODE, PART, assert_active, needs_node

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
DATA = os.urandom(PART + 1000)


def example(language: str, server: Server, directory: Path) -> Path:
    """Write the page's example to a file, for this server."""
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (text,) = [block for block in found if "/uploads" in block]
    assert "http://127.0.0.1:9292" in text
    path = directory / f"example.{language}"
    path.write_text(text.replace("http://127.0.0.1:9292", server.url))
    (directory / "large.raw").write_bytes(DATA)
    return path


@pytest.mark.parametrize("language", ["python", pytest.param("javascript", marks=needs_node)])
def test_the_example_runs(api_server: Server, tmp_path: Path, language: str) -> None:
    script = example(language, api_server, tmp_path)
    program = sys.executable if language == "python" else "node"
    environment = {**os.environ, "NODE_PATH": str(NODE)}
    done = subprocess.run(
        [program, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180
    )
    assert (done.returncode, done.stderr) == (0, "")
    log = api_server.log.read_text()
    image_id = re.findall(r"method=POST path=/v2/images/([0-9a-f-]{36})/uploads ", log)[-1]
    assert_active(api_server, image_id, DATA)
