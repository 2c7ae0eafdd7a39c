"""Who may call a registry server: whoever has the secret."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

import falcon

from glancelike.model import Caller
from glancelike.web.auth import Auth


class SecretAuth(Auth):
    """Take whoever sends one of the secrets as a bearer for an administrator."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__({})
        self._known = [_digest(secret) for secret in secrets]

    def authenticate(self, req: falcon.Request) -> Caller:
        kind, _, sent = (req.auth or "").partition(" ")
        digest = _digest(sent.strip())
        # All are compared: how long it takes tells nothing.
        good = [hmac.compare_digest(digest, known) for known in self._known]
        if kind.lower() != "bearer" or not any(good):
            raise falcon.HTTPUnauthorized(
                description="this server needs another registry_secret", challenges=["Bearer"]
            )
        return Caller.administrator()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
