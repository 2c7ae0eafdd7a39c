"""Who may do what."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import pytest

from glancelike.errors import ConfigError, Forbidden, ImageNotFound, NamespaceNotFound, NotFound
from glancelike.model import Caller, Image, Namespace, Visibility
from glancelike.policy import Policy, rules, sample
from tests.web_server import Request, reply, web_server

OWNED = Image(id="i", owner="p", visibility=Visibility.PRIVATE)
NAMESPACE = Namespace("n", owner="p", visibility="private")
PEOPLE = {
    "admin": Caller("a", "other", frozenset({"admin"}), admin=True),
    "service": Caller("s", "services", frozenset({"service"})),
    "member": Caller("m", "p", frozenset({"member", "reader"})),
    "reader": Caller("r", "p", frozenset({"reader"})),
    "stranger": Caller("s", "q", frozenset({"member", "reader"})),
    "nobody": Caller(),
    "system": Caller("y", None, frozenset({"admin", "member", "reader"}), system_scope="all"),
}
READERS = {"admin", "member", "reader"}
MEMBERS = {"admin", "member"}
ANY_READER = READERS | {"stranger"}
EVERYBODY = set(PEOPLE) - {"system"}
MAY = {
    "default": set(PEOPLE),
    "context_is_admin": {"admin", "system"},
    "service_api": {"admin", "service", "system"},
    "add_image": MEMBERS,
    "delete_image": MEMBERS,
    "get_image": READERS,
    "get_images": ANY_READER,
    "modify_image": MEMBERS,
    "publicize_image": {"admin"},
    "communitize_image": MEMBERS,
    "download_image": MEMBERS,
    "download_from_store": MEMBERS,
    "upload_image": MEMBERS,
    "delete_image_location": {"admin"},
    "get_image_location": READERS,
    "set_image_location": MEMBERS,
    "add_image_location": MEMBERS | {"service"},
    "fetch_image_location": {"admin", "service"},
    "add_member": MEMBERS,
    "delete_member": MEMBERS,
    "get_member": READERS,
    "get_members": READERS,
    "modify_member": {"admin"},
    "deactivate": MEMBERS,
    "reactivate": MEMBERS,
    "copy_image": {"admin"},
    "manage_image_cache": {"admin"},
    "cache_image": {"admin"},
    "cache_list": {"admin"},
    "cache_delete": {"admin"},
    "cache_clean": {"admin"},
    "cache_prune": {"admin"},
    "list_cached_nodes": {"admin"},
    "stores_info_detail": {"admin", "service"},
    "get_task": EVERYBODY,
    "get_tasks": EVERYBODY,
    "add_task": EVERYBODY,
    "modify_task": EVERYBODY,
    "tasks_api_access": {"admin"},
    "metadef_default": set(PEOPLE),
    "metadef_admin": {"admin", "system"},
    "get_metadef_namespaces": ANY_READER,
    "add_metadef_namespace": {"admin"},
    "get_metadef_namespace": READERS,
    "modify_metadef_namespace": {"admin"},
    "delete_metadef_namespace": {"admin"},
    "get_metadef_object": READERS,
    "get_metadef_objects": READERS,
    "modify_metadef_object": {"admin"},
    "add_metadef_object": {"admin"},
    "delete_metadef_object": {"admin"},
    "get_metadef_property": READERS,
    "get_metadef_properties": READERS,
    "modify_metadef_property": {"admin"},
    "add_metadef_property": {"admin"},
    "remove_metadef_property": {"admin"},
    "get_metadef_tag": READERS,
    "get_metadef_tags": READERS,
    "modify_metadef_tag": {"admin"},
    "add_metadef_tag": {"admin"},
    "add_metadef_tags": {"admin"},
    "delete_metadef_tag": {"admin"},
    "delete_metadef_tags": {"admin"},
    "list_metadef_resource_types": READERS,
    "get_metadef_resource_type": READERS,
    "add_metadef_resource_type_association": {"admin"},
    "remove_metadef_resource_type_association": {"admin"},
}
WITHOUT_TARGET = {"get_images", "get_metadef_namespaces"}


def test_every_rule_is_in_the_table() -> None:
    assert {rule.name for rule in rules()} == set(MAY)


@pytest.mark.parametrize("action", sorted(MAY))
def test_defaults(action: str) -> None:
    policy = Policy()
    target: Image | Namespace | None = NAMESPACE if "metadef" in action else OWNED
    allowed = set()
    for name, caller in PEOPLE.items():
        try:
            policy.check(caller, action, None if action in WITHOUT_TARGET else target)
            allowed.add(name)
        except (Forbidden, NotFound):
            pass
    assert allowed == MAY[action]


def test_what_may_not_be_looked_at_is_not_there() -> None:
    policy = Policy()
    for action in ("get_image", "delete_image"):
        with pytest.raises(ImageNotFound, match="i"):
            policy.check(PEOPLE["stranger"], action, OWNED)
    with pytest.raises(NamespaceNotFound, match="n"):
        policy.check(PEOPLE["stranger"], "delete_metadef_namespace", NAMESPACE)
    with pytest.raises(Forbidden):
        policy.check(PEOPLE["reader"], "delete_image", OWNED)


def test_what_is_to_be_made_is_no_secret() -> None:
    facts = {"project_id": "p", "owner": "p", "visibility": "private"}
    with pytest.raises(Forbidden):
        Policy().check(PEOPLE["stranger"], "add_image", facts)


def test_what_nobody_owns_is_not_the_project_s_that_is_not_named() -> None:
    nobodys = Image(id="i", owner=None, visibility=Visibility.PUBLIC)
    homeless = Caller("h", None, frozenset({"member", "reader"}))
    for owner in (nobodys, {"project_id": None, "owner": None}):
        with pytest.raises(Forbidden):
            Policy().check(homeless, "modify_image", owner)


def test_who_is_an_administrator(tmp_path: Path) -> None:
    default = Policy()
    claimed = Caller("x", "p", frozenset({"member"}), admin=True)
    assert default.recognised(claimed).admin is False
    assert default.recognised(PEOPLE["admin"]) is PEOPLE["admin"]
    assert default.recognised(PEOPLE["system"]).admin is False
    file = tmp_path / "policy.yaml"
    file.write_text('"context_is_admin": "role:chief"\n')
    policy = Policy(file)
    assert policy.recognised(PEOPLE["admin"]).admin is False
    assert policy.recognised(Caller("c", "p", frozenset({"chief"}))).admin is True


def test_rules_may_ask_for_any_fact_of_an_image(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        "\"delete_image\": \"'raw':%(disk_format)s and 'x':%(flavour)s\"\n"
        '"publicize_image": "service_roles:%(needed)s"\n'
    )
    policy = Policy(file)
    yes = Image(id="i", owner="p", disk_format="raw", properties={"flavour": "x"})
    policy.check(PEOPLE["member"], "delete_image", yes)
    for no in (
        Image(id="i", owner="p", disk_format="iso", properties={"flavour": "x"}),
        Image(id="i", owner="p", disk_format="raw"),
    ):
        with pytest.raises(Forbidden):
            policy.check(PEOPLE["member"], "delete_image", no)


def test_the_member_itself_accepts() -> None:
    Policy().check(PEOPLE["stranger"], "modify_member", OWNED, member_id="q")


def test_anybody_reads_what_is_public() -> None:
    public = Image(id="i", owner="p", visibility=Visibility.PUBLIC)
    Policy().check(PEOPLE["stranger"], "download_image", public)


def test_a_file_overrides_and_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text('"delete_image": "role:admin"\n')
    policy = Policy(file)
    with pytest.raises(Forbidden, match="delete_image"):
        policy.check(PEOPLE["member"], "delete_image", OWNED)
    policy.check(PEOPLE["member"], "modify_image", OWNED)
    file.write_text('"modify_image": "role:admin"\n')
    os.utime(file, (2_000_000_000, 2_000_000_000))
    policy.check(PEOPLE["member"], "delete_image", OWNED)
    with pytest.raises(Forbidden):
        policy.check(PEOPLE["member"], "modify_image", OWNED)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nope.yaml"):
        Policy(tmp_path / "nope.yaml")


def test_an_unknown_action_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        Policy().check(PEOPLE["admin"], "no_such_action")


def test_the_sample_holds_every_rule() -> None:
    text = sample()
    assert all(f'#"{name}": ' in text for name in MAY)


@pytest.mark.parametrize(("said", "allowed"), [(b"True", True), (b"False", False)])
def test_a_rule_may_ask_a_server(tmp_path: Path, said: bytes, allowed: bool) -> None:
    """Such checks are an extension of oslo.policy, loaded when a rule has one."""

    def answer(_: Request, out: BinaryIO) -> bool:
        reply(out, 200, {"Content-Length": str(len(said)), "Connection": "close"}, said)
        return False

    with web_server() as server:
        server.answers["/may/get_images"] = answer
        path = tmp_path / "policy.yaml"
        path.write_text(f"get_images: {server.url('/may/get_images')}\n")
        assert Policy(path).allows(PEOPLE["reader"], "get_images", {}) is allowed
        assert [request.method for request in server.requests] == ["POST"]


def test_a_file_that_breaks_or_goes_leaves_the_rules_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text('"delete_image": "role:admin"\n')
    policy = Policy(file)
    for change in (lambda: file.write_text("delete_image: ["), file.unlink):
        change()
        caplog.clear()
        for _ in range(2):
            with pytest.raises(Forbidden):
                policy.check(PEOPLE["member"], "delete_image", OWNED)
        assert [str(file) in record.getMessage() for record in caplog.records] == [True], "once a change"
    file.write_text("# the defaults\n")
    policy.check(PEOPLE["member"], "delete_image", OWNED)
