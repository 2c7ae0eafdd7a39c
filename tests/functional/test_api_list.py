"""Listing images over the API: filters, sorting, paging."""

from __future__ import annotations

import pytest

from tests.server_fixtures import Api


@pytest.fixture
def listed(api: Api) -> Api:
    """Six images of alice and one of bob."""
    api.image(name="one", data=b"1" * 10, tags=["x", "y"], colour="red")
    api.image(name="two", data=b"2" * 20, tags=["x"], min_ram=512)
    api.image(name="with,comma", disk_format="qcow2")
    api.image(name="hidden", os_hidden=True)
    api.image(name="guarded", protected=True, colour="blue")
    api.image("admin", name="for all", visibility="public")
    api.image("bob", name="of bob")
    api.image("bob", name="community", visibility="community")
    return api


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["for all", "guarded", "with,comma", "two", "one"]),
        ("?visibility=shared", ["guarded", "with,comma", "two", "one"]),
        ("?visibility=public", ["for all"]),
        ("?visibility=community", ["community"]),
        ("?visibility=all", ["community", "for all", "guarded", "with,comma", "two", "one"]),
        ("?os_hidden=true", ["hidden"]),
        ("?name=two", ["two"]),
        ("?name=in:two,one", ["two", "one"]),
        ('?name=in:"with,comma",one', ["with,comma", "one"]),
        ("?name=eq:two", ["two"]),
        (r'?name=in:"t\wo","with,comma"', ["with,comma", "two"]),
        ("?status=active", ["two", "one"]),
        ("?id=x", []),
        ("?min_ram_min=1", ["two"]),
        ("?min_ram_max=511&visibility=shared", ["guarded", "with,comma", "one"]),
        ("?tag=%20x%20", ["two", "one"]),
        ("?checksum=x", []),
        ("?container_format=in:bare,ovf&status=active", ["two", "one"]),
        ("?colour=red&colour=blue", []),
        ("?member_status=all", ["for all", "guarded", "with,comma", "two", "one"]),
        ("?sort= name : asc &limit=1", ["for all"]),
        ("?sort_dir=asc&limit=1&visibility=shared", ["one"]),
        ("?status=in:active,queued&visibility=shared", ["guarded", "with,comma", "two", "one"]),
        ("?tag=x", ["two", "one"]),
        ("?tag=x&tag=y", ["one"]),
        ("?colour=red", ["one"]),
        ("?colour=in:red", []),
        ("?protected=True", ["guarded"]),
        ("?min_ram=512", ["two"]),
        ("?size_min=11", ["two"]),
        ("?size_max=19", ["one"]),
        ("?size_min=10&size_max=20", ["two", "one"]),
        ("?disk_format=qcow2", ["with,comma"]),
        ("?owner=admin", ["for all"]),
        ("?owner=p-bob", []),
        ("?created_at=gt:2020-01-01T00:00:00Z&name=one", ["one"]),
        ("?created_at=lt:2020-01-01T00:00:00Z", []),
        ("?updated_at=gte:2020-01-01T00:00:00%2B02:00&name=one", ["one"]),
        ("?sort=name", ["with,comma", "two", "one", "guarded", "for all"]),
        ("?sort=name:asc", ["for all", "guarded", "one", "two", "with,comma"]),
        ("?sort=min_ram:desc,name:asc", ["two", "for all", "guarded", "one", "with,comma"]),
        ("?sort_key=name&sort_dir=asc", ["for all", "guarded", "one", "two", "with,comma"]),
        (
            "?sort_key=min_ram&sort_dir=desc&sort_key=name&sort_dir=asc",
            ["two", "for all", "guarded", "one", "with,comma"],
        ),
        ("?limit=2&sort=name:asc", ["for all", "guarded"]),
        ("?limit=0", []),
        ("?os_hash_algo=sha256", ["two", "one"]),
        ("?hash_algo=sha256", []),
    ],
)
def test_listing(listed: Api, query: str, names: list[str]) -> None:
    answer = listed.as_("alice").get(f"/v2/images{query}")
    assert answer.status_code == 200, answer.text
    assert [image["name"] for image in answer.json["images"]] == names
    assert answer.json["schema"] == "/v2/schemas/images"


def test_an_admin_sees_all_on_request(listed: Api) -> None:
    answer = listed.as_("admin").get("/v2/images?visibility=all&member_status=all&sort=name:asc")
    assert "of bob" in [image["name"] for image in answer.json["images"]]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("limit=1&limit=2", "only once"),
        ("marker=0b31c2f6-3a66-4d0e-a3be-0c3e8a4d1a11", "0b31c2f6"),
        ("sort=name:up", "Invalid sort direction: up"),
        ("sort=colour", "Invalid sort key: colour"),
        ("sort_key=", "Invalid sort key"),
        ("sort=name&sort_key=name", "cannot be combined"),
        ("sort_key=name&sort_key=id&sort_key=size&sort_dir=asc&sort_dir=asc", "does not match"),
        ("visibility=secret", "Invalid visibility value: secret"),
        ("member_status=maybe", "Invalid member_status value: maybe"),
        ("status=fine", "Invalid status value: fine"),
        ("status=in:active,fine", "Invalid status value: fine"),
        ("os_hidden=perhaps", "os_hidden"),
        ("protected=perhaps", "protected"),
        ("size_min=x", "size_min"),
        ("size_max=-1", "size_max"),
        ("min_ram=x", "min_ram"),
        ("created_at=gt:yesterday", "Invalid time format for created_at"),
        ("created_at=near:2020-01-01", "operator 'near'"),
        ("name=in:a,,b", "expected an item"),
        ("name=in:", "Invalid filter value for name"),
        ("name=in:a,", "Invalid filter value for name"),
        ('name=in:a"b"', "expected a comma"),
        ('name=in:"a"b', "expected a comma"),
        ("changes-since=2020-01-01", "changes-since"),
        ("limit=0&marker=0b31c2f6-3a66-4d0e-a3be-0c3e8a4d1a11", "0b31c2f6"),
        ("min_disk_min=x", "min_disk_min"),
        ("visibility=public&visibility=private", "only once"),
        ('name=in:"a', "Invalid filter value for name"),
        ("name=%ff", "query string"),
        ("name=a%00b", "NUL"),
    ],
)
def test_refused_listing(listed: Api, query: str, said: str) -> None:
    answer = listed.as_("alice").get("/v2/images", query_string=query)
    assert answer.status_code == 400, answer.text
    assert said in answer.json["message"]


def test_pages_are_linked_and_keep_the_query(listed: Api) -> None:
    client = listed.as_("alice")
    url, names, pages = "/v2/images?limit=2&sort=name%3Aasc&visibility=shared", [], 0
    while url:
        body = client.get(url).json
        assert body["first"] == "/v2/images?limit=2&sort=name%3Aasc&visibility=shared"
        names += [image["name"] for image in body["images"]]
        pages += 1
        url = body.get("next")
    assert (names, pages) == (["guarded", "one", "two", "with,comma"], 2)


def test_the_page_is_bounded(api: Api) -> None:
    small = Api(api.users, limit_param_default=1, api_limit_max=2)
    for _ in range(3):
        small.image()
    pages = [small.as_("alice").get(f"/v2/images{query}").json for query in ("", "?limit=1000")]
    assert [len(page["images"]) for page in pages] == [1, 2]
    assert all("next" in page for page in pages)
    small.service.close()


def test_first_without_a_query(listed: Api) -> None:
    assert listed.as_("alice").get("/v2/images").json["first"] == "/v2/images"
