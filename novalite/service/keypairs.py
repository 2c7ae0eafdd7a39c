"""What may be done with key pairs: SSH keys, and X.509 certificates for guests that know no SSH."""

from __future__ import annotations

import base64
import hashlib
import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from novalite.db import Database
from novalite.errors import InvalidInput
from novalite.model import SSH, X509, Caller, KeyPair, Page
from novalite.policy import Policy
from novalite.service import certificates
from novalite.service.checks import check_name
from novalite.service.quotas import Quotas

RULES = "os_compute_api:os-keypairs:"
_NAME = re.compile(r"[0-9A-Za-z@._ -]+")
_MOST_CHARS = 16384


class KeyPairs:
    """The use cases of key pairs, each user having their own; thread-safe.

    ``user`` is whose are meant, by default the caller's; a rule says whether
    another's may be. All raise Forbidden.
    """

    def __init__(self, database: Database, quotas: Quotas, policy: Policy) -> None:
        self._keypairs = database.keypairs
        self._quotas = quotas
        self._policy = policy

    def list(
        self, caller: Caller, *, limit: int = 1000, marker: str | None = None, user: str | None = None
    ) -> Page[KeyPair]:
        """Return one page by name; raise InvalidInput."""
        owner = self._owner(caller, user, "index")
        if limit < 0:
            raise InvalidInput(f"limit must not be negative: {limit}")
        return self._keypairs.list(owner, limit=limit, marker=marker)

    def show(self, caller: Caller, name: str, *, user: str | None = None) -> KeyPair:
        """Return one key pair; raise KeyPairNotFound."""
        return self._keypairs.get(self._owner(caller, user, "show"), name)

    def import_key(
        self, caller: Caller, name: str, public_key: str, *, kind: str = SSH, user: str | None = None
    ) -> KeyPair:
        """Keep a public key, or a certificate, that the user has.

        Raises InvalidInput, KeyPairExists or QuotaExceeded.
        """
        owner = self._owner(caller, user, "create")
        return self._add(caller, owner, name, public_key.strip(), kind)

    def create(
        self, caller: Caller, name: str, *, kind: str = SSH, user: str | None = None
    ) -> tuple[KeyPair, str]:
        """Make a key pair; return it and the private key, which isn't kept.

        Raises InvalidInput, KeyPairExists or QuotaExceeded.
        """
        owner = self._owner(caller, user, "create")
        if kind == X509:
            certificate, secret = certificates.make(owner)
            return self._add(caller, owner, name, certificate, kind), secret
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        text = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        pair = self._add(caller, owner, name, f"{public.decode()} Generated-by-novalite", kind)
        return pair, text.decode()

    def delete(self, caller: Caller, name: str, *, user: str | None = None) -> None:
        """Forget a key pair; servers keep theirs. Raises KeyPairNotFound."""
        self._keypairs.delete(self._owner(caller, user, "delete"), name)

    def _owner(self, caller: Caller, user: str | None, rule: str) -> str:
        """Return whose key pairs are meant; raise Forbidden unless a rule lets the caller at them."""
        owner = user if user is not None else caller.user or ""
        self._policy.check(caller, f"{RULES}{rule}", {"user_id": owner})
        return owner

    def _add(self, caller: Caller, owner: str, name: str, public_key: str, kind: str) -> KeyPair:
        check_name("name", name)
        if not _NAME.fullmatch(name) or name != name.strip():
            raise InvalidInput(
                "a key pair's name has letters, digits, spaces, and the characters @ . - _ only"
            )
        fingerprint = certificates.fingerprint_of if kind == X509 else fingerprint_of
        pair = KeyPair(owner, name, public_key, fingerprint(public_key), kind)
        self._keypairs.insert(pair, quota=self._quotas.of(caller.project or "")["key_pairs"])
        return pair


def fingerprint_of(public_key: str) -> str:
    """Return the MD5 fingerprint of an SSH public key; raise InvalidInput."""
    if len(public_key) > _MOST_CHARS or "\n" in public_key or "\r" in public_key:
        raise InvalidInput("the public key isn't one line of a bearable length")
    try:
        serialization.load_ssh_public_key(public_key.encode())
        blob = base64.b64decode(public_key.split()[1], validate=True)
    except (ValueError, IndexError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"the public key isn't an OpenSSH key: {error}") from error
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return ":".join(digest[i : i + 2] for i in range(0, 32, 2))
