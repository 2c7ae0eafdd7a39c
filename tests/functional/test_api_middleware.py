"""CORS, gzip, proxies, health: what surrounds every operation."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Callable
from pathlib import Path

import falcon.testing
import pytest

from glancelike.app import create_app
from glancelike.web.gzip import accepts_gzip
from glancelike.web.settings import CorsSettings, HealthSettings, WebSettings
from tests.server_fixtures import Api, Server, client_of

HORIZON = "https://horizon.example.com"
CORS = CorsSettings(
    allowed_origin=frozenset({HORIZON}),
    expose_headers=("X-OpenStack-Request-ID",),
    allow_methods=("GET", "PUT"),
    allow_headers=("X-Auth-Token",),
)
PREFLIGHT = {"Origin": HORIZON, "Access-Control-Request-Method": "PUT"}


def asking(api: Api, user: str | None = "alice", **settings: object) -> falcon.testing.TestClient:
    """Return a client of the API with web settings of its own."""
    app = create_app(api.service, api.auth, WebSettings(**settings))  # type: ignore[arg-type]
    return client_of(app, user, {"Accept": "application/json"})


# CORS


def test_cors_a_preflight_needs_no_identity(api: Api) -> None:
    client = asking(api, None, cors=CORS)
    asked = {**PREFLIGHT, "Access-Control-Request-Headers": "x-auth-token, content-type,X-Evil"}
    answer = client.options("/v2/images/x/file", headers=asked)
    assert (answer.status_code, answer.content) == (200, b"")
    told = {name: value for name, value in answer.headers.items() if name.startswith("access-control")}
    assert told == {
        "access-control-allow-origin": HORIZON,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET, PUT",
        "access-control-allow-headers": "x-auth-token, content-type",
        "access-control-expose-headers": "X-OpenStack-Request-ID",
        "access-control-max-age": "3600",
    }
    assert "Origin" in answer.headers["vary"]
    assert answer.headers["x-openstack-request-id"].startswith("req-")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://horizon.example.com", "null", HORIZON + "."]
)
def test_cors_others_get_nothing(api: Api, origin: str) -> None:
    client = asking(api, cors=CORS)
    for answer in (
        client.options("/v2/images", headers={**PREFLIGHT, "Origin": origin}),
        client.get("/v2/images", headers={"Origin": origin}),
    ):
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "Origin" in answer.headers["vary"]


def test_cors_a_method_that_is_not_allowed_is_not_granted(api: Api) -> None:
    answer = asking(api, None, cors=CORS).options(
        "/v2/images", headers={**PREFLIGHT, "Access-Control-Request-Method": "DELETE"}
    )
    assert answer.status_code == 200
    assert "access-control-allow-methods" not in answer.headers


def test_cors_answers_and_errors_carry_the_grant(api: Api) -> None:
    origin = {"Origin": HORIZON}
    for user, path, status in (
        ("alice", "/v2/images", 200),
        ("alice", "/v2/images/none", 404),
        ("nobody", "/v2/images", 403),
        (None, "/v2/images", 401),
    ):
        answer = asking(api, user, cors=CORS).get(path, headers=origin)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == HORIZON


def test_cors_any_origin_never_gets_credentials(api: Api) -> None:
    client = asking(api, cors=CorsSettings(allowed_origin=frozenset({"*"})))
    answer = client.get("/v2/images", headers={"Origin": "https://any.example"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


def test_cors_an_options_request_that_is_no_preflight_needs_identity(api: Api) -> None:
    assert asking(api, None, cors=CORS).options("/v2/images").status_code == 401
    assert asking(api, None, cors=CORS).options("/v2/images", headers={"Origin": HORIZON}).status_code == 401


# gzip


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP;q=0.5", True),
        ("x-gzip", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("gzip;q=0", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("gzip;q=0.5, identity;q=0.8", False),
        ("gzip;q=0.8, identity;q=0.8", True),
        ("gzip;q=nonsense", False),
        ("gzip;q=2", False),
        (";;,,", False),
        ("br", False),
    ],
)
def test_gzip_weights(header: str | None, wanted: bool) -> None:
    assert accepts_gzip(header) is wanted


def test_gzip_lists_but_not_small_answers_nor_data(api: Api) -> None:
    first = api.image(data=b"\0" * 5000)
    for number in range(5):
        api.image(name=f"image {number}" + "x" * 100)
    plain = api.as_("alice").get("/v2/images")
    packed = api.as_("alice").get("/v2/images", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.content) < len(plain.content) / 3
    assert int(packed.headers["content-length"]) == len(packed.content)
    assert json.loads(gzip.decompress(packed.content)) == plain.json
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"

    for path in (f"/v2/images/{first}/file", "/healthcheck", "/v2/images?limit=0", "/v2/images/none"):
        answer = api.as_("alice").get(path, headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in answer.headers, path
    data = api.as_("alice").get(f"/v2/images/{first}/file", headers={"Accept-Encoding": "gzip"})
    assert data.content == b"\0" * 5000
    head = api.as_("alice").head(f"/v2/images/{first}/file", headers={"Accept-Encoding": "gzip"})
    assert (head.headers["content-length"], head.headers.get("content-encoding")) == ("5000", None)


def test_gzip_a_large_error(api: Api) -> None:
    answer = api.as_("alice").get(f"/v2/images/{'x' * 2000}", headers={"Accept-Encoding": "gzip"})
    assert (answer.status_code, answer.headers["content-encoding"]) == (404, "gzip")
    assert "x" * 2000 in json.loads(gzip.decompress(answer.content))["message"]


def test_gzip_lists_for_other_origins_vary_by_both(api: Api) -> None:
    for number in range(5):
        api.image(name=f"{number}" * 200)
    answer = asking(api, cors=CORS).get("/v2/images", headers={"Origin": HORIZON, "Accept-Encoding": "gzip"})
    assert {each.strip() for each in answer.headers["vary"].split(",")} == {"Origin", "Accept-Encoding"}


# Proxies and links


def link(answer: falcon.testing.Result) -> str:
    href: str = answer.json["versions"][0]["links"][0]["href"]
    return href


FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "cloud.example:8443"}


def test_proxy_headers_are_not_believed_by_default(api: Api) -> None:
    answer = asking(api, None).get("/versions", headers=FORWARDED)
    assert link(answer) == "http://falconframework.org/v2/"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (FORWARDED, "https://cloud.example:8443/v2/"),
        ({**FORWARDED, "X-Forwarded-Prefix": "/image/"}, "https://cloud.example:8443/image/v2/"),
        ({"X-Forwarded-Host": "a.example, b.example"}, "http://a.example/v2/"),
        ({"Forwarded": 'for=192.0.2.1;proto=https;host="c.example"'}, "https://c.example/v2/"),
        ({"Forwarded": "proto=https;host=c.example, proto=http;host=d"}, "https://c.example/v2/"),
        ({"Forwarded": "proto=https", **FORWARDED}, "https://falconframework.org/v2/"),
        ({"X-Forwarded-Proto": "javascript"}, "http://falconframework.org/v2/"),
        ({"X-Forwarded-Host": "evil.example/<script>"}, "http://falconframework.org/v2/"),
        ({"X-Forwarded-Prefix": "//evil.example"}, "http://falconframework.org/v2/"),
        ({"Forwarded": ";;;=,,"}, "http://falconframework.org/v2/"),
        ({}, "http://falconframework.org/v2/"),
    ],
)
def test_proxy_headers_make_the_links(api: Api, headers: dict[str, str], expected: str) -> None:
    assert link(asking(api, None, trust_proxy=True).get("/versions", headers=headers)) == expected


def test_proxy_headers_make_the_own_origin(api: Api) -> None:
    client = asking(api, trust_proxy=True)
    origin = {"Origin": "https://cloud.example:8443"}
    assert client.get("/v2/images", headers={**FORWARDED, **origin}).status_code == 200
    assert client.get("/v2/images", headers=origin).status_code == 403


def test_public_endpoint_wins(api: Api) -> None:
    client = asking(api, None, trust_proxy=True, public_endpoint="https://image.example/v")
    for path in ("/", "/versions"):
        assert link(client.get(path, headers=FORWARDED)) == "https://image.example/v/v2/"


# Health


def test_health_is_disabled_by_a_file(api: Api, tmp_path: Path) -> None:
    switch = tmp_path / "disable"
    client = asking(api, None, health=HealthSettings(((None, switch),)))
    assert (client.get("/healthcheck").status_code, client.get("/healthcheck").text) == (200, "OK")
    switch.touch()
    answer = client.get("/healthcheck")
    assert (answer.status_code, answer.text) == (503, "DISABLED BY FILE")
    assert asking(api).get("/v2/images").status_code == 200
    switch.unlink()
    assert client.get("/healthcheck").status_code == 200


def test_health_of_one_port_and_in_detail(api: Api, tmp_path: Path) -> None:
    switch = tmp_path / "disable"
    switch.touch()
    for port, status in ((80, 503), (9292, 200)):
        client = asking(api, None, health=HealthSettings(((port, switch),), detailed=True))
        answer = client.get("/healthcheck")
        assert answer.status_code == status
        assert (str(switch) in answer.text) is (status == 503)


# All of it, from a configuration file, in a real server

CONFIG = """\
public_endpoint = https://image.example
[cors]
allowed_origin = https://horizon.example.com
[oslo_middleware]
enable_proxy_headers_parsing = true
[healthcheck]
disable_by_file_path = {switch}
"""


def test_middleware_from_the_configuration(run_server: Callable[..., Server], tmp_path: Path) -> None:
    switch = tmp_path / "disable"
    server = run_server(extra=CONFIG.format(switch=switch))
    request_id = "req-12345678-1234-1234-1234-123456789abc"

    def ask(method: str, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        client = server.connect()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        client.request(method, path, headers={**sent, "X-Openstack-Request-Id": request_id})
        answer = client.getresponse()
        return answer, answer.read()

    _, body = ask("GET", "/versions", X_Forwarded_Proto="http")
    assert json.loads(body)["versions"][0]["links"][0]["href"] == "https://image.example/v2/"
    answer, _ = ask("OPTIONS", "/v2/images", Origin=HORIZON, Access_Control_Request_Method="PATCH")
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, HORIZON)
    assert ask("GET", "/v2/images", Origin="https://evil.example")[0].status == 403
    answer, body = ask(
        "GET", "/v2/schemas/image", Accept_Encoding="gzip", X_Forwarded_For="192.0.2.7, 10.0.0.1"
    )
    assert json.loads(gzip.decompress(body))["name"] == "image"
    switch.touch()
    assert ask("GET", "/healthcheck")[0].status == 503
    server.stop()
    log = server.log.read_text()
    assert f"client=192.0.2.7 global_request_id={request_id}" in log


def test_gunicorn_believes_no_proxy_by_itself(api_server: Server) -> None:
    client = api_server.connect()
    client.request("GET", "/versions", headers={"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "on"})
    assert json.load(client.getresponse())["versions"][0]["links"][0]["href"].startswith("http://127.0.0.1")
