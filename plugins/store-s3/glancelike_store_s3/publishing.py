"""Make an object visible so that of several writers exactly one wins.

Every write carries a token in the object's metadata. Whoever isn't sure what
became of a request reads it back: the answer may have been lost, and then
"there is one already" is one's own.

Where the endpoint decides (conditions.py), a conditional request is all.
Where it doesn't, writers announce themselves:

1.  Each puts a claim of its own next to those of the others, then looks
    whether the key is free.
2.  Then it stores the object without further ado.
3.  Then it takes its claim away, and waits until none of the others is left
    that it sees: whoever could still replace the object has done so, and
    whoever comes later finds it.
4.  Then it looks whose object is there. All read the same token, so one wins.

Only this order counts. So the first step may be done while the last parts
are still being sent, and in the third nobody has to wait for the own claim
to go. This is as good as the endpoint's listings are up to date.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from glancelike.errors import BlobExists, BlobNotFound, StoreError, StoreUnavailable
from glancelike_store_s3.bucket import HIDDEN, Bucket
from glancelike_store_s3.conditions import Conditions
from glancelike_store_s3.errors import Conflicting

CLAIMS = f"{HIDDEN}claims/"
# Longer than a request takes with all its repetitions; only a writer that died holds a claim so long.
CLAIM_SECONDS = 120.0
# A claim that was put so long before the object is complete is too old to rely on.
FRESH_SECONDS = 10.0
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
    """Knows how objects are made visible in one bucket."""

    def __init__(self, bucket: Bucket, conditions: Conditions) -> None:
        self._bucket = bucket
        self._conditions = conditions

    def publish(self, key: str, token: str, operation: str, send: Send) -> Any:
        """Send what makes the object visible; return its answer, None if that was lost.

        ``send`` gets the parameters of the condition. Raises BlobExists
        where another writer has won.
        """
        with self.begin(key, token, operation) as publication:
            return publication.publish(send)

    def begin(self, key: str, token: str, operation: str) -> Publication:
        """Prepare to publish, for the length of a ``with``."""
        return Publication(self._bucket, self._conditions, key, token, operation)


class Publication:
    """The one request that makes an object visible, and what goes before and after it."""

    def __init__(self, bucket: Bucket, conditions: Conditions, key: str, token: str, operation: str) -> None:
        self._bucket = bucket
        self._key = key
        self._token = token
        self._condition = conditions.of(operation)
        self._decided = bool(self._condition) and conditions.decides
        self._folder = f"{CLAIMS}{folder_of(key)}/"
        self._claim: str | None = None
        self._claimed_at = 0.0
        self._sent = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        answered = isinstance(error, StoreError) and not isinstance(error, StoreUnavailable)
        # What was sent and not answered may still arrive, so then the claim stays.
        if error is not None and (answered or not self._sent):
            self._withdraw()

    def announce(self) -> None:
        """Do what may be done before the object is complete, which ``publish`` else does.

        Raises BlobExists. To be called when little is left to be sent.
        """
        if self._decided:
            return
        claim = self._folder + uuid.uuid4().hex
        # From before it's there: that is when others may begin to wait for it.
        self._claimed_at = time.monotonic()
        self._bucket.put(claim, b"")
        self._claim = claim
        self._bucket.check_absent(self._key)

    def publish(self, send: Send) -> Any:
        """Make the object visible; see ``Publisher.publish``."""
        if self._decided:
            return self._send(send)
        if time.monotonic() - self._claimed_at > FRESH_SECONDS:
            self._withdraw()
        if self._claim is None:
            self.announce()
        answer = self._send(send)
        claim, self._claim = str(self._claim), None
        with ThreadPoolExecutor(1, thread_name_prefix="s3-claim") as pool:
            gone = pool.submit(self._bucket.delete, claim)
            self._wait_for_others(claim)
            mine = self._is_mine()
        gone.result()
        if not mine:
            raise BlobExists("another writer was faster")
        return answer

    def _send(self, send: Send) -> Any:
        for turn in range(CONFLICTS):
            try:
                self._sent = True
                return send(self._condition)
            except Conflicting:
                # Another write was under way: by now there is its object, or none.
                self._bucket.check_absent(self._key)
                if turn == CONFLICTS - 1:
                    raise
                time.sleep(POLL_SECONDS * 2**turn)
            except (BlobExists, BlobNotFound, StoreUnavailable):
                with suppress(StoreError):
                    if self._is_mine():
                        return None
                raise
        raise AssertionError("unreachable")

    def _is_mine(self) -> bool:
        with suppress(BlobNotFound):
            return self._bucket.look(self._key).token == self._token
        return False

    def _wait_for_others(self, own: str) -> None:
        """Wait until all claims but one's own are gone that are there now."""
        others = {info.key for info in self._bucket.list(self._folder)} - {own}
        end = time.monotonic() + CLAIM_SECONDS
        while others:
            if time.monotonic() > end:
                for dead in others:
                    self._bucket.delete(dead)
                return
            time.sleep(POLL_SECONDS)
            others &= {info.key for info in self._bucket.list(self._folder)}

    def _withdraw(self) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            with suppress(StoreError):
                self._bucket.delete(claim)
