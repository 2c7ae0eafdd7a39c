"""A demonstration of many hosts: ``python -m tests.demo_hosts [--keep]``, as root.

Three compute hosts, each in a network namespace and with a libvirtd of its own,
one RabbitMQ, one PostgreSQL, one image service. A guest boots on each, one moves with
its disk, a host is cut off and its guests are evacuated, and it comes back. All of it is gone
afterwards; ``--keep`` waits for Ctrl-C before, and says how OpenStack's clients get there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.console import Console

from novalite.quickstart import guest_image
from novalite.quickstart.cloud import CLOUDS_YAML
from novalite.quickstart.libvirtd import start_private
from tests import nodes, server_fixtures
from tests.compute_apart import Apart, running_apart
from tests.compute_site import upload
from tests.database_servers import PostgresServer
from tests.rabbit_server import RabbitServer

HOSTS = ("north", "east", "south")
READY = "NOVALITE-GUEST ready"
OUT = Console(highlight=False)


@contextmanager
def cloud(folder: Path) -> Iterator[tuple[Apart, str]]:
    """Run all of it; give the site and the image service's URL."""
    with ExitStack() as stack:
        rabbit = RabbitServer(folder / "mq")
        stack.callback(rabbit.stop)
        database = PostgresServer(folder / "pg")
        stack.callback(database.stop)
        (folder / "images").mkdir()
        glance = server_fixtures.start(server_fixtures.write_config(folder / "images"))
        stack.callback(glance.stop)
        uris = {host: stack.enter_context(start_private(folder / host)).uri for host in HOSTS}
        site = stack.enter_context(
            running_apart(
                *(folder / "site", rabbit, database, glance, HOSTS),
                options={"compute_driver": "libvirt", "service_down_time": 3, "sync_power_state_interval": 1},
                further="\n[libvirt]\nvirt_type = auto\nshutdown_timeout = 5\n",
                of_host=lambda host: f"[libvirt]\nconnection_uri = {uris[host]}\n",
            )
        )
        yield site, glance.url


def told(site: Apart, servers: dict[str, str], what: str) -> None:
    """Print where the servers are, and how."""
    OUT.print(f"[bold]{what}[/]")
    for server_id, name in servers.items():
        server = site.call("GET", f"/servers/{server_id}")["server"]
        host = server["OS-EXT-SRV-ATTR:host"]
        OUT.print(f"  {name:6} {server['status']:14} on {host} ({server['host_status']})")


def boots(site: Apart, server_id: str, times: int = 1) -> None:
    """Wait until a guest has said that it is ready."""
    deadline = time.monotonic() + 300
    while str(site.act(server_id, "os-getConsoleOutput", {})["output"]).count(READY) < times:
        if time.monotonic() > deadline:
            sys.exit("the guest doesn't come up")
        time.sleep(0.2)


def shown(site: Apart, glance: str, image: Path) -> dict[str, str]:
    """Show what hosts do for one another; return the servers by id."""
    image_id = upload(glance, image.read_bytes(), "qcow2")
    servers = {site.boot(image_id, name): name for name in ("red", "green", "blue")}
    for server_id in servers:
        site.wait(server_id, "ACTIVE")
        boots(site, server_id)
    told(site, servers, "A guest on each host, up by its own word:")
    moving, *_ = servers
    site.act(moving, "migrate")
    site.wait(moving, "VERIFY_RESIZE")
    boots(site, moving)
    told(site, servers, "The first has moved, with its disk, over the bridge:")
    site.act(moving, "confirmResize")
    site.wait(moving, "ACTIVE")
    lost = site.host_of(moving)
    dead = [server_id for server_id in servers if site.host_of(server_id) == lost]
    site.of(lost).cut()
    while site.state(lost) != "down":
        time.sleep(0.2)
    told(site, servers, f"The cable of {lost} is pulled:")
    for server_id in dead:
        site.act(server_id, "evacuate", {})
    for server_id in dead:
        site.wait(server_id, "ACTIVE")
        boots(site, server_id)
    told(site, servers, "Its guests are made anew elsewhere:")
    site.of(lost).restore()
    while site.state(lost) != "up" or any((site.instances(lost) / each).exists() for each in dead):
        time.sleep(0.2)
    told(site, servers, f"{lost} is back, and has dropped what isn't its own any more:")
    return servers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="wait for Ctrl-C at the end")
    parser.add_argument("--guest-cache", type=Path, help="where the demonstration guest's image is kept")
    arguments = parser.parse_args()
    if reason := nodes.missing() or RabbitServer.missing():
        sys.exit(reason)
    folder = Path(tempfile.mkdtemp(prefix="nl-", dir="/tmp"))  # short enough for sockets' paths
    folder.chmod(0o755)
    try:
        image = guest_image.build(arguments.guest_cache or folder / "guest")
        with cloud(folder) as (site, glance):
            servers = shown(site, glance, image)
            if arguments.keep and site.api is not None:
                ports = {"image_port": glance.rpartition(":")[2], "compute_port": site.api.port}
                (folder / "clouds.yaml").write_text(CLOUDS_YAML.format(**ports))
                OUT.print(
                    f"OS_CLIENT_CONFIG_FILE={folder}/clouds.yaml OS_CLOUD=quickstart openstack server list"
                )
                OUT.print("Ctrl-C ends all.")
                with suppress(KeyboardInterrupt):
                    while True:
                        time.sleep(1)
            for server_id in servers:
                site.call("DELETE", f"/servers/{server_id}")
                site.wait(server_id, "gone")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
