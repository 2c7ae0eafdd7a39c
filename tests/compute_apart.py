"""Compute hosts in network namespaces, with one broker, one database and one image service beside them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests import nodes
from tests.compute_site import Site, of_its_own, opened
from tests.cutting_proxy import cutting
from tests.database_servers import DatabaseServer
from tests.leases import go_silent
from tests.rabbit_server import RabbitServer
from tests.server_fixtures import Server


class Apart(Site):
    """A site whose workers are in network namespaces, joined by a bridge that has the rest."""

    network: nodes.Network

    def _start(self, words: list[str], host: str, **values: Any) -> Any:
        if not host:
            return super()._start(words, host, **values)
        within = ["ip", "netns", "exec", self.of(host).name]
        return subprocess.Popen([*within, *words], stdin=subprocess.DEVNULL, **values)

    def of(self, host: str) -> nodes.Host:
        return self.network.hosts[self.hosts.index(host)]

    def state(self, host: str) -> str:
        (service,) = self.call("GET", f"/os-services?host={host}")["services"]
        return str(service["state"])

    def cut(self, host: str) -> None:
        """Pull the cable of a host's, and have it be silent since long."""
        self.of(host).cut()
        go_silent(self.url, host)

    def host_of(self, server_id: str) -> str:
        return str(self.call("GET", f"/servers/{server_id}")["server"]["OS-EXT-SRV-ATTR:host"])


@contextmanager
def running_apart(
    directory: Path,
    rabbit: RabbitServer,
    database: DatabaseServer,
    glance: Server,
    hosts: Sequence[str],
    *,
    options: Mapping[str, object],
    further: str = "",
    of_host: Callable[[str], str] = lambda _: "",
) -> Iterator[Apart]:
    """Run a site on hosts of their own, which reach what listens on loopback by the bridge's address."""
    with ExitStack() as stack:
        network = nodes.Network(len(hosts))
        stack.callback(network.close)

        def beside(url: str, port: int) -> str:
            there = stack.enter_context(cutting(port, network.address)).port
            return url.replace(f"127.0.0.1:{port}", f"{network.address}:{there}")

        addresses = dict(zip(hosts, (host.address for host in network.hosts), strict=True))
        url = stack.enter_context(of_its_own(directory, database))
        site = Apart(
            directory,
            queue=beside(rabbit.url, rabbit.port),
            database=beside(url, database.port),
            glance=beside(glance.url, glance.port),
            hosts=hosts,
            options=options,
            further=f"{further}\n[database]\nconnect_timeout = 2\n",
            of_host=lambda host: f"{of_host(host)}\n[DEFAULT]\nmy_ip = {addresses[host]}\n",
        )
        site.network = network
        yield stack.enter_context(opened(site))
