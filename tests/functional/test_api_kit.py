"""What holds for every operation: identity, errors, bodies, ids."""

from __future__ import annotations

import re

import pytest

from glancelike.api.routes import ROUTES
from glancelike.policy import rules
from glancelike.web.routes import Route
from tests.server_fixtures import Api

PRIVATE = [route for route in ROUTES if not route.public]


def name(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", PRIVATE, ids=name)
def test_nothing_without_credentials(api: Api, route: Route) -> None:
    path = re.sub(r"{\w+}", api.image(), route.path)
    answer = api.as_(None).simulate_request(route.method, path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Basic realm="')


def test_every_action_is_a_rule() -> None:
    assert {route.action for route in ROUTES if route.action} <= {rule.name for rule in rules()}


def test_every_operation_is_there_once() -> None:
    asked = [(route.method, route.path) for route in ROUTES]
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("path", ["/", "/versions", "/v2", "/v2/"])
def test_versions_are_public(api: Api, path: str) -> None:
    answer = api.as_(None).get(path)
    assert answer.status_code == (300 if path == "/" else 200)
    versions = answer.json["versions"]
    assert [each["status"] for each in versions] == ["CURRENT"] + ["SUPPORTED"] * (len(versions) - 1)
    # 14, 16 and 18 are the cache's.
    minors = [17, 15, *range(13, -1, -1)]
    assert [each["id"] for each in versions] == [f"v2.{minor}" for minor in minors]
    assert versions[0]["links"] == [{"rel": "self", "href": "http://falconframework.org/v2/"}]


@pytest.mark.parametrize("version", ["v2", "v2.0", "v2.9", "v2.17"])
def test_a_path_may_name_any_version(api: Api, version: str) -> None:
    image_id = api.image(data=b"data")
    alice = api.as_("alice")
    assert alice.get(f"/{version}/images/{image_id}").json["self"] == f"/v2/images/{image_id}"
    assert alice.get(f"/{version}/images/{image_id}/file").content == b"data"
    assert api.as_(None).get(f"/{version}/images").status_code == 401
    assert api.as_(None).get(f"/{version}").status_code == 200


@pytest.mark.parametrize("path", ["/v1/images", "/v2.14/images", "/v2.99", "/v3/", "/images", "/v2images"])
def test_other_paths_are_answered_with_the_versions(api: Api, path: str) -> None:
    for answer in (api.as_(None).get(path), api.as_("alice").post(path, json={})):
        assert answer.status_code == 300
        assert answer.json["versions"][0]["id"] == "v2.17"


def test_healthcheck_is_public(api: Api) -> None:
    assert api.as_(None).get("/healthcheck").text == "OK"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/json", "application/json"),
        ("application/json, text/html;q=0.5", "application/json"),
        ("*/*", "text/html; charset=UTF-8"),
        ("text/html", "text/html; charset=UTF-8"),
        ("application/octet-stream", "text/html; charset=UTF-8"),
        ("nonsense", "text/html; charset=UTF-8"),
    ],
)
def test_error_bodies_follow_accept(api: Api, accept: str, content_type: str) -> None:
    for path, said in (
        ("/v2/images/<b>&c", "<b>&c"),
        ("/v2/nowhere", "The resource could not be found."),
    ):
        answer = api.as_("alice", accept).get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, content_type)
        if "json" in content_type:
            assert (answer.json["code"], answer.json["title"]) == ("404 Not Found", "Not Found")
            assert said in answer.json["message"]
        else:
            assert "<title>404 Not Found</title>" in answer.text
            assert "<b>" not in answer.text


def test_methods_that_are_not_there(api: Api) -> None:
    answer = api.as_("alice").post(f"/v2/images/{api.image()}")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "PATCH", "DELETE", "OPTIONS"}
    assert "POST is not allowed" in answer.json["message"]
    assert api.as_("alice").head(f"/v2/images/{api.image()}").status_code == 405


def test_request_ids(api: Api) -> None:
    pattern = r"req-[0-9a-f-]{36}"
    seen = set()
    for path in ("/", "/v2/images", "/v2/nowhere", "/v2/images/none"):
        answer = api.as_("alice").get(path, headers={"X-Openstack-Request-Id": "req-evil\tx"})
        assert re.fullmatch(pattern, answer.headers["x-openstack-request-id"])
        seen.add(answer.headers["x-openstack-request-id"])
    assert re.fullmatch(pattern, api.as_(None).get("/v2/images").headers["x-openstack-request-id"])
    assert len(seen) == 4


def test_identity_headers_from_outside_are_nothing(api: Api) -> None:
    api.image("alice", name="hers")
    forged = {
        "X-User-Id": "alice",
        "X-Project-Id": "p-alice",
        "X-Tenant": "p-alice",
        "X-Roles": "admin",
        "X-Is-Admin-Project": "True",
        "X-Identity-Status": "Confirmed",
    }
    assert api.as_("bob").get("/v2/images", headers=forged).json["images"] == []
    assert api.as_(None).get("/v2/images", headers=forged).status_code == 401


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://falconframework.org", 200),
        ("https://falconframework.org", 200),
        ("http://evil.example", 403),
        ("http://falconframework.org.evil.example", 403),
        ("http://falconframework.org:81", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_pages_of_other_sites_are_refused(api: Api, origin: str, status: int) -> None:
    assert api.as_("alice").get("/v2/images", headers={"Origin": origin}).status_code == status


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"name": }', "at line 1, column 10"),
        (b'{"name": "x",\n "y"}', "at line 2, column 5"),
        (b"\xff\xfe", "isn't UTF-8 at byte 0"),
        (b'{"min_ram": NaN}', "NaN isn't JSON"),
        (b'{"name": "\\ud800"}', "lone surrogate"),
        (b'{"\\u0000": "x"}', "NUL"),
        (b"[" * 100000, "nested too deeply"),
        (b'{"min_ram": ' + b"9" * 5000 + b"}", "Malformed JSON"),
        (b"", "Body expected"),
        (b" \n", "Body expected"),
    ],
)
def test_broken_json(api: Api, body: bytes, said: str) -> None:
    answer = api.as_("alice").post("/v2/images", body=body)
    assert answer.status_code == 400
    assert said in answer.json["message"]


def test_json_is_bounded_and_of_its_type(api: Api) -> None:
    alice = api.as_("alice")
    big = b'{"name": "' + b"x" * 1024 * 1024 + b'"}'
    assert alice.post("/v2/images", body=big).status_code == 413
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert alice.post("/v2/images", body="{}", headers=form).status_code == 415
    json_type = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert alice.post("/v2/images", body="{}", headers=json_type).status_code == 201


def test_nul_in_the_path(api: Api) -> None:
    assert api.as_("alice").get("/v2/images/a%00b").status_code == 400
