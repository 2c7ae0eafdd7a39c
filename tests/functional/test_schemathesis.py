"""The server against its own OpenAPI document: no 5xx, no status or body it doesn't tell of."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server_fixtures import PASSWORD, Server, write_users

BIN = Path(sys.executable).parent
HOOKS = Path(__file__).parents[1] / "schemathesis_hooks.py"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
)
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "4")
# In a short run one user is enough to send what is wrong with a request, whoever sends it.
SHORT = "SCHEMATHESIS_EXAMPLES" not in os.environ
SEED = os.environ.get("SCHEMATHESIS_SEED", "1")
SETTINGS = """\
image_cache_dir = {cache}
show_multiple_locations = true
show_image_direct_url = true
reap_interval = 1
enabled_import_methods = glance-direct, web-download, copy-image, glance-download
"""


class Setter:
    """Makes what path parameters may name."""

    def __init__(self, server: Server, headers: dict[str, str]) -> None:
        self._client = server.connect()
        self._headers = headers

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body)
        headers = {**self._headers, "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = kind
        self._client.request(method, f"/v2{path}", sent, headers)
        answer = self._client.getresponse()
        data = answer.read()
        assert answer.status < 300, data
        return json.loads(data) if data.startswith(b"{") else None

    def image(self, number: int) -> str:
        """Make an image: queued, uploading, active, deactivated or imported into two stores."""
        body = {"name": f"image {number}", "disk_format": "raw", "container_format": "bare", "color": "red"}
        image_id = str(self.ask("POST", "/images", body)["id"])
        self.ask("PUT", f"/images/{image_id}/tags/blue")
        self.ask("POST", f"/images/{image_id}/members", {"member": "p-bob"})
        state = number % 6
        if state:
            where = "stage" if state in (1, 5) else "file"
            self.ask("PUT", f"/images/{image_id}/{where}", b"x" * 1000, "application/octet-stream")
        if state == 4:
            self.ask("POST", f"/images/{image_id}/actions/deactivate")
        if state == 5:
            wanted = {"method": {"name": "glance-direct"}, "stores": ["disk", "ram"]}
            self.ask("POST", f"/images/{image_id}/import", wanted)
            self.wait(image_id)
        return image_id

    def upload(self, image_id: str) -> str:
        """Begin an upload in pieces."""
        headers = {**self._headers, "Tus-Resumable": "1.0.0", "Upload-Length": "1000"}
        self._client.request("POST", f"/v2/images/{image_id}/uploads", None, headers)
        answer = self._client.getresponse()
        answer.read()
        assert answer.status == 201
        return answer.headers["Location"].rpartition("/")[2]

    def wait(self, image_id: str) -> None:
        deadline = time.monotonic() + 60
        while self.ask("GET", f"/images/{image_id}")["status"] != "active":
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def task(self, image_id: str) -> str:
        (task,) = self.ask("GET", f"/images/{image_id}/tasks")["tasks"]
        return str(task["id"])

    def namespace(self, number: int) -> str:
        name = f"space {number}"
        definition = {"title": "Color", "type": "string"}
        self.ask(
            "POST",
            "/metadefs/namespaces",
            {
                "namespace": name,
                "visibility": "public",
                "properties": {"color": definition},
                "objects": [{"name": "color", "properties": {"color": definition}}],
                "tags": [{"name": "color"}],
                "resource_type_associations": [{"name": "color"}],
            },
        )
        return name


def known(own: Setter, admin: Setter) -> dict[str, list[str]]:
    """Make things of the caller's, and public namespaces, and return their names."""
    images = [own.image(number) for number in range(42)]
    return {
        "image_id": images,
        "task_id": [own.task(image_id) for image_id in images[5::6]],
        "namespace": [admin.namespace(number) for number in range(20)],
        "tag": ["blue"],
        "member_id": ["p-bob"],
        "upload_id": [own.upload(image_id) for image_id in images[0::6]],
        "store_id": ["disk", "ram"],
        "name": ["color"],
    }


def credentials(user: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{user}:{PASSWORD}".encode()).decode()}


@pytest.mark.slow
@pytest.mark.parametrize("admin", [True, False], ids=["administrator", "member"])
def test_the_server_does_what_its_document_tells(
    run_server: Callable[..., Server], tmp_path: Path, admin: bool
) -> None:
    extra = SETTINGS.format(cache=tmp_path / "cache")
    # Errors are JSON for whoever prefers that, HTML for the others.
    headers = {"Accept": "application/json"}
    if not admin:
        extra += f"auth_strategy = basic\nhttp_basic_auth_user_file = {write_users(tmp_path / 'users')}\n"
        headers = credentials("alice")
    server = run_server(threads=16, extra=extra)
    ids = tmp_path / "ids.json"
    administrator = Setter(server, {} if admin else credentials("admin"))
    ids.write_text(json.dumps(known(Setter(server, headers), administrator)))
    command: list[str | Path] = [
        *(BIN / "schemathesis", "run", f"{server.url}/v2/openapi.json"),
        *("--checks", ",".join(CHECKS)),
        *("--phases", "examples,fuzzing" if SHORT and not admin else "examples,coverage,fuzzing"),
        *("--max-examples", EXAMPLES, "--seed", SEED, "--generation-deterministic"),
        *("--suppress-health-check", "all", "--continue-on-failure", "--no-shrink"),
        *("--request-timeout", "30", "--warnings", "off"),
    ]
    for name, value in headers.items():
        command += ["--header", f"{name}:{value}"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS), "KNOWN_IDS": str(ids), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested is not None
    assert int(tested[1]) > 80
    log = server.log.read_text()
    assert "Traceback" not in log
    # It did reach what is there, or it would have tested little but 404.
    reached = set(re.findall(r"method=(\w+) path=/v2/images/[0-9a-f-]{36}(/\w+)?\S* status=2", log))
    assert {("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/file"), ("PUT", "/tags")} <= reached, (
        reached
    )
