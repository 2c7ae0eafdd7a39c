"""Find out whether the endpoint decides between two writers of one key.

An endpoint may refuse a conditional write (``If-None-Match: *``) where there
is an object already, and yet let two writers win who began before either
had ended: it looks when a request begins. Such a one is told by a second
write that comes and goes while the first is still being sent.
"""

from __future__ import annotations

import io
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from glancelike.errors import BlobExists, StoreDenied, StoreError, StoreUnavailable
from glancelike_store_s3.bucket import CONTENT_TYPE, HIDDEN, Bucket
from glancelike_store_s3.errors import Conflicting, translated

OK = "ok"
UNLESS_THERE = {"IfNoneMatch": "*"}
IGNORED = "the condition is ignored: what is there is replaced"
LATE = "the condition is checked when a write begins: of two at a time both succeed"
# More than a connection may hold back, so that the write is under way when the other one comes.
SLOW_BODY = 256 * 1024
T = TypeVar("T")


@dataclass
class Conditions:
    """What the endpoint makes of conditions; found out when first needed.

    ``setting`` is that of s3_store_conditional_writes; ``connect`` makes a
    client of its own, whose events are nobody else's. A process asks each
    endpoint once, however many stores it opens there.
    """

    _known: ClassVar[dict[str, dict[str, str]]] = {}
    _known_copy: ClassVar[dict[str, str]] = {}

    bucket: Bucket
    setting: str
    connect: Callable[..., Any]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def decides(self) -> bool:
        """Tell whether the endpoint lets exactly one of several writers win."""
        found = self.found()
        return all(found[each] == OK for each in ("put", "complete", "race"))

    def of(self, operation: str) -> dict[str, str]:
        """Return the condition to send with ``put``, ``complete`` or ``copy``, if it's heeded."""
        heeded = self.copy() if operation == "copy" else self.found()[operation]
        return UNLESS_THERE if heeded == OK else {}

    def found(self) -> Mapping[str, str]:
        """Return ``ok`` or why not for put, complete and race."""
        if self.setting != "auto":
            said = OK if self.setting == "always" else "s3_store_conditional_writes is never"
            return dict.fromkeys(("put", "complete", "race"), said)
        return self._once(self._known, self._find_out)

    def copy(self) -> str:
        """Return ``ok`` or why not for copies. Most endpoints have no conditional ones."""
        if self.found()["put"] != OK:
            return self.found()["put"]
        return self._once(self._known_copy, self._try_copy)

    def _once(self, known: dict[str, T], find_out: Callable[[], T]) -> T:
        endpoint = self.bucket.client.meta.endpoint_url
        # Without the lock first: what is known must not wait for an endpoint that hangs.
        if endpoint not in known:
            with self._lock:
                if endpoint not in known:
                    known[endpoint] = find_out()
        return known[endpoint]

    def _find_out(self) -> dict[str, str]:
        name = f"{HIDDEN}probe/{uuid.uuid4().hex}"
        try:
            return {
                "put": self._try_put(name),
                "complete": self._try_complete(name),
                "race": self._try_race(f"{name}-race"),
            }
        finally:
            self._tidy(name, f"{name}-complete", f"{name}-race")

    def _try_put(self, name: str) -> str:
        return _reason(
            lambda: self.bucket.put(name, b"1", **UNLESS_THERE),
            lambda: self.bucket.put(name, b"2", **UNLESS_THERE),
        )

    def _try_complete(self, name: str) -> str:
        """Complete an upload where nothing is, and one where something is."""
        return _reason(
            lambda: self._upload(f"{name}-complete"),
            lambda: self._upload(name),
        )

    def _upload(self, name: str) -> None:
        upload = self.bucket.begin(name, "")
        try:
            with translated():
                sent = self.bucket.client.upload_part(
                    **self.bucket.at(name), UploadId=upload, PartNumber=1, Body=b"3"
                )
            self.bucket.complete(name, upload, {1: sent["ETag"]}, **UNLESS_THERE)
        except BaseException:
            with suppress(StoreError):
                self.bucket.abort(name, upload)
            raise

    def _try_race(self, name: str) -> str:
        """Begin one write, let another one through, then end the first."""
        if self._is_swift():
            return LATE
        # Sent once: a repetition would begin after the other write, and be refused for that.
        client = self.connect(s3_store_max_attempts=1)
        body = _Interrupted(SLOW_BODY, lambda: self.bucket.put(name, b"in between", **UNLESS_THERE))
        client.meta.events.register("before-send.s3.PutObject", lambda **_: body.arm())
        try:
            with translated():
                client.put_object(**self.bucket.at(name), Body=body, ContentType=CONTENT_TYPE, **UNLESS_THERE)
        except (BlobExists, Conflicting):
            return OK
        except (StoreDenied, StoreUnavailable):
            raise
        except StoreError as error:
            return str(error)
        finally:
            client.close()
        return LATE

    def _is_swift(self) -> bool:
        """Tell Swift by its header: a proxy in front of it that keeps back bodies would hide the race."""
        with translated():
            answer = self.bucket.client.list_objects_v2(Bucket=self.bucket.name, MaxKeys=1)
        return "x-trans-id" in answer["ResponseMetadata"]["HTTPHeaders"]

    def _try_copy(self) -> str:
        name = f"{HIDDEN}probe/{uuid.uuid4().hex}"
        at = {**self.bucket.at(f"{name}-copy"), "CopySource": self.bucket.at(name)}

        def copy() -> None:
            with translated():
                self.bucket.client.copy_object(**at, **UNLESS_THERE)

        try:
            self.bucket.put(name, b"1")
            return _reason(copy, copy)
        finally:
            self._tidy(name, f"{name}-copy")

    def _tidy(self, *names: str) -> None:
        for name in names:
            with suppress(StoreError):
                self.bucket.delete(name)


def _reason(absent: Callable[[], Any], present: Callable[[], Any]) -> str:
    """Tell ``ok`` if only the first call succeeds, else what is wrong."""
    try:
        absent()
    except BlobExists:
        return "a conditional request fails where nothing is"
    except (StoreDenied, StoreUnavailable):
        raise
    except StoreError as error:
        return str(error)
    try:
        present()
    except BlobExists:
        return OK
    except (StoreDenied, StoreUnavailable):
        raise
    except StoreError as error:
        return str(error)
    return IGNORED


class _Interrupted(io.BytesIO):
    """A body that has something done when half of it is sent."""

    def __init__(self, size: int, then: Callable[[], Any]) -> None:
        super().__init__(bytes(size))
        self._half = size // 2
        self._then = then
        self._armed = False

    def arm(self) -> None:
        """Begin to watch: until now it was read for its signature alone."""
        self._armed = True

    def read(self, size: int | None = -1, /) -> bytes:
        if self._armed and self.tell() >= self._half:
            self._armed = False
            # Its own failure isn't the question: the outer write tells what came of it.
            with suppress(StoreError):
                self._then()
        return super().read(size)
