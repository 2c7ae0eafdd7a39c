"""Property protections: the file, and whom it lets do what."""

from __future__ import annotations

from pathlib import Path

import pytest

from glancelike.errors import ConfigError
from glancelike.protections import Format, Protections, Use, load

GOOD = """
[^x_billing_]
create = admin, Billing
read = admin,billing,member
update = admin,billing
delete = admin

[^x_open]
create = @
read = @
update = @
delete = !

[x_none]
create =
read = member
update = !
delete = !
"""


def read(tmp_path: Path, text: str, form: Format = Format.ROLES) -> Protections:
    path = tmp_path / "protections.conf"
    path.write_text(text)
    return load(path, form)


def never(rule: str) -> bool:
    raise AssertionError(rule)


@pytest.mark.parametrize(
    ("name", "roles", "may"),
    [
        ("x_billing_code", {"admin"}, "create read update delete"),
        ("x_billing_code", {"BILLING"}, "create read update"),
        ("x_billing_code", {"member"}, "read"),
        ("x_billing_code", set(), ""),
        ("my_x_billing_code", {"admin"}, ""),
        ("x_open_a", set(), "create read update"),
        ("prefix_x_none", {"member", "admin"}, "read"),
        ("os_glance_importing_to_stores", set(), "create read update delete"),
        ("no_rule", {"admin"}, ""),
    ],
)
def test_who_may_do_what(tmp_path: Path, name: str, roles: set[str], may: str) -> None:
    rules = read(tmp_path, GOOD)
    assert [use for use in Use if rules.allows(name, use, roles, never)] == may.split()


def test_the_first_rule_that_matches_counts(tmp_path: Path) -> None:
    everything = "[.*]\ncreate = @\nread = @\nupdate = @\ndelete = @\n"
    rules = read(tmp_path, everything + GOOD)
    assert rules.allows("x_billing_code", Use.DELETE, (), never)
    rules = read(tmp_path, GOOD + everything)
    assert not rules.allows("x_billing_code", Use.DELETE, (), never)
    assert rules.allows("anything", Use.DELETE, (), never)


def test_without_a_file_everything_is_allowed() -> None:
    assert Protections().allows("x", Use.CREATE, (), never)


def test_policies(tmp_path: Path) -> None:
    text = "[x]\ncreate = makers\nread = @\nupdate = !\ndelete =\n"
    rules = read(tmp_path, text, Format.POLICIES)
    assert rules.policies() == {"makers"}
    assert rules.allows("x", Use.CREATE, (), {"makers"}.__contains__)
    assert not rules.allows("x", Use.CREATE, {"makers"}, set().__contains__)
    assert rules.allows("x", Use.READ, (), never)
    assert not rules.allows("x", Use.UPDATE, (), never)
    assert not rules.allows("x", Use.DELETE, (), never)


@pytest.mark.parametrize(
    ("text", "form", "said"),
    [
        ("", "roles", "holds no rule"),
        ("[os_glance_x]\ncreate = @\n", "roles", "holds no rule"),
        ("create = @\n", "roles", "no section headers"),
        ("[x]\ncreate = @\nread = @\nupdate = @\n", "roles", r"\[x\] delete is missing"),
        ("[(x]\ncreate = @\nread = @\nupdate = @\ndelete = @\n", "roles", "no regular expression"),
        ("[x]\ncreate = @,!\nread = @\nupdate = @\ndelete = @\n", "roles", r"\[x\] create: @ and !"),
        ("[x]\ncreate = @\nread = @\nupdate = @\ndelete = @\nlist = @\n", "roles", r"\[x\] list"),
        ("[x]\ncreate = @\n[x]\ncreate = @\n", "roles", "already exists"),
        ("[x]\ncreate = a,b\nread = @\nupdate = @\ndelete = @\n", "policies", "one policy"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, form: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        read(tmp_path, text, Format(form))
    assert "property_protection_file" in str(error.value)
    assert "protections.conf" in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nope"):
        load(tmp_path / "nope", Format.ROLES)
    (tmp_path / "latin").write_bytes(b"[\xe4]")
    with pytest.raises(ConfigError, match="latin"):
        load(tmp_path / "latin", Format.ROLES)
