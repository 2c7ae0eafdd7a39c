"""The keystone auth plugin without a Keystone: settings, refusals, spoofed headers."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import falcon
import falcon.testing
import pytest
from keystonemiddleware.auth_token import _request

from glancelike import config
from glancelike.errors import ConfigError
from glancelike.web import app as web
from glancelike.web.auth import NoneAuth
from glancelike.web.auth.keystone import KeystoneAuth
from glancelike.web.auth.memory import Memory
from glancelike.web.errors import ErrorTable
from glancelike.web.routes import Route
from novalite import config as compute
from novalite.errors import ConfigError as ComputeConfigError

# As in the installation guide of an image service.
SECTION = """\
[DEFAULT]
auth_strategy = keystone
[keystone_authtoken]
www_authenticate_uri = http://controller:5000
auth_url = http://controller:5000
memcached_servers = controller:11211
auth_type = password
project_domain_name = Default
user_domain_name = Default
project_name = service
username = glance
password = GLANCE_PASS
service_token_roles_required = true
"""


def load(tmp_path: Path, text: str) -> config.Config:
    file = tmp_path / "glancelike.conf"
    file.write_text(text)
    return config.load(["--config-file", str(file)])


def make(**settings: object) -> KeystoneAuth:
    usual = {"username": "image", "password": "secret", "http_request_max_retries": 0}
    auth = KeystoneAuth({"auth_url": "http://127.0.0.1:1/v3", **usual, **settings})
    auth.open()
    return auth


def request(**headers: str) -> falcon.Request:
    return falcon.testing.create_req(
        headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def test_an_operators_section_is_read_as_it_is(tmp_path: Path) -> None:
    auth = load(tmp_path, SECTION).auth
    assert auth.plugin is KeystoneAuth
    assert auth.settings["memcached_servers"] == ["controller:11211"]
    assert (auth.settings["username"], auth.settings["password"]) == ("glance", "GLANCE_PASS")
    assert (auth.settings["token_cache_time"], auth.settings["http_connect_timeout"]) == (300, 10)


def test_the_type_of_authentication_decides_on_the_options(tmp_path: Path) -> None:
    text = "[DEFAULT]\nauth_strategy = keystone\n[keystone_authtoken]\nauth_type = v3applicationcredential\n"
    ids = "application_credential_id = a\napplication_credential_secret = b\n"
    assert load(tmp_path, text + ids).auth.settings["application_credential_secret"] == "b"
    with pytest.raises(ConfigError, match=r"unknown option application_credential_id in \[keystone_auth"):
        load(tmp_path, SECTION + ids)


def test_the_compute_takes_the_same_section(tmp_path: Path) -> None:
    file = tmp_path / "novalite.conf"
    text = SECTION.replace("[DEFAULT]\nauth_strategy", "[api]\nauth_strategy")
    file.write_text(text)
    api = compute.load(config_files=[str(file)]).api
    assert api.auth is KeystoneAuth
    assert api.auth_settings["username"] == "glance"
    file.write_text(f"{text}token_cash_time = 3\n")
    with pytest.raises(ComputeConfigError, match="unknown option token_cash_time"):
        compute.load(config_files=[str(file)])


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ("token_cash_time = 3\n", r"unknown option token_cash_time in \[keystone_authtoken\]"),
        ("auth_section = other\n", "unknown option auth_section"),
        ("token_cache_time = long\n", r"\[keystone_authtoken\] token_cache_time"),
        ("auth_type = magic\n", r"\[keystone_authtoken\] auth_type: .*magic"),
        (
            "[glance_store]\ndefault_backend = x\n[keystone]\na = b\n",
            r"nothing reads the section \[keystone\]",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, more: str, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        load(tmp_path, SECTION + more)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keystonemiddleware.opts", None)
    with pytest.raises(ConfigError, match=r"pip install glancelike\[keystone\]"):
        load(tmp_path, SECTION)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"auth_url": None}, "auth_url|auth-url"),
        ({"cafile": "/nowhere.pem"}, "cafile: /nowhere.pem"),
        ({"memcache_security_strategy": "MAC"}, "memcache_secret_key"),
    ],
)
def test_settings_that_cannot_work_stop_the_start(settings: dict[str, object], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        make(**settings)


@pytest.mark.parametrize("token", ["", " ", "two words", "caf\xe9", "a\x01b"])
def test_what_cannot_be_a_token_is_refused_unasked(token: str) -> None:
    auth = make(www_authenticate_uri="https://public:5000")
    with pytest.raises(falcon.HTTPUnauthorized) as refused:
        auth.authenticate(falcon.testing.create_req(headers={"X-Auth-Token": token}))
    assert refused.value.headers == {"WWW-Authenticate": 'Keystone uri="https://public:5000"'}


def test_a_keystone_that_is_away_is_503() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        auth = make(auth_url=f"http://127.0.0.1:{unused.getsockname()[1]}/v3")
        with pytest.raises(falcon.HTTPServiceUnavailable):
            auth.authenticate(request(X_Auth_Token="token"))


def test_a_keystone_that_says_nothing_is_503() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        auth = make(auth_url=f"http://127.0.0.1:{silent.getsockname()[1]}/v3", http_connect_timeout=1)
        with pytest.raises(falcon.HTTPServiceUnavailable):
            auth.authenticate(request(X_Auth_Token="token", X_Service_Token="token"))


class Seen:
    """A resource that tells which headers have come through."""

    def show(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = sorted(name for name in req.env if name.startswith("HTTP_"))


@pytest.fixture
def seen() -> falcon.testing.TestClient:
    def render(req: falcon.Request, resp: falcon.Response, status: int, message: str) -> None:
        resp.text = message

    routes = [Route("GET", "/", Seen, "show")]
    auth = NoneAuth({})
    app = web.build(routes, lambda resource: resource(), auth, ErrorTable(ConfigError, {}), render)
    return falcon.testing.TestClient(app)


def identity_headers() -> list[str]:
    """Name every header that keystonemiddleware sets, and those its relatives do."""
    names = {*_request._AuthTokenRequest({})._all_auth_headers(), "OpenStack-System-Scope"}
    return sorted(names | {"X-Token-Info", "X-Service-Tenant-Id", "X-Trust-Id"})


def spellings(name: str) -> list[str]:
    return [name, name.lower(), name.upper(), name.replace("-", "_")]


# CVE-2026-22797: headers from outside that the middleware set only now and then.
@pytest.mark.parametrize("name", identity_headers())
def test_cve_2026_22797_spoofed_identity_headers_are_dropped(
    seen: falcon.testing.TestClient, name: str
) -> None:
    nothing = seen.simulate_get("/").json
    for spelling in spellings(name):
        assert seen.simulate_get("/", headers={spelling: "admin"}).json == nothing, spelling
    kept = {"X-Auth-Token": "t", "X-Service-Token": "s", "X-Image-Meta-Store": "fast"}
    assert len(seen.simulate_get("/", headers=kept).json) == len(nothing) + 3


def test_what_is_remembered_is_bounded_and_may_be_nothing() -> None:
    memory: Memory[int, str] = Memory(2)
    memory.set(0, "never", -1)
    assert memory.get(0) is None
    for key in (1, 2, 3):
        memory.set(key, "x", 60)
    assert [memory.get(key) for key in (1, 2, 3)] == [None, "x", "x"]
    memory.set(2, "gone", 0)
    assert memory.get(2) is None
