"""The server behind a real Keystone: its tokens, its clients, and its absence."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import falcon
import openstack
import openstack.exceptions
import pytest
from falcon.testing import create_req
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from glancelike.web.auth.keystone import KeystoneAuth
from tests.functional.test_clients import Client
from tests.keystone_fixtures import DEFAULT_DOMAIN, PASSWORD, REGION, Keystone
from tests.server_fixtures import BIN, Server, start, write_config
from tests.waiting import until

# openstacksdk warns of what it does itself.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
JSON = {"Accept": "application/json", "Content-Type": "application/json"}
OCTETS = {"Content-Type": "application/octet-stream"}
CHALLENGE = "WWW-Authenticate"


@dataclass
class Answer:
    status: int
    headers: HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Cloud:
    """A Keystone and an image server that is in its catalog."""

    keystone: Keystone
    server: Server

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Make a request; underscores in names of headers stand for hyphens."""
        client = self.server.connect()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        data = json.dumps(body) if body is not None else None
        client.request(method, path, data, {**JSON, **given})
        answer = client.getresponse()
        return Answer(answer.status, answer.headers, answer.read().decode())

    def image(self, token: str, **values: object) -> str:
        """Create an image and return its id."""
        made = self.ask("POST", "/v2/images", {"name": "i", **values}, X_Auth_Token=token)
        assert made.status == 201, made.text
        image_id: str = made.json["id"]
        return image_id


def serve(directory: Path, keystone: Keystone, more: str = "") -> Server:
    extra = f"auth_strategy = keystone\ndebug = true\n{keystone.authtoken()}{more}"
    return start(write_config(directory, extra=extra))


@pytest.fixture(scope="module")
def cloud(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Serve images for users alice and bob of two projects, and a reader of alice's."""
    keystone.grant("alice", "p-alice", "member")
    keystone.grant("bob", "p-bob", "member")
    keystone.grant("rita", "p-alice", "reader")
    keystone.grant("boss", "p-boss", "admin")
    server = serve(tmp_path_factory.mktemp("cloud"), keystone)
    keystone.add_endpoint("image", server.url)
    yield Cloud(keystone, server)
    assert server.stop() == 0


def client(cloud: Cloud, program: str, user: str, project: str) -> Client:
    environment = cloud.keystone.environment(user, project)
    return Client([str(BIN / program)], {**environment, "HOME": "/nonexistent"})


@pytest.mark.clients
def test_openstackclient_finds_the_server_by_the_catalog(cloud: Cloud, tmp_path: Path) -> None:
    alice = client(cloud, "openstack", "alice", "p-alice")
    data = tmp_path / "data"
    data.write_bytes(b"x" * 100_000)
    words = ("--disk-format", "raw", "--container-format", "bare", "--file", str(data), "-f", "json")
    made = json.loads(alice("image", "create", "keyed", *words))
    assert made["status"] == "active"
    rita = client(cloud, "openstack", "rita", "p-alice")
    assert "keyed" in rita("image", "list", "-f", "value", "-c", "Name").split()
    assert "403" in rita.refused("image", "create", "no", *words[:4])
    bob = client(cloud, "openstack", "bob", "p-bob")
    assert "keyed" not in bob("image", "list", "-f", "value", "-c", "Name")
    # --project asks Keystone for the project's id.
    boss = client(cloud, "openstack", "boss", "p-boss")
    boss("image", "add", "project", made["id"], cloud.keystone.add_project("p-bob"))
    bob("image", "set", "--accept", made["id"])
    assert "keyed" in bob("image", "list", "-f", "value", "-c", "Name").split()
    alice("image", "delete", made["id"])


@pytest.mark.clients
def test_glanceclient_logs_in(cloud: Cloud) -> None:
    alice = client(cloud, "glance", "alice", "p-alice")
    alice("image-create", "--name", "g", "--disk-format", "raw", "--container-format", "bare")
    row = next(line for line in alice("image-list").splitlines() if " g " in line)
    alice("image-delete", row.split()[1])
    environment = {**cloud.keystone.environment("alice", "p-alice"), "OS_PASSWORD": "wrong"}
    wrong = Client([str(BIN / "glance")], environment)
    assert "401" in wrong.refused("image-list")


def connect(cloud: Cloud, user: str, project: str) -> Any:
    auth = {
        "auth_url": cloud.keystone.url,
        "username": user,
        "password": PASSWORD,
        "project_name": project,
        "user_domain_id": DEFAULT_DOMAIN,
        "project_domain_id": DEFAULT_DOMAIN,
    }
    return openstack.connect(load_yaml_config=False, load_envvars=False, region_name=REGION, auth=auth)


def test_openstacksdk_with_roles(cloud: Cloud) -> None:
    with (
        connect(cloud, "alice", "p-alice") as alice,
        connect(cloud, "rita", "p-alice") as rita,
        connect(cloud, "boss", "p-boss") as boss,
    ):
        image = alice.create_image("sdk", data=b"abc", disk_format="raw", container_format="bare", wait=True)
        assert rita.image.get_image(image.id).status == "active"
        with pytest.raises(openstack.exceptions.ForbiddenException):
            rita.image.update_image(image.id, name="mine")
        with pytest.raises(openstack.exceptions.ForbiddenException):
            alice.image.update_image(image.id, visibility="public")
        assert boss.image.update_image(image.id, visibility="public").visibility == "public"
        assert boss.image.get_image(image.id).owner_id == cloud.keystone.add_project("p-alice")
        alice.image.delete_image(image.id)


def test_without_a_good_token_nobody_gets_in(cloud: Cloud) -> None:
    revoked = cloud.keystone.token("alice", "p-alice")
    cloud.keystone.admin.delete("/auth/tokens", headers={"X-Subject-Token": revoked})
    for headers in (
        {},
        {"X_Auth_Token": ""},
        {"X_Auth_Token": "garbage"},
        {"X_Auth_Token": revoked},
        {"X_Auth_Token": revoked[:-1]},
        {"X_Auth_Token": "x" * 4000},
        {"X_Auth_Token": "garbage", "X_Service_Token": cloud.keystone.token("image", "service")},
    ):
        answer = cloud.ask("GET", "/v2/images", **headers)
        assert answer.status == 401
        assert answer.headers[CHALLENGE] == f'Keystone uri="{cloud.keystone.url}"'
        assert answer.json["code"] == "401 Unauthorized"
    for path, status in (("/", 300), ("/versions", 200), ("/healthcheck", 200)):
        assert cloud.ask("GET", path, X_Auth_Token="garbage").status == status


def test_cve_2026_22797_no_header_makes_an_administrator(cloud: Cloud) -> None:
    spoofed = {
        **dict.fromkeys(("X_Identity_Status", "X_Service_Identity_Status"), "Confirmed"),
        **dict.fromkeys(("X_Roles", "X_Role", "X_Service_Roles", "X_User", "X_User_Id"), "admin"),
        **dict.fromkeys(("X_Project_Id", "X_Tenant_Id"), cloud.keystone.add_project("p-bob")),
        "X_Is_Admin_Project": "True",
        "OpenStack_System_Scope": "all",
        "X_Service_Catalog": "[]",
    }
    assert cloud.ask("GET", "/v2/images", **spoofed).status == 401
    hidden = cloud.image(cloud.keystone.token("bob", "p-bob"), visibility="private")
    rita = cloud.keystone.token("rita", "p-alice")
    assert cloud.ask("GET", f"/v2/images/{hidden}", X_Auth_Token=rita, **spoofed).status == 404
    assert cloud.ask("POST", "/v2/images", {"name": "x"}, X_Auth_Token=rita, **spoofed).status == 403


def test_tokens_of_another_scope_than_a_project(cloud: Cloud) -> None:
    image_id = cloud.image(cloud.keystone.token("boss", "p-boss"), visibility="public")
    domain_role = cloud.keystone.admin.get("/roles", params={"name": "admin"}).json()["roles"][0]["id"]
    user_id = cloud.keystone.grant("boss", "p-boss", "admin")
    cloud.keystone.admin.put(f"/domains/{DEFAULT_DOMAIN}/users/{user_id}/roles/{domain_role}")
    for token in (
        cloud.keystone.token("admin", system_scope="all"),
        cloud.keystone.token("boss", domain_id=DEFAULT_DOMAIN),
        cloud.keystone.token("alice", unscoped=True),
    ):
        assert cloud.ask("GET", "/v2/images", X_Auth_Token=token).status == 403
        assert cloud.ask("POST", "/v2/images", {"name": "x"}, X_Auth_Token=token).status == 403
        assert cloud.ask("GET", f"/v2/images/{image_id}", X_Auth_Token=token).status == 404
        assert cloud.ask("DELETE", f"/v2/images/{image_id}", X_Auth_Token=token).status in (403, 404)


def credential_token(keystone: Keystone, **wanted: object) -> str:
    """Return a token of an application credential of alice's."""
    session = keystone.session("alice", "p-alice")
    body = {"application_credential": {"name": f"{time.monotonic_ns()}", **wanted}}
    path = f"/users/{session.get_user_id()}/application_credentials"
    made = keystone.adapter(session).post(path, json=body).json()["application_credential"]
    login = v3.ApplicationCredential(keystone.url, made["secret"], application_credential_id=made["id"])
    token: str = Session(login).get_token()
    return token


def short_token(keystone: Keystone, seconds: int) -> str:
    """Return a token of alice's that runs out soon."""
    expires = datetime.now(UTC) + timedelta(seconds=seconds)
    return credential_token(keystone, expires_at=f"{expires:%Y-%m-%dT%H:%M:%SZ}")


def wait_for(status: int, ask: Callable[[], Answer]) -> None:
    deadline = time.monotonic() + 90
    while (answer := ask()).status != status:
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)


def test_a_token_that_runs_out(cloud: Cloud) -> None:
    alice = cloud.keystone.token("alice", "p-alice")

    def shown() -> Any:
        return cloud.ask("GET", f"/v2/images/{image_id}", X_Auth_Token=alice).json

    for seconds in (4, 60):  # the longer if the machine stood still for all of the shorter
        ends = time.monotonic() + seconds - 1  # times are told in whole seconds
        token = short_token(cloud.keystone, seconds)
        found = cloud.ask("GET", "/v2/images", X_Auth_Token=token).status
        image_id = cloud.image(alice, disk_format="raw", container_format="bare")
        upload = cloud.server.connect()
        upload.putrequest("PUT", f"/v2/images/{image_id}/file")
        for name, value in {**OCTETS, "X-Auth-Token": token, "Content-Length": "200000"}.items():
            upload.putheader(name, value)
        upload.endheaders(b"x" * 100_000)
        until(lambda: shown()["status"] == "saving" or time.monotonic() > ends)  # noqa: B023
        if time.monotonic() < ends:
            break
    assert found == 200
    # Remembered or not, it is refused once its time is over; what had begun goes on to its end.
    wait_for(401, lambda: cloud.ask("GET", "/v2/images", X_Auth_Token=token))
    upload.send(b"x" * 100_000)
    assert upload.getresponse().status == 204
    assert (shown()["status"], shown()["size"]) == ("active", 200_000)


def test_a_credential_may_do_what_its_rules_say(cloud: Cloud) -> None:
    rule = {"service": "image", "method": "GET", "path": "/v2/images"}
    token = credential_token(cloud.keystone, access_rules=[rule])
    for _ in range(2):
        assert cloud.ask("GET", "/v2/images", X_Auth_Token=token).status == 200
        assert cloud.ask("GET", "/v2/schemas/image", X_Auth_Token=token).status == 401
        assert cloud.ask("POST", "/v2/images", {"name": "x"}, X_Auth_Token=token).status == 401
        # Nor does anybody's token in the place of a service's lift the rules.
        answer = cloud.ask("GET", "/v2/schemas/image", X_Auth_Token=token, X_Service_Token="garbage")
        assert answer.status == 401


def test_a_service_passes_a_users_request_on(cloud: Cloud) -> None:
    service = cloud.keystone.token("image", "service")
    alice = cloud.keystone.token("alice", "p-alice")
    assert cloud.ask("GET", "/v2/images", X_Auth_Token=alice, X_Service_Token=service).status == 200
    # Tokens that aren't a service's count for nothing, and don't stand in the user's way.
    for other in (cloud.keystone.token("bob", "p-bob"), "garbage", "caf\xe9"):
        assert cloud.ask("GET", "/v2/images", X_Auth_Token=alice, X_Service_Token=other).status == 200
    # The user is the one who asks, not the service.
    image_id = cloud.image(alice)
    bob = cloud.keystone.token("bob", "p-bob")
    answer = cloud.ask("GET", f"/v2/images/{image_id}", X_Auth_Token=bob, X_Service_Token=service)
    assert answer.status == 404


def test_a_service_may_finish_what_an_expired_token_began(cloud: Cloud) -> None:
    token = short_token(cloud.keystone, 2)
    wait_for(401, lambda: cloud.ask("GET", "/v2/images", X_Auth_Token=token))
    service = cloud.keystone.token("image", "service")
    bob = cloud.keystone.token("bob", "p-bob")
    assert cloud.ask("GET", "/v2/images", X_Auth_Token=token, X_Service_Token=bob).status == 401
    assert cloud.ask("GET", "/v2/images", X_Auth_Token=token, X_Service_Token=service).status == 200
    assert cloud.ask("GET", "/v2/images", X_Auth_Token=token).status == 401


def test_a_token_is_asked_about_once(cloud: Cloud) -> None:
    token = cloud.keystone.token("alice", "p-alice")
    before = cloud.keystone.validations()
    for _ in range(5):
        assert cloud.ask("GET", "/v2/images", X_Auth_Token=token).status == 200
    assert cloud.keystone.validations() == before + 1


def open_auth(keystone: Keystone, **settings: object) -> KeystoneAuth:
    """Return the plugin alone, in this process."""
    login = {"username": "image", "password": PASSWORD, "project_name": "service"}
    domains = {"project_domain_id": DEFAULT_DOMAIN, "user_domain_id": DEFAULT_DOMAIN}
    auth = KeystoneAuth({"auth_url": keystone.url, **login, **domains, **settings})
    auth.open()
    return auth


# oslo.cache takes eventlet where it finds it, which warns; python-memcached leaves a
# socket that isn't connected to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore:\\s*Eventlet is deprecated", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_without_its_memcached_the_server_goes_on(cloud: Cloud) -> None:
    auth = open_auth(cloud.keystone, memcached_servers=["127.0.0.1:1"], memcache_pool_socket_timeout=1)
    caller = auth.authenticate(create_req(headers={"X-Auth-Token": cloud.keystone.token("alice", "p-alice")}))
    assert caller.roles == {"member", "reader"}
    assert caller.project == cloud.keystone.add_project("p-alice")
    assert caller.credentials is not None
    assert {service["type"] for service in caller.credentials.catalog} >= {"identity", "image"}


def test_a_server_that_keystone_refuses_blames_itself(cloud: Cloud) -> None:
    auth = open_auth(cloud.keystone, password="wrong")
    with pytest.raises(falcon.HTTPServiceUnavailable):
        auth.authenticate(create_req(headers={"X-Auth-Token": cloud.keystone.token("alice", "p-alice")}))


def test_the_service_is_told_from_the_user(cloud: Cloud) -> None:
    alice, service = cloud.keystone.token("alice", "p-alice"), cloud.keystone.token("image", "service")
    auth = open_auth(cloud.keystone)
    headers = {"X-Auth-Token": alice, "X-Service-Token": service}
    for _ in range(2):
        assert "service" in auth.authenticate(create_req(headers=headers)).service_roles
        assert auth.authenticate(create_req(headers={"X-Auth-Token": alice})).service_roles == frozenset()
    headers["X-Service-Token"] = cloud.keystone.token("bob", "p-bob")
    assert auth.authenticate(create_req(headers=headers)).service_roles == frozenset()


def test_no_token_is_ever_logged(cloud: Cloud) -> None:
    good, service = cloud.keystone.token("alice", "p-alice"), cloud.keystone.token("image", "service")
    bad = good[:-4] + "AAAA"
    for token in (good, bad):
        cloud.ask("GET", "/v2/images", X_Auth_Token=token, X_Service_Token=service)
    log = cloud.server.log.read_text()
    for token in (good, bad, service, PASSWORD):
        assert token not in log
        assert token[:40] not in log


def test_keystone_goes_away(tmp_path: Path) -> None:
    (tmp_path / "keystone").mkdir()
    (tmp_path / "server").mkdir()
    keystone = Keystone(tmp_path / "keystone")
    server = None
    try:
        keystone.grant("alice", "p-alice", "member")
        server = serve(tmp_path / "server", keystone, "http_request_max_retries = 0\n")
        cloud = Cloud(keystone, server)
        known, new = keystone.token("alice", "p-alice"), keystone.token("alice", "p-alice")
        assert cloud.ask("GET", "/v2/images", X_Auth_Token=known).status == 200
        keystone.stop()
        away = cloud.ask("GET", "/v2/images", X_Auth_Token=new)
        assert (away.status, away.headers["Retry-After"]) == (503, "5")
        assert "Identity service" in away.json["message"]
        assert cloud.ask("GET", "/v2/images", X_Auth_Token=known).status == 200
        assert cloud.ask("GET", "/v2/images").status == 401
        assert cloud.ask("GET", "/healthcheck").status == 200
    finally:
        keystone.stop()
        if server is not None:
            server.stop()
