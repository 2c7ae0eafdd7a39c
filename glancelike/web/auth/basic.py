"""``auth_strategy = basic``: HTTP Basic credentials and a file of accounts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oslo_config import cfg

from glancelike.errors import ConfigError
from glancelike.model import Caller
from glancelike.web.auth.base import DEFAULT_ROLES, Auth
from glancelike.web.auth.memory import Memory

if TYPE_CHECKING:
    import falcon

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """One line of the user file."""

    user: str
    hash: bytes
    project: str
    roles: frozenset[str]


# bcrypt only: user:hash[:project[:role,role]]. The hash holds no colon.
ACCOUNT = re.compile(
    r"(?P<user>[^:\s]+):(?P<hash>\$2[aby]\$\d\d\$[./A-Za-z0-9]{53})(:(?P<project>[^:]*)(:(?P<roles>[^:]*))?)?"
)


def parse_accounts(text: str, name: str) -> dict[str, Account]:
    """Read a user file; raise ConfigError naming the line.

    A line is what ``htpasswd -B`` writes, with two optional fields more:
    the project (default: the user's name) and the roles (default: member
    and reader; ``admin`` makes an administrator).
    """
    accounts: dict[str, Account] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = ACCOUNT.fullmatch(line)
        if not match:
            raise ConfigError(f"{name}, line {number}: not user:bcrypt-hash[:project[:role,role]]")
        user = match["user"]
        if user in accounts:
            raise ConfigError(f"{name}, line {number}: user {user!r} is there twice")
        roles = frozenset(role.strip() for role in (match["roles"] or "").split(",") if role.strip())
        accounts[user] = Account(
            user, match["hash"].encode(), match["project"] or user, roles or DEFAULT_ROLES
        )
    return accounts


class UserFile:
    """The accounts of a file, read again when it has changed.

    A file that went away or broke while running keeps the last good
    accounts and is complained about once per change.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._accounts = self._read()

    def accounts(self) -> Mapping[str, Account]:
        """Return the current accounts by user name."""
        with self._lock:
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                try:
                    self._accounts = self._read()
                except ConfigError as error:
                    log.error("keeping the accounts read before: %s", error)  # noqa: TRY400
            return self._accounts

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> dict[str, Account]:
        try:
            text = self._path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"http_basic_auth_user_file: {error}") from error
        return parse_accounts(text, str(self._path))


class Verified:
    """Credentials found good a moment ago: bcrypt is slow on purpose.

    Only a keyed digest is held, never the password, and not for long.
    """

    SECONDS = 30.0
    ENTRIES = 1024

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._good: Memory[bytes, bool] = Memory(self.ENTRIES)

    def digest(self, credentials: bytes, account: Account) -> bytes:
        """Name credentials for one very account: a changed hash changes it."""
        return hmac.digest(self._key, account.hash + b"\0" + credentials, hashlib.sha256)

    def knows(self, digest: bytes) -> bool:
        return self._good.get(digest) is not None

    def remember(self, digest: bytes) -> None:
        self._good.set(digest, True, self.SECONDS)


class BasicAuth(Auth):
    """Check HTTP Basic credentials against a file of bcrypt hashes.

    Passwords over 72 bytes are refused, since bcrypt would cut them.
    """

    options = (
        cfg.StrOpt(
            "http_basic_auth_user_file",
            default="/etc/glancelike/htpasswd",
            help="Lines of user:bcrypt-hash[:project[:role,role]], as htpasswd -B writes them; "
            "read again when changed.",
        ),
    )
    realm = "glancelike"

    def open(self) -> None:
        """Read the file; raise ConfigError when it can't be used."""
        import bcrypt

        self._check = bcrypt.checkpw
        self._file = UserFile(Path(self.settings["http_basic_auth_user_file"]))
        self._verified = Verified()
        # Unknown users cost as much as known ones, so that time doesn't tell them.
        cost = max((int(a.hash[4:6]) for a in self._file.accounts().values()), default=12)
        self._dummy = bcrypt.hashpw(os.urandom(16).hex().encode(), bcrypt.gensalt(cost))

    def authenticate(self, req: falcon.Request) -> Caller:
        user, password = self._credentials(req)
        account = self._file.accounts().get(user)
        if not self._good(account, user, password) or account is None:
            raise self._refusal("The user name or password is wrong.")
        return Caller(
            account.user,
            account.project,
            account.roles,
            admin="admin" in account.roles,
            request_id=req.env.get("app.request_id"),
        )

    def _good(self, account: Account | None, user: str, password: bytes) -> bool:
        if account is None:
            self._compare(password, self._dummy)
            return False
        digest = self._verified.digest(password, account)
        if self._verified.knows(digest):
            return True
        if not self._compare(password, account.hash):
            return False
        self._verified.remember(digest)
        return True

    def _compare(self, password: bytes, hashed: bytes) -> bool:
        try:
            return self._check(password[:72], hashed) and len(password) <= 72
        except ValueError:
            return False

    def _credentials(self, req: falcon.Request) -> tuple[str, bytes]:
        scheme, _, encoded = (req.auth or "").partition(" ")
        if scheme.lower() != "basic":
            raise self._refusal("This service needs HTTP Basic authentication.")
        try:
            user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
            if colon:
                return user.decode("utf-8"), password
        except (binascii.Error, ValueError):
            pass
        raise self._refusal("The Authorization header is broken.")

    def _refusal(self, message: str) -> falcon.HTTPUnauthorized:
        import falcon  # not before somebody calls: commands read the configuration, too

        challenge = f'Basic realm="{self.realm}", charset="UTF-8"'
        return falcon.HTTPUnauthorized(description=message, challenges=[challenge])
