"""Session tokens of EC2's metadata service, version 2.

A guest gets one by PUT, which a page in its browser, or a server that can be
talked into fetching a URL, mostly can't send; and it shows it with each GET.
Nothing is kept of it: a token says until when it is good, and whose it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
import time
from collections.abc import Callable

LONGEST_SECONDS = 21600  # six hours, as EC2 has it
_EXPIRY = struct.Struct(">Q")
_SALT_BYTES = 8
_SECRET_BYTES = 32


class Tokens:
    """Makes and checks tokens; thread-safe.

    All processes that guests may get to need the same ``secret``. Without
    one it is this program's own, and its end is that of all tokens: clients
    get new ones then.
    """

    def __init__(self, secret: str = "", clock: Callable[[], float] = time.time) -> None:
        self._secret = secret.encode() or secrets.token_bytes(_SECRET_BYTES)
        self._clock = clock

    def make(self, server_id: str, seconds: int) -> str:
        """Return a token that the server's guest may use for so long."""
        told = _EXPIRY.pack(int(self._clock()) + seconds) + secrets.token_bytes(_SALT_BYTES)
        return base64.urlsafe_b64encode(told + self._proof(told, server_id)).decode()

    def good(self, token: str, server_id: str) -> bool:
        """Tell whether a token is the guest's own and hasn't expired."""
        try:
            raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
            told, proof = raw[: _EXPIRY.size + _SALT_BYTES], raw[_EXPIRY.size + _SALT_BYTES :]
            (expires,) = _EXPIRY.unpack_from(told)
        except (UnicodeEncodeError, binascii.Error, struct.error):
            return False
        return hmac.compare_digest(proof, self._proof(told, server_id)) and self._clock() < expires

    def _proof(self, told: bytes, server_id: str) -> bytes:
        return hmac.new(self._secret, told + server_id.encode(), hashlib.sha256).digest()
