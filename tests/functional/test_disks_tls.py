"""Disks that go from host to host by TLS, and hosts that aren't given any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import urllib3.exceptions

from glancelike.web.auth import BasicAuth
from novalite.testing.cloud import Cloud
from tests.certificates import Authority
from tests.functional.test_compute_moves import Hosts, failed
from tests.server_fixtures import write_users
from tests.waiting import wait_for

HOSTS = ("one", "two", "stranger")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Two hosts of one authority, and one with a certificate of another, which trusts the first."""
    directory = tmp_path_factory.mktemp("tls")
    right, wrong = Authority(directory, "right"), Authority(directory, "wrong")
    told: dict[str, dict[tuple[str, str], Any]] = {}
    for host in HOSTS:
        cert, key = (wrong if host == "stranger" else right).issue(host)
        told[host] = {
            ("fake", "fake_directory"): str(directory / "guests" / host),
            ("DEFAULT", "my_ip"): "127.0.0.1",
            ("migration", "cert"): str(cert),
            ("migration", "key"): str(key),
            ("migration", "cafile"): str(right.path),
        }
    auth = BasicAuth({"http_basic_auth_user_file": str(write_users(directory / "users"))})
    auth.open()
    with Cloud(directory, hosts=HOSTS, host_options=told) as cloud:
        yield Hosts(cloud, auth, directory)


def move(hosts: Hosts, source: str, target: str, status: str) -> str:
    server_id = hosts.on(source)
    hosts.write(server_id, b"the guest's")
    hosts.cloud.service.moves.migrate(hosts.cloud.admin, server_id, target)
    hosts.wait(server_id, status)
    return server_id


def url_of(hosts: Hosts, host: str) -> str:
    compute = hosts.cloud.nodes[host].compute
    assert compute is not None
    return compute._disks.url


def test_a_disk_goes_by_tls_between_hosts_that_know_each_other(hosts: Hosts) -> None:
    assert url_of(hosts, "one").startswith("https://127.0.0.1:")
    server_id = move(hosts, "one", "two", "VERIFY_RESIZE")
    assert (hosts.host_of(server_id), hosts.disk("two", server_id)) == ("two", b"the guest's")


@pytest.mark.parametrize(
    ("source", "target", "why"),
    [
        ("one", "stranger", "alert unknown ca"),
        ("stranger", "one", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_a_host_with_another_certificate_gets_and_gives_nothing(
    hosts: Hosts, source: str, target: str, why: str
) -> None:
    server_id = move(hosts, source, target, "ACTIVE")
    assert (hosts.host_of(server_id), hosts.disk(source, server_id)) == (source, b"the guest's")
    fault = failed(hosts, server_id)
    assert why in fault
    assert "both hosts' [migration] cert and cafile have to agree" in fault
    assert hosts.migrations(server_id) == [("migration", "error", source, target)]
    wait_for("the other host lets go", lambda: hosts.disk(target, server_id) is None)
    assert hosts.claimed()[source]


def test_who_has_no_certificate_is_not_heard(hosts: Hosts, tmp_path: Path) -> None:
    trusted = str(hosts.directory / "right.pem")
    url = url_of(hosts, "one")
    with (
        urllib3.PoolManager(ca_certs=trusted, retries=False) as http,
        pytest.raises(urllib3.exceptions.SSLError, match="alert certificate required"),
    ):
        http.request("GET", f"{url}/disks/any")
    with urllib3.PoolManager(retries=False) as http, pytest.raises(urllib3.exceptions.HTTPError):
        http.request("GET", url.replace("https://", "http://") + "/disks/any")
