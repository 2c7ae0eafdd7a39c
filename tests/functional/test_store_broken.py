"""A server serves its other stores, whatever is wrong with one driver's code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.broken_plugins import SECRET, write_distribution
from tests.server_fixtures import start, write_config

BROKEN = {"unloadable": "needslibrary", "unmakeable": "raisesinit", "closed": "raisesopen"}


def test_a_server_with_broken_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(write_distribution(tmp_path / "broken")), prepend=os.pathsep)
    config_file = write_config(tmp_path)
    enabled = "".join(f", {name}:{driver}" for name, driver in BROKEN.items())
    text = config_file.read_text().replace("ram:memory", f"ram:memory{enabled}")
    config_file.write_text(f"{text}[unloadable]\nwhat = it reads\n[closed]\nbroken_password = {SECRET}\n")
    server = start(config_file)
    try:
        client = server.connect()

        def call(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
            client.request(method, path, body, {name.replace("_", "-"): headers[name] for name in headers})
            answer = client.getresponse()
            return answer.status, answer.read()

        def image() -> str:
            body = json.dumps({"disk_format": "raw", "container_format": "bare"}).encode()
            status, made = call("POST", "/v2/images", body, Content_Type="application/json")
            assert status == 201
            return f"/v2/images/{json.loads(made)['id']}/file"

        octets = "application/octet-stream"
        good = image()
        assert call("PUT", good, b"x" * 100_000, Content_Type=octets)[0] == 204
        assert call("GET", good) == (200, b"x" * 100_000)
        for name in BROKEN:
            status, said = call("PUT", image(), b"x", Content_Type=octets, X_Image_Meta_Store=name)
            assert status in (500, 503), said
        told = {each["id"]: each for each in json.loads(call("GET", "/v2/info/stores/detail")[1])["stores"]}
        assert "no_such_library" in told["unloadable"]["unavailable"]
        assert "unavailable" not in told["disk"]
    finally:
        server.stop()
    log = server.log.read_text()
    assert "store 'unloadable' can't be used, the others can" in log
    assert "store 'unmakeable' can't be used, the others can" in log
    assert SECRET not in log
