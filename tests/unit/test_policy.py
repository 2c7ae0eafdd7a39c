"""Who may do what."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glancelike.errors import ConfigError, Forbidden
from glancelike.model import Caller, Image, Visibility
from glancelike.policy import Policy, rules, sample

OWNED = Image(id="i", owner="p", visibility=Visibility.PRIVATE)
PEOPLE = {
    "admin": Caller("a", "other", frozenset({"admin"}), admin=True),
    "member": Caller("m", "p", frozenset({"member", "reader"})),
    "reader": Caller("r", "p", frozenset({"reader"})),
    "stranger": Caller("s", "q", frozenset({"member", "reader"})),
    "nobody": Caller(),
}
MAY = {
    "get_image": {"admin", "member", "reader"},
    "get_images": {"admin", "member", "reader", "stranger"},
    "add_image": {"admin", "member"},
    "modify_image": {"admin", "member"},
    "delete_image": {"admin", "member"},
    "publicize_image": {"admin"},
    "communitize_image": {"admin", "member"},
    "download_image": {"admin", "member"},
    "upload_image": {"admin", "member"},
    "add_member": {"admin", "member"},
    "get_member": {"admin", "member", "reader"},
    "get_members": {"admin", "member", "reader"},
    "modify_member": {"admin"},
    "delete_member": {"admin", "member"},
}


def test_every_rule_is_in_the_table() -> None:
    assert {rule.name for rule in rules()} == set(MAY)


@pytest.mark.parametrize("action", sorted(MAY))
def test_defaults(action: str) -> None:
    policy = Policy()
    image = None if action == "get_images" else OWNED
    allowed = set()
    for name, caller in PEOPLE.items():
        try:
            policy.check(caller, action, image)
            allowed.add(name)
        except Forbidden:
            pass
    assert allowed == MAY[action]


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
