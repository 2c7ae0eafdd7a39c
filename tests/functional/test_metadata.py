"""The metadata service: who is told what, and who isn't. Guests are processes that do as QEMU does."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
import urllib3

from novalite.admission import Guests
from novalite.api.metadata.identity import sign
from novalite.api.metadata.tokens import Tokens
from novalite.db import Database
from novalite.metadata import create_app
from novalite.model import NewServer, Server, Status
from novalite.testing.cloud import Cloud
from tests.compute_fixtures import KEY
from tests.server_fixtures import Server as Program
from tests.server_fixtures import start

SECRET = "only proxies know"
USER_DATA = b"#!/bin/sh\necho \xff"
CONFIG = f"""\
[DEFAULT]
compute_driver = fake
state_path = {{directory}}
metadata_listen_port = 0
[database]
connection = sqlite:///{{directory}}/novalite.sqlite
[neutron]
service_metadata_proxy = true
metadata_proxy_shared_secret = {SECRET}
"""
# A guest: it has the disk of its server open, and sends what it's told to.
GUEST = """
import json, os, sys, urllib.request
disk, url, method, headers = sys.argv[1:]
opened = os.open(disk, os.O_RDWR)
request = urllib.request.Request(url, method=method, headers=json.loads(headers))
try:
    answer = urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    answer = error
sys.stdout.write(json.dumps([answer.status, answer.read().decode("latin-1")]))
"""
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
SIGNATURE = "X-Instance-ID-Signature"


def by_proxy(server_id: str, **headers: str) -> dict[str, str]:
    signed = {"X-Instance-ID": server_id, SIGNATURE: sign(SECRET.encode(), server_id)}
    return {**signed, "X-Forwarded-For": "10.0.0.5", **headers}


class Site:
    """A cloud with two servers, and the program that serves their guests."""

    def __init__(self, directory: Path, cloud: Cloud) -> None:
        self.directory = directory
        self.cloud = cloud
        cloud.service.keypairs.import_key(cloud.caller, "mine", KEY)
        image = cloud.images.add(b"\0" * 512).id
        wanted = NewServer("web 1", image, "42", key_name="mine", metadata={"role": "web"})
        user_data = base64.b64encode(USER_DATA).decode()
        self.web = self.boot(replace(wanted, user_data=user_data))
        self.other = self.boot(NewServer("other", image, "42"))
        config_file = directory / "novalite.conf"
        config_file.write_text(CONFIG.format(directory=directory))
        self.program: Program = start(config_file, "novalite-metadata")
        self.http = urllib3.PoolManager(retries=False)
        self.emulator = directory / "qemu-system-test"
        self.emulator.symlink_to(sys.executable)

    def boot(self, wanted: NewServer) -> Server:
        (server,) = self.cloud.service.servers.create(self.cloud.caller, wanted)
        return self.cloud.wait(server.id, Status.ACTIVE)

    def ask(self, path: str, method: str = "GET", **headers: str) -> urllib3.BaseHTTPResponse:
        """Ask as a process that is no guest's."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.request(method, f"{self.program.url}{path}", headers=told)

    def guest(
        self, server: Server, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """Ask as a server's guest."""
        disk = self.directory / "instances" / server.id / "disk.qcow2"
        disk.parent.mkdir(parents=True, exist_ok=True)
        disk.touch()
        argv = [str(self.emulator), "-S", "-c", GUEST, str(disk), self.program.url + path, method]
        done = subprocess.run([*argv, json.dumps(headers or {})], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        status, text = json.loads(done.stdout)
        return status, text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("metadata")
    with Cloud(directory) as cloud:
        made = Site(directory, cloud)
        yield made
        made.http.clear()
        assert made.program.stop() == 0


# Who it is


def test_metadata_a_guest_is_known_by_its_connection(site: Site) -> None:
    for server in (site.web, site.other):
        status, text = site.guest(server, "/openstack/latest/meta_data.json")
        assert (status, json.loads(text)["uuid"]) == (200, server.id)


def test_metadata_no_header_makes_a_guest_another(site: Site) -> None:
    """Not even one with a signature that somebody has leaked: the connection is the guest's."""
    status, text = site.guest(site.other, "/latest/meta-data/hostname", headers=by_proxy(site.web.id))
    assert (status, text) == (200, "other")


def test_metadata_a_proxy_that_signs_is_believed(site: Site) -> None:
    answer = site.http.request(
        "GET", f"{site.program.url}/latest/meta-data/hostname", headers=by_proxy(site.web.id)
    )
    assert (answer.status, answer.data) == (200, b"web-1")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda headers, site: headers.clear(), 400),
        (lambda headers, site: headers.pop("X-Instance-ID"), 400),
        (lambda headers, site: headers.pop(SIGNATURE), 403),
        (lambda headers, site: headers.update({SIGNATURE: "0" * 64}), 403),
        (lambda headers, site: headers.update({SIGNATURE: "\xff"}), 403),
        (lambda headers, site: headers.update({"X-Instance-ID": site.other.id}), 403),
        (lambda headers, site: headers.update({SIGNATURE: sign(b"guessed", site.web.id)}), 403),
        (lambda headers, site: headers.update(by_proxy("00000000-0000-0000-0000-000000000000")), 404),
    ],
)
def test_metadata_others_are_refused(
    site: Site, change: Callable[[dict[str, str], Site], Any], status: int
) -> None:
    headers = by_proxy(site.web.id)
    change(headers, site)
    url = f"{site.program.url}/openstack/latest/user_data"
    answer = site.http.request("GET", url, headers=headers)
    assert answer.status == status, answer.data
    assert USER_DATA not in answer.data


# What it is told, and tokens: the application in this process, asked by a proxy


class Asked:
    def __init__(self, site: Site, *, require_token: bool = False) -> None:
        settings = site.cloud.settings("host1")
        self.now = 1000.0
        self.tokens = Tokens(clock=lambda: self.now)
        self.database = Database(settings.database.connection)
        self.database.open()
        told = replace(settings.metadata, shared_secret=SECRET, require_token=require_token)
        app = create_app(Guests(settings, self.database), told, self.tokens, None)
        self.client = falcon.testing.TestClient(app)

    def get(self, server: Server, path: str, **headers: str) -> falcon.testing.Result:
        return self.client.simulate_get(path, headers=by_proxy(server.id, **headers))

    def put(self, server: Server, path: str = "/latest/api/token", **headers: str) -> falcon.testing.Result:
        return self.client.simulate_put(path, headers=by_proxy(server.id, **headers))


@pytest.fixture(params=[False, True])
def asked(site: Site, request: pytest.FixtureRequest) -> Iterator[Asked]:
    made = Asked(site, require_token=request.param)
    yield made
    made.database.close()


@pytest.fixture
def free(site: Site) -> Iterator[Asked]:
    made = Asked(site)
    yield made
    made.database.close()


def test_metadata_both_forms_tell_the_server_as_it_is_now(site: Site, free: Asked) -> None:
    told = free.get(site.web, "/openstack/latest/meta_data.json")
    assert told.headers["content-type"] == "application/json"
    assert (told.json["name"], told.json["hostname"], told.json["meta"]) == (
        "web 1",
        "web-1",
        {"role": "web"},
    )
    assert told.json["public_keys"] == {"mine": KEY}
    assert free.get(site.web, "/openstack/latest/user_data").content == USER_DATA
    assert free.get(site.web, "/latest/user-data").content == USER_DATA
    assert free.get(site.web, "/2009-04-04/meta-data/public-keys/0/openssh-key/").text == KEY
    assert free.get(site.web, "/openstack/2013-10-17").text.split() == [
        *("meta_data.json", "vendor_data.json", "user_data")
    ]
    assert free.get(site.web, "/openstack/").text.split()[-1] == "latest"
    assert free.get(site.web, "/").text.split()[0] == "1.0"
    site.cloud.service.metadata.add(site.cloud.caller, site.other.id, {"new": "item"})
    assert free.get(site.other, "/openstack/latest/meta_data.json").json["meta"] == {"new": "item"}


@pytest.mark.parametrize(
    "path",
    [
        *("/openstack/latest/user_data", "/latest/user-data", "/latest/meta-data/public-keys"),
        *("/openstack/2012-08-10/vendor_data.json", "/openstack/2099-01-01", "/2099-01-01/", "/absent"),
        *("/openstack/latest/meta_data.json/x", "/openstack/latest/../../etc/passwd", "/latest/api/token"),
    ],
)
def test_metadata_what_there_isnt_is_not_found(site: Site, free: Asked, path: str) -> None:
    assert free.get(site.other, path).status_code == 404


def test_metadata_nobody_is_told_of_a_deleted_server(site: Site, free: Asked) -> None:
    gone = site.boot(NewServer("gone", site.web.image.id, "42"))
    assert free.get(gone, "/latest/meta-data").status_code == 200
    site.cloud.service.servers.delete(site.cloud.caller, gone.id)
    site.cloud.wait(gone.id, None)
    assert free.get(gone, "/latest/meta-data").status_code == 404


def test_metadata_a_token_is_good_for_its_guest_and_time(site: Site, asked: Asked) -> None:
    made = asked.put(site.web, **{TTL: "60"})
    assert (made.status_code, made.headers[TTL.lower()]) == (200, "60")
    assert asked.get(site.web, "/latest/meta-data/hostname", **{TOKEN: made.text}).text == "web-1"
    assert asked.get(site.other, "/latest/meta-data/hostname", **{TOKEN: made.text}).status_code == 401
    asked.now += 60
    assert asked.get(site.web, "/latest/meta-data/hostname", **{TOKEN: made.text}).status_code == 401


@pytest.mark.parametrize("token", ["", "x", "AAAA", "A" * 96, "\xe9"])
def test_metadata_a_wrong_token_is_worse_than_none(site: Site, asked: Asked, token: str) -> None:
    assert asked.get(site.web, "/latest/user-data", **{TOKEN: token}).status_code == 401


def test_metadata_tokens_can_be_demanded_of_both_forms(site: Site) -> None:
    strict = Asked(site, require_token=True)
    token = strict.put(site.web, **{TTL: "21600"}).text
    for path in ("/latest/meta-data", "/openstack", "/openstack/latest/user_data", "/"):
        assert strict.get(site.web, path).status_code == 401
        assert strict.get(site.web, path, **{TOKEN: token}).status_code == 200
    strict.database.close()


@pytest.mark.parametrize(
    "seconds", [None, "", "0", "21601", "-1", "1.5", "sixty", "9" * 5000, "000000001999999", "\u0663"]
)
def test_metadata_a_tokens_time_is_told_rightly_or_there_is_none(
    site: Site, free: Asked, seconds: str | None
) -> None:
    assert free.put(site.web, **({} if seconds is None else {TTL: seconds})).status_code == 400


def test_metadata_no_token_is_given_through_somebody_elses_proxy(site: Site, free: Asked) -> None:
    """Our own proxies name the guest; a proxy inside it has named somebody before."""
    status, _ = site.guest(site.web, "/latest/api/token", "PUT", {TTL: "60", "X-Forwarded-For": "10.1.1.1"})
    assert status == 403
    assert site.guest(site.web, "/latest/api/token", "PUT", {TTL: "60"})[0] == 200
    assert free.put(site.web, **{TTL: "60", "X-Forwarded-For": "10.1.1.1, 10.0.0.5"}).status_code == 403
    assert free.put(site.web, "/latest/meta-data", **{TTL: "60"}).status_code == 405
