"""Make an object visible so that of several writers exactly one wins.

Every write carries a token in the object's metadata. Whoever isn't sure what
became of a request reads it back: the answer may have been lost, and then
"there is one already" is one's own.

Where the endpoint decides (conditions.py), a conditional request is all.
Where it doesn't, writers announce themselves. Each puts a claim of its own
next to those of the others, looks whether the key is free, stores the object
without further ado, and takes the claim away. Then it waits until none of the
claims is left that it sees: whoever could still replace the object has done so,
and whoever comes later finds it. So all read the same token, and one wins.
This is as good as the endpoint's listings are up to date.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from glancelike.errors import BlobExists, BlobNotFound, StoreError, StoreUnavailable
from glancelike_store_s3.bucket import HIDDEN, Bucket
from glancelike_store_s3.conditions import Conditions
from glancelike_store_s3.errors import Conflicting

CLAIMS = f"{HIDDEN}claims/"
# Longer than a request takes with all its repetitions; only a writer that died holds a claim so long.
CLAIM_SECONDS = 120.0
POLL_SECONDS = 0.05
CONFLICTS = 5

Send = Callable[[dict[str, str]], Any]


def new_token() -> str:
    """Make up the token of one write."""
    return uuid.uuid4().hex


def folder_of(key: str) -> str:
    """Return the name under which the claims to a key lie, as flat as the key may be deep."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


class Publisher:
    """Sends the one request that makes an object visible."""

    def __init__(self, bucket: Bucket, conditions: Conditions) -> None:
        self._bucket = bucket
        self._conditions = conditions

    def publish(self, key: str, token: str, operation: str, send: Send) -> Any:
        """Send what makes the object visible; return its answer, None if that was lost.

        ``send`` gets the parameters of the condition. Raises BlobExists
        where another writer has won.
        """
        if self._conditions.decides and (condition := self._conditions.of(operation)):
            return self._sent(key, token, lambda: send(condition))
        return self._claimed(key, token, lambda: send(self._conditions.of(operation)))

    def _sent(self, key: str, token: str, send: Callable[[], Any]) -> Any:
        for turn in range(CONFLICTS):
            try:
                return send()
            except Conflicting:
                # Another write was under way: by now there is its object, or none.
                self._bucket.check_absent(key)
                if turn == CONFLICTS - 1:
                    raise
                time.sleep(POLL_SECONDS * 2**turn)
            except (BlobExists, BlobNotFound, StoreUnavailable):
                if self._is_mine(key, token):
                    return None
                raise
        raise AssertionError("unreachable")

    def _is_mine(self, key: str, token: str) -> bool:
        with suppress(StoreError):
            return self._bucket.look(key).token == token
        return False

    def _claimed(self, key: str, token: str, send: Callable[[], Any]) -> Any:
        folder = f"{CLAIMS}{folder_of(key)}/"
        claim = folder + uuid.uuid4().hex
        self._bucket.put(claim, b"")
        try:
            self._bucket.check_absent(key)
            answer = self._sent(key, token, send)
        except StoreUnavailable:
            raise  # what was sent may still arrive, so the claim stays
        except StoreError:
            with suppress(StoreError):
                self._bucket.delete(claim)
            raise
        self._bucket.delete(claim)
        self._wait_for_others(folder)
        with suppress(BlobNotFound):
            if self._bucket.look(key).token == token:
                return answer
        raise BlobExists("another writer was faster")

    def _wait_for_others(self, folder: str) -> None:
        """Wait until all claims are gone that are there now."""
        others = {info.key for info in self._bucket.list(folder)}
        end = time.monotonic() + CLAIM_SECONDS
        while others:
            if time.monotonic() > end:
                for dead in others:
                    self._bucket.delete(dead)
                return
            time.sleep(POLL_SECONDS)
            others &= {info.key for info in self._bucket.list(folder)}
