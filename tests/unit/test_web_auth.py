"""The auth plugins: credentials, the user file and its changes."""

from __future__ import annotations

import base64
import logging
import os
from pathlib import Path

import bcrypt
import falcon
import falcon.testing
import pytest

from glancelike.errors import ConfigError
from glancelike.plugins import load
from glancelike.web.auth import Auth, BasicAuth, NoneAuth, Verified, parse_accounts


def hash_of(password: str, prefix: bytes = b"2b") -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, b"2b")).replace(b"2b", prefix, 1).decode()


def request(authorization: str | None) -> falcon.Request:
    headers = {} if authorization is None else {"Authorization": authorization}
    return falcon.testing.create_req(headers=headers)


def basic(user: str, password: str) -> falcon.Request:
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return request(f"Basic {token}")


def open_auth(path: Path, text: str) -> BasicAuth:
    path.write_text(text, "utf-8")
    auth = BasicAuth({"http_basic_auth_user_file": str(path)})
    auth.open()
    return auth


def rewrite(path: Path, text: str) -> None:
    """Change the file with another inode, as careful editors do."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, "utf-8")
    fresh.replace(path)


def test_the_names_of_the_configuration() -> None:
    assert load("glancelike.auth", "none", Auth) is NoneAuth
    assert load("glancelike.auth", "basic", Auth) is BasicAuth


def test_none_makes_everybody_an_administrator() -> None:
    caller = NoneAuth({"auth_none_project": "p"}).authenticate(request(None))
    assert (caller.project, caller.admin) == ("p", True)
    assert caller.roles == {"admin", "member", "reader"}


def test_basic_knows_users_projects_and_roles(tmp_path: Path) -> None:
    auth = open_auth(
        tmp_path / "users",
        f"# people\n\nann:{hash_of('a b:ü')}\nben:{hash_of('b', b'2y')}:p-ben\n"
        f"cid:{hash_of('c')}:p:admin, member\n",
    )
    ann = auth.authenticate(basic("ann", "a b:ü"))
    assert (ann.user, ann.project, ann.admin) == ("ann", "ann", False)
    assert ann.roles == {"member", "reader"}
    ben = auth.authenticate(basic("ben", "b"))
    assert (ben.project, ben.admin) == ("p-ben", False)
    cid = auth.authenticate(basic("cid", "c"))
    assert (cid.project, cid.admin) == ("p", True)
    assert cid.roles == {"admin", "member"}


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"nocolon").decode(),
        "Basic " + base64.b64encode(b"\xff:x").decode(),
        "Basic " + base64.b64encode(b"ann:wrong").decode(),
        "Basic " + base64.b64encode(b"ann:").decode(),
        "Basic " + base64.b64encode(b"nobody:right").decode(),
        "Basic " + base64.b64encode(b"ann:right\0").decode(),
        "Bearer right",
    ],
)
def test_refused_credentials(tmp_path: Path, authorization: str | None) -> None:
    auth = open_auth(tmp_path / "users", f"ann:{hash_of('right')}\n")
    with pytest.raises(falcon.HTTPUnauthorized) as refused:
        auth.authenticate(request(authorization))
    assert refused.value.headers == {"WWW-Authenticate": 'Basic realm="glancelike", charset="UTF-8"'}


def test_a_password_is_never_cut(tmp_path: Path) -> None:
    auth = open_auth(tmp_path / "users", f"ann:{hash_of('x' * 72)}\n")
    assert auth.authenticate(basic("ann", "x" * 72)).user == "ann"
    with pytest.raises(falcon.HTTPUnauthorized):
        auth.authenticate(basic("ann", "x" * 73))


@pytest.mark.parametrize(
    "line",
    [
        "ann",
        "ann:secret",
        "ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "ann:$apr1$abc$def",
        "ann:$2y$05$short",
        f":{'x' * 60}",
        f"ann:{hash_of('x')}:p:r:more",
    ],
    ids=["no-hash", "plain", "sha", "apr1", "short", "no-user", "too-long"],
)
def test_broken_lines_are_named(line: str) -> None:
    with pytest.raises(ConfigError, match="users, line 2"):
        parse_accounts(f"# first\n{line}\n", "users")


def test_a_user_is_there_once() -> None:
    with pytest.raises(ConfigError, match="line 2: user 'ann' is there twice"):
        parse_accounts(f"ann:{hash_of('x')}\nann:{hash_of('y')}\n", "users")


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    auth = BasicAuth({"http_basic_auth_user_file": str(tmp_path / "none")})
    with pytest.raises(ConfigError, match="http_basic_auth_user_file: .*none"):
        auth.open()


def test_the_file_is_read_again_when_changed(tmp_path: Path) -> None:
    path = tmp_path / "users"
    auth = open_auth(path, f"ann:{hash_of('old')}\n")
    assert auth.authenticate(basic("ann", "old")).user == "ann"
    rewrite(path, f"ann:{hash_of('new')}\nben:{hash_of('b')}\n")
    assert auth.authenticate(basic("ann", "new")).user == "ann"
    assert auth.authenticate(basic("ben", "b")).user == "ben"
    with pytest.raises(falcon.HTTPUnauthorized):
        auth.authenticate(basic("ann", "old"))
    rewrite(path, f"ben:{hash_of('b')}:p:admin\n")
    assert auth.authenticate(basic("ben", "b")).admin
    with pytest.raises(falcon.HTTPUnauthorized):
        auth.authenticate(basic("ann", "new"))


def test_a_file_that_breaks_keeps_the_accounts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "users"
    auth = open_auth(path, f"ann:{hash_of('a')}\n")
    with caplog.at_level(logging.ERROR):
        rewrite(path, "nonsense\n")
        for _ in range(3):
            assert auth.authenticate(basic("ann", "a")).user == "ann"
        path.unlink()
        assert auth.authenticate(basic("ann", "a")).user == "ann"
    assert 1 <= len(caplog.records) <= 2
    path.write_text(f"ben:{hash_of('b')}\n")
    assert auth.authenticate(basic("ben", "b")).user == "ben"


def test_good_credentials_are_remembered_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = open_auth(tmp_path / "users", f"ann:{hash_of('a')}\n")
    checks: list[bytes] = []
    checkpw = bcrypt.checkpw

    def counted(password: bytes, hashed: bytes) -> bool:
        checks.append(password)
        return checkpw(password, hashed)

    monkeypatch.setattr(auth, "_check", counted)
    for _ in range(3):
        auth.authenticate(basic("ann", "a"))
    assert checks == [b"a"]
    for _ in range(2):
        with pytest.raises(falcon.HTTPUnauthorized):
            auth.authenticate(basic("ann", "b"))
    assert checks == [b"a", b"b", b"b"]
    with pytest.raises(falcon.HTTPUnauthorized):
        auth.authenticate(basic("nobody", "a"))
    assert len(checks) == 4, "an unknown user costs a check, too"


def test_the_memory_of_credentials_is_bounded_and_short(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = Verified()
    digests = [os.urandom(32) for _ in range(Verified.ENTRIES + 10)]
    for digest in digests:
        verified.remember(digest)
    assert sum(verified.knows(digest) for digest in digests) == Verified.ENTRIES
    monkeypatch.setattr(Verified, "SECONDS", -1.0)
    verified.remember(digests[-1])
    assert not verified.knows(digests[-1])
