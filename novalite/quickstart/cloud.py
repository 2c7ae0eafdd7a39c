"""The servers of the quickstart, and talking to them as any client would."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import urllib3

from novalite.quickstart import metadata_address
from novalite.quickstart.processes import QuickstartError, Server, answers

START_SECONDS = 60.0
BIN = Path(sys.executable).parent

GLANCELIKE_CONF = """[DEFAULT]
bind_port = {image_port}
state_path = {state}/image
"""

NOVALITE_CONF = """[DEFAULT]
osapi_compute_listen_port = {compute_port}
state_path = {state}/compute
reserved_host_memory_mb = 0
{metadata}

[serial_console]
enabled = true
base_url = ws://127.0.0.1:{console_port}/
serialproxy_port = {console_port}

[database]
auto_upgrade = true

[glance]
endpoint_override = http://127.0.0.1:{image_port}

[libvirt]
connection_uri = {uri}
"""

METADATA_CONF = f"""metadata_listen = {metadata_address.ADDRESS}
metadata_listen_port = {metadata_address.PORT}"""

CLOUDS_YAML = """clouds:
  quickstart:
    auth_type: none
    image_endpoint_override: http://127.0.0.1:{image_port}
    compute_endpoint_override: http://127.0.0.1:{compute_port}/v2.1
    identity_api_version: "3"
    identity_endpoint_override: http://127.0.0.1:{compute_port}/v3
"""


class Cloud:
    """Image API and compute, on loopback, with their state under one directory."""

    def __init__(self, state: Path, image_port: int, compute_port: int, console_port: int) -> None:
        self.state = state
        self.image_url = f"http://127.0.0.1:{image_port}"
        self.compute_url = f"http://127.0.0.1:{compute_port}/v2.1"
        self._ports = {
            "image_port": image_port,
            "compute_port": compute_port,
            "console_port": console_port,
        }
        self._servers: list[Server] = []
        self._http = urllib3.PoolManager(retries=False, timeout=60)

    def start(self, libvirt_uri: str, *, metadata: bool = False) -> None:
        """Write the configuration, bring the schemas up to date, start the servers.

        With ``metadata`` guests are served at 169.254.169.254, which is here already.
        """
        (self.state / "image").mkdir(parents=True, exist_ok=True)
        (self.state / "compute").mkdir(parents=True, exist_ok=True)
        (self.state / "log").mkdir(exist_ok=True)
        image_conf, compute_conf = self.state / "glancelike.conf", self.state / "novalite.conf"
        values = {**self._ports, "state": self.state, "uri": libvirt_uri}
        values["metadata"] = METADATA_CONF if metadata else ""
        image_conf.write_text(GLANCELIKE_CONF.format(**values))
        compute_conf.write_text(NOVALITE_CONF.format(**values))
        (self.state / "clouds.yaml").write_text(CLOUDS_YAML.format(**values))
        self._run("glancelike", "--config-file", str(image_conf), "db", "upgrade")
        local = "127.0.0.1"
        servers = [
            ("glancelike-api", image_conf, (self._ports["image_port"], local)),
            ("novalite-all", compute_conf, (self._ports["compute_port"], local)),
        ]
        if metadata:
            address = (metadata_address.PORT, metadata_address.ADDRESS)
            servers.append(("novalite-metadata", compute_conf, address))
        for name, conf, place in servers:
            argv = [str(BIN / name), "--config-file", str(conf)]
            self._servers.append(Server(name, argv, self.state / "log" / f"{name}.log"))
            self._servers[-1].wait_until(lambda place=place: answers(*place), START_SECONDS)  # type: ignore[misc]

    def stop(self) -> None:
        """End the servers, those that need others first."""
        self._http.clear()  # or the servers wait for what might still come
        for server in reversed(self._servers):
            server.stop()
        self._servers.clear()

    def check(self) -> None:
        """Raise QuickstartError when a server has ended."""
        for server in self._servers:
            server.check()

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(BIN / program), *arguments], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise QuickstartError(f"{program} {' '.join(arguments)} ended with status {done.returncode}")
        return done.stdout

    def upload(self, image: Path, name: str) -> dict[str, Any]:
        """Upload with the command-line client, which draws the progress bar."""
        said = self._run(
            "glancelike",
            "--url",
            self.image_url,
            "image",
            "create",
            name,
            *("--disk-format", "qcow2", "--file", str(image), "--json"),
        )
        record: dict[str, Any] = json.loads(said)
        return record

    def _call(self, method: str, url: str, **kwargs: Any) -> Any:
        """Send a request; return the JSON of the answer, None where it has none."""
        try:
            answer = self._http.request(method, url, **kwargs)
        except urllib3.exceptions.HTTPError as error:
            self.check()
            raise QuickstartError(f"{method} {url}: {error}") from error
        gone = method == "DELETE" and answer.status == 404  # its user was faster
        if answer.status >= 400 and not gone:
            raise QuickstartError(f"{method} {url}: HTTP {answer.status}: {answer.data[:500]!r}")
        return answer.json() if answer.data and not gone else None

    def boot(self, name: str, image_id: str) -> str:
        """Ask for a server of the smallest flavor; return its id."""
        flavors = self._call("GET", f"{self.compute_url}/flavors/detail")["flavors"]
        # The guest needs some 100 MiB; the disk must be able to hold its image.
        flavor = min((f for f in flavors if f["ram"] >= 128), key=lambda f: (f["ram"], f["disk"]))
        body = {
            "server": {"name": name, "imageRef": image_id, "flavorRef": flavor["id"], "config_drive": True}
        }
        created = self._call("POST", f"{self.compute_url}/servers", json=body)
        return str(created["server"]["id"])

    def show(self, server_id: str) -> dict[str, Any]:
        """Return the server's record."""
        server: dict[str, Any] = self._call("GET", f"{self.compute_url}/servers/{server_id}")["server"]
        return server

    def console(self, server_id: str) -> str:
        """Return the serial console's log so far."""
        answer = self._call(
            "POST", f"{self.compute_url}/servers/{server_id}/action", json={"os-getConsoleOutput": {}}
        )
        return str(answer["output"])

    def follow(self, server_id: str, seconds: float) -> Iterator[str]:
        """Yield the console's lines as they come, until time is up.

        Raises QuickstartError when the server goes to ERROR, or time is up.
        """
        seen = 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            server = self.show(server_id)
            if server["status"] == "ERROR":
                why = server.get("fault", {}).get("message", "no reason given")
                raise QuickstartError(f"the server went to ERROR: {why}")
            if server["status"] == "ACTIVE":
                lines = self.console(server_id).split("\n")
                # The last piece has no end of line yet.
                yield from lines[seen:-1]
                seen = max(seen, len(lines) - 1)
            time.sleep(0.25)
        raise QuickstartError(f"the guest did not report within {seconds:.0f} s")

    def remove(self, server_id: str | None, image_id: str | None) -> None:
        """Remove the demonstration's server and image."""
        if server_id is not None:
            self._call("DELETE", f"{self.compute_url}/servers/{server_id}")
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                with suppress(QuickstartError):
                    self.show(server_id)
                    time.sleep(0.1)
                    continue
                break
        if image_id is not None:
            self._call("DELETE", f"{self.image_url}/v2/images/{image_id}")
