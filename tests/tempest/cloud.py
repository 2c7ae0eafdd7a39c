"""A small cloud for Tempest: a Keystone, two image servers, and images to import."""

from __future__ import annotations

import functools
import http.server
import subprocess
import threading
from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.keystone_fixtures import PASSWORD, REGION, Keystone
from tests.server_fixtures import BIN, Server, start
from tests.tempest import features
from tests.tempest.images import make_images

TEMPEST = {
    "DEFAULT": {"log_file": "{directory}/tempest.log"},
    "oslo_concurrency": {"lock_path": "{directory}/locks"},
    "auth": {
        "use_dynamic_credentials": "True",
        "create_isolated_networks": "False",
        "admin_username": "admin",
        "admin_password": PASSWORD,
        "admin_project_name": "admin",
        "admin_domain_name": "Default",
        "default_credentials_domain_name": "Default",
    },
    "identity": {"auth_version": "v3", "uri_v3": "{keystone}", "region": REGION},
    "identity-feature-enabled": {"api_v2": "False"},
    "validation": {"run_validation": "False"},
}


@dataclass(frozen=True)
class Cloud:
    """Where things are: the directory with tempest.conf, and the servers."""

    directory: Path
    servers: tuple[Server, ...]


@contextmanager
def cloud(directory: Path, ready: Set[str] = features.READY) -> Iterator[Cloud]:
    """Run everything that Tempest needs, in ``directory``, and end it."""
    with ExitStack() as stack:
        images = directory / "images"
        make_images(images)
        data = stack.enter_context(data_server(images))
        (directory / "keystone").mkdir()
        keystone = Keystone(directory / "keystone")
        stack.callback(keystone.stop)
        servers = []
        for service in ("image", "image_alternate"):
            path = write_node(directory, service, keystone, data, ready)
            if not servers:
                manage(path, "db", "upgrade")
                manage(path, "metadefs", "load")
            servers.append(start(path))
            stack.callback(servers[-1].stop)
            keystone.add_endpoint(service, servers[-1].url)
        sections = {**TEMPEST, **features.merged("tempest", ready)}
        places = {"directory": str(directory), "keystone": keystone.url, "data": data, "images": str(images)}
        (directory / "tempest.conf").write_text(features.written(sections, **places))
        yield Cloud(directory, tuple(servers))


def write_node(directory: Path, name: str, keystone: Keystone, data: str, ready: Set[str]) -> Path:
    """Write a server's configuration; what is shared lies beside the nodes."""
    node, shared = directory / name, directory / "shared"
    node.mkdir()
    shared.mkdir(exist_ok=True)
    sections = features.merged("server", ready)
    sections["DEFAULT"]["state_path"] = str(shared)
    for store in ("alpha", "beta"):
        sections.setdefault(store, {})["filesystem_store_datadir"] = str(shared / store)
    path = node / "glancelike.conf"
    text = features.written(sections, data=data, node=str(node), images=str(directory / "images"))
    path.write_text(text + keystone.authtoken())
    return path


def manage(path: Path, *words: str) -> None:
    """Run ``glancelike`` as an operator does."""
    subprocess.run(
        [str(BIN / "glancelike"), "--config-file", str(path), *words],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def data_server(directory: Path) -> Iterator[str]:
    """Serve a directory by HTTP and give its URL."""
    handler = functools.partial(_Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
