"""Making a blob visible: of several writers of a key exactly one wins.

``If-None-Match: *`` isn't enough. An object server looks at it when a PUT
begins; of two PUTs that began before either ended both succeed, and the
later timestamp stays. So who is about to publish says so first:

1. put a claim under the key;
2. put the object with ``If-None-Match: *`` and a nonce of one's own;
3. list the claims. Two PUTs that both succeeded each began before the other
   ended, and each claim was there before its PUT: so both writers see the
   other's claim. Who sees none has won, and whoever comes later gets 412;
4. who sees others marks its claim as done, waits until they are done or
   gone, and looks whose nonce is in the object: that one has won.

The data is in the segments by then, so that all this takes moments. A claim
whose writer died counts for CLAIM_SECONDS, by the cluster's clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from glancelike.errors import BlobExists, StoreError, StoreUnavailable
from glancelike_store_swift.client import Answer
from glancelike_store_swift.failures import Undecided
from glancelike_store_swift.layout import CLAIMS, NONCE_META, UPLOAD_META, Layout, new_id
from glancelike_store_swift.objects import Objects

CLAIM_SECONDS = 120.0
DONE = ".done"
Put = Callable[[dict[str, str]], Answer]


class Publisher:
    """Publish objects under keys that nobody has taken."""

    def __init__(self, objects: Objects, layout: Layout) -> None:
        self._objects = objects
        self._layout = layout

    def publish(self, key: str, upload: str, put: Put) -> None:
        """Have ``put`` store the object; it sends the headers it is given.

        Raises BlobExists, and Undecided when nobody can tell whether the
        object is there or will be: what it refers to must stay then.
        """
        container, nonce = self._layout.container_of(key), new_id()
        claim = f"{CLAIMS}{key}/{nonce}"
        self._objects.put(container, claim)
        certain = True
        try:
            self._put(key, upload, nonce, put)
            with _undecided():
                mine = self._is_mine(key, nonce, container)
            if not mine:
                raise BlobExists("another writer was faster")
        except Undecided:
            certain = False
            raise
        finally:
            # A request that may still be carried out keeps its claim until that is too old.
            if certain:
                for name in (claim, claim + DONE):
                    with suppress(StoreError):
                        self._objects.delete(container, name)

    def _put(self, key: str, upload: str, nonce: str, put: Put) -> None:
        """Store the object; raise Undecided when a try of it may still be under way."""
        headers = {"If-None-Match": "*", UPLOAD_META: upload, NONCE_META: nonce}
        headers["Content-Type"] = "application/octet-stream"
        answer: Answer | None = None
        with suppress(StoreUnavailable):
            answer = put(headers)
        if answer is not None and answer.status == 201:
            return
        with _undecided():
            found = self._nonce(key)
        if found == nonce:
            return
        if answer is None or answer.tries > 1:
            raise Undecided("no answer to the request that publishes the blob")
        if found is None:
            # Refused for an object that isn't there any more, or for a newer tombstone.
            raise StoreUnavailable("the key was taken for a moment: try again")
        raise BlobExists("the blob is there already")

    def _is_mine(self, key: str, nonce: str, container: str) -> bool:
        """Tell whether the object that stays is this writer's."""
        everyone, undone = self._claims(key, nonce, container)
        if not everyone:
            return True
        self._objects.put(container, f"{CLAIMS}{key}/{nonce}{DONE}")
        deadline = time.monotonic() + CLAIM_SECONDS
        wait = 0.02
        while undone and time.monotonic() < deadline:
            time.sleep(wait)
            wait = min(2 * wait, 1.0)
            _, undone = self._claims(key, nonce, container)
        return self._nonce(key) == nonce

    def _claims(self, key: str, nonce: str, container: str) -> tuple[set[str], set[str]]:
        """Return the claims of other writers, and those of them that may yet publish."""
        prefix = f"{CLAIMS}{key}/"
        claims = {
            entry.name.removeprefix(prefix): entry.modified
            for entry in self._objects.list(container, prefix, delimiter="/")
        }
        own = claims.get(nonce)
        oldest = None if own is None else own - timedelta(seconds=CLAIM_SECONDS)
        others = {
            name
            for name, made in claims.items()
            if name != nonce and not name.endswith(DONE) and (oldest is None or made > oldest)
        }
        return others, {name for name in others if f"{name}{DONE}" not in claims}

    def _nonce(self, key: str) -> str | None:
        """Return the nonce of the object under a key, "" of one that has none."""
        headers = self._objects.head(self._layout.container_of(key), key, newest=True)
        return None if headers is None else headers.get(NONCE_META, "")


@contextmanager
def _undecided() -> Iterator[None]:
    """Turn errors of looking into Undecided: the object may be there all the same."""
    try:
        yield
    except StoreError as error:
        raise Undecided(*error.args) from None
