"""The guard: what every store driver needs, done once around each of them.

A driver sees only keys, ranges and capabilities it has agreed to, and a
source that can't be longer or shorter than declared. A caller sees only
StoreErrors that name store and key and hold no secret, or the very
exception that the caller's own source raised.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from glancelike.errors import (
    BlobNotFound,
    ConfigError,
    GlancelikeError,
    InvalidInput,
    InvalidKey,
    InvalidRange,
    StoreDenied,
    StoreError,
    StoreFault,
    StoreFull,
    StoreUnavailable,
    Unsupported,
)
from glancelike.stores.base import BlobInfo, Cap, PartInfo, Source, Store, Usage
from glancelike.stores.counted import Counted

_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_PREFIX = re.compile(rf"(?:{_SEGMENT}/)*(?:{_SEGMENT})?")
_CREDENTIALS = re.compile(r"(?<=://)[^\s/?#]*@")
MAX_KEY = 512
MAX_PARTS = 10_000  # the tightest limit of a backend there is: S3's

_BY_ERRNO: dict[int | None, type[StoreError]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), StoreFull),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), StoreDenied),
    **dict.fromkeys((errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ESTALE), StoreUnavailable),
}
T = TypeVar("T")


def valid_key(key: str) -> bool:
    """Tell whether ``key`` is one that every store can hold."""
    return len(key) <= MAX_KEY and _KEY.fullmatch(key) is not None


class Guard:
    """A store driver made safe to call; has every method a Store has.

    ``id`` is the mounted store's id; ``capabilities`` and ``keys_by_owner``
    are the driver's own.
    Errors that the guard raises by itself: InvalidKey, InvalidRange,
    Unsupported, SizeMismatch, and StoreFault when the driver breaks its
    contract. OSErrors of a driver become StoreFull, StoreDenied,
    StoreUnavailable or StoreFault.
    """

    def __init__(self, driver: Store, *, store_id: str) -> None:
        self.driver = driver
        self.id = store_id
        self.capabilities = driver.capabilities
        self.keys_by_owner = driver.keys_by_owner
        self._secrets = tuple(
            str(driver.settings[opt.dest])
            for opt in driver.options
            if opt.secret and driver.settings.get(opt.dest)
        )

    def __repr__(self) -> str:
        return f"<Guard of store {self.id!r}: {type(self.driver).__name__}>"

    def open(self) -> None:
        """Open the driver; ConfigError passes as it is."""
        with self.errors():
            self.driver.open()

    def close(self) -> None:
        """Close the driver."""
        with self.errors():
            self.driver.close()

    def _live(self) -> Store:
        """Return the driver for a call that needs its backend."""
        return self.driver

    def stat(self, key: str) -> BlobInfo:
        """Describe the blob; raise BlobNotFound when there is none."""
        self._check_key(key)
        with self.errors(key):
            return self._blob(key, self._live().stat(key))

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Reader:
        """Return an iterator over the blob's bytes that counts them.

        Raises InvalidRange for an offset at or behind the end (but 0 of an
        empty blob) and for negative numbers; a length of 0 reads nothing.
        A driver that stops early makes the last step raise StoreFault.
        """
        self._check_key(key)
        if offset < 0 or (length is not None and length < 0):
            raise InvalidRange(f"offset {offset}, length {length}: negative", store=self.id, key=key)
        if offset or length is not None:
            self._require(Cap.RANGE, "read ranges", key)
        if length == 0:
            # Most protocols can't ask for an empty range, so no driver has to.
            size = self.stat(key).size
            if offset and offset >= size:
                raise InvalidRange(f"offset {offset} of {size} bytes", store=self.id, key=key)
            return Reader(self, key, iter(()), offset, 0)
        with self.errors(key):
            return Reader(self, key, self._live().read(key, offset=offset, length=length), offset, length)

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        """Store all of ``source`` under ``key``, exactly ``size`` bytes if given.

        Raises SizeMismatch when the source has fewer or more bytes, and
        whatever the source raises, as the same object; nothing is kept then.
        """
        self._check_key(key)
        self._require(Cap.WRITE, "write", key)
        if size is None:
            self._require(Cap.UNKNOWN_SIZE, "write without knowing the size", key)
        counted = Counted(source, size, store=self.id, key=key)
        info = self._feed(key, counted, lambda: self._live().write(key, counted, size=size))
        try:
            counted.settle()
            return self._blob(key, info, size=counted.count)
        except BaseException:
            # The driver says it's stored, so it's this call's own blob, and it's wrong.
            with suppress(Exception):
                self.driver.delete(key)
            raise

    def delete(self, key: str) -> None:
        """Remove the blob; raise BlobNotFound when there is none."""
        self._check_key(key)
        self._require(Cap.DELETE, "delete", key)
        with self.errors(key):
            self._live().delete(key)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Iterate over the complete blobs whose key starts with ``prefix``.

        What lies in the store under a name that can't be a key is left out.
        """
        self._require(Cap.LIST, "list")
        if not (len(prefix) <= MAX_KEY and _PREFIX.fullmatch(prefix)):
            raise InvalidKey(f"{prefix!r} can't be the start of a key", store=self.id)
        return self._listed(prefix)

    def _listed(self, prefix: str) -> Iterator[BlobInfo]:
        with self.errors():
            for info in self._live().list(prefix):
                if not info.key.startswith(prefix):
                    raise StoreFault(f"listed {info.key!r}, which doesn't start with {prefix!r}")
                if self._holds(info.key):
                    yield self._blob(info.key, info)

    def copy(self, source_key: str, target_key: str, *, source: Guard | None = None) -> BlobInfo:
        """Copy a blob, of ``source`` or this store, without its bytes passing through here.

        Raises BlobNotFound, BlobExists, and Unsupported also where the two
        stores have no backend in common.
        """
        self._check_key(source_key)
        self._check_key(target_key)
        self._require(Cap.COPY, "copy", source_key)
        theirs = None if source is None or source.driver is self.driver else source._live()
        if theirs is not None and type(theirs) is not type(self.driver):
            raise Unsupported("can't copy from a store of another kind", store=self.id, key=target_key)
        with self.errors(target_key):
            return self._blob(target_key, self._live().copy(source_key, target_key, source=theirs))

    def presign(self, key: str, method: str, expires: int) -> str:
        """Return a URL good for ``GET`` or ``PUT`` of the key for ``expires`` seconds."""
        self._check_key(key)
        self._require(Cap.PRESIGN, "presign", key)
        if method not in ("GET", "PUT"):
            raise Unsupported(f"can't presign {method!r}", store=self.id, key=key)
        if expires < 1:
            raise InvalidInput(f"a URL can't expire in {expires} seconds")
        with self.errors(key):
            return self._live().presign(key, method, expires)

    def local_path(self, key: str) -> Path:
        """Return the file that holds the blob; raise BlobNotFound."""
        self._check_key(key)
        self._require(Cap.LOCAL, "tell a local file", key)
        with self.errors(key):
            return self._live().local_path(key)

    def begin(self, key: str) -> str:
        """Start a resumable upload and return its id; raise BlobExists."""
        self._check_key(key)
        self._require(Cap.PARTS, "upload in parts", key)
        with self.errors(key):
            return self._live().begin(key)

    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        """Store one part of exactly ``size`` bytes; sending it again replaces it."""
        self._check_key(key)
        self._require(Cap.PARTS, "upload in parts", key)
        if not 1 <= number <= MAX_PARTS:
            raise InvalidRange(f"part {number} isn't in 1..{MAX_PARTS}", store=self.id, key=key)
        counted = Counted(source, size, store=self.id, key=key)
        info = self._feed(
            key, counted, lambda: self._live().put_part(key, upload, number, counted, size=size)
        )
        counted.settle()
        if (info.number, info.size) != (number, size):
            raise StoreFault(f"stored part {number} of {size} bytes as {info}", store=self.id, key=key)
        return info

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        """List the complete parts by number; raise BlobNotFound for an unknown upload."""
        self._check_key(key)
        self._require(Cap.PARTS, "upload in parts", key)
        with self.errors(key):
            return self._live().parts(key, upload)

    def complete(self, key: str, upload: str) -> BlobInfo:
        """Join the parts; raise BlobExists, BlobNotFound, or SizeMismatch for a gap."""
        self._check_key(key)
        self._require(Cap.PARTS, "upload in parts", key)
        with self.errors(key):
            return self._blob(key, self._live().complete(key, upload))

    def abort(self, key: str, upload: str) -> None:
        """Drop an upload and its parts; no error when it's gone."""
        self._check_key(key)
        self._require(Cap.PARTS, "upload in parts", key)
        with self.errors(key):
            self._live().abort(key, upload)

    def sweep(self, before: datetime) -> int:
        """Remove what writes and uploads that began ``before`` never finished; return how many."""
        with self.errors():
            return self._live().sweep(before)

    def probe(self) -> Mapping[str, str]:
        """Try what the backend supports beyond the contract: each feature, and ``ok`` or why not."""
        with self.errors():
            return {feature: self._scrub(said) for feature, said in self._live().probe().items()}

    def usage(self) -> Usage:
        """Tell the bytes used and free."""
        self._require(Cap.USAGE, "tell its usage")
        with self.errors():
            return self._live().usage()

    def public_properties(self) -> Mapping[str, Any]:
        """Return what administrators may know of the store."""
        with self.errors():
            return self.driver.public_properties()

    def key_of_location(self, url: str) -> str | None:
        """Return the key of the blob that a location of Glance's names, None if it's elsewhere.

        Raises InvalidKey when it is here under a name that can't be a key,
        InvalidInput for one that the driver refuses.
        """
        with self.errors(passed=InvalidInput):
            key = self._live().key_of_location(url)
        if key is not None:
            self._check_key(key)
        return key

    def key_of(self, url: str) -> str:
        """Return the key of the blob that ``url`` names; raise InvalidInput.

        That the driver refuses a caller's URL is the caller's error, so it
        passes as it is.
        """
        self._require(Cap.URLS, "tell blobs by URL")
        with self.errors(passed=InvalidInput):
            key = self.driver.key_of(url)
        self._check_key(key)
        return key

    def url_of(self, key: str) -> str:
        """Return the URL of a blob, which need not be there."""
        self._check_key(key)
        self._require(Cap.URLS, "tell blobs by URL", key)
        with self.errors(key):
            return self.driver.url_of(key)

    @contextmanager
    def errors(
        self, key: str | None = None, *, passed: type[GlancelikeError] = ConfigError
    ) -> Iterator[None]:
        """Turn what the driver raises, but ``passed``, into StoreErrors that name store and key."""
        try:
            yield
        except passed:
            raise
        except Exception as error:  # noqa: BLE001 - a driver may raise anything
            raise self.stamped(error, key) from self._presentable(error)

    def stamped(self, error: Exception, key: str | None) -> StoreError:
        """Return the StoreError that stands for ``error``."""
        if isinstance(error, StoreError):
            own = error
            own.args = tuple(self._scrub(arg) if isinstance(arg, str) else arg for arg in own.args)
        else:
            kind: type[StoreError] = StoreFault
            if isinstance(error, OSError):
                away = isinstance(error, ConnectionError | TimeoutError)
                kind = StoreUnavailable if away else _BY_ERRNO.get(error.errno, StoreFault)
            own = kind(self._scrub(f"{type(error).__name__}: {error}"))
        own.store = self.id
        own.key = own.key or key
        return own

    def _presentable(self, error: Exception) -> BaseException | None:
        """Return the cause to show in tracebacks: None when it would tell a secret."""
        cause = error.__cause__ if isinstance(error, StoreError) else error
        link = cause
        while link is not None:
            if self._scrub(str(link)) != str(link):
                return None
            link = link.__cause__ or link.__context__
        return cause

    def _scrub(self, text: str) -> str:
        text = _CREDENTIALS.sub("***@", text)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _feed(self, key: str, counted: Counted, call: Callable[[], T]) -> T:
        """Run a driver's write; what the source raised goes before all else."""
        try:
            counted.start()
            return call()
        except BaseException as error:
            if counted.error is None:
                with self.errors(key):
                    raise
            if error is counted.error:
                raise
        raise counted.error

    def _check_key(self, key: str) -> None:
        if not self._holds(key):
            raise InvalidKey(
                f"a key has up to {MAX_KEY} of the characters A-Z a-z 0-9 . _ - and segments of up to 255, "
                f"separated by /, that start with a letter or digit",
                store=self.id,
                key=self._scrub(key[: MAX_KEY + 1]),
            )

    def _holds(self, key: str) -> bool:
        """Tell whether the store can hold ``key``: a flat one, or a URL that is its own key."""
        if valid_key(key) or Cap.URLS not in self.capabilities:
            return valid_key(key)
        try:
            with self.errors(passed=InvalidInput):
                return self.driver.key_of(key) == key
        except InvalidInput:
            return False

    def _require(self, cap: Cap, what: str, key: str | None = None) -> None:
        if cap not in self.capabilities:
            raise Unsupported(f"the store can't {what}", store=self.id, key=key)

    def _blob(self, key: str, info: BlobInfo, size: int | None = None) -> BlobInfo:
        """Check what a driver tells of a blob; raise StoreFault."""
        if not isinstance(info, BlobInfo) or info.key != key or info.size < 0:
            raise StoreFault(f"the driver describes the blob as {info!r}", store=self.id, key=key)
        if size is not None and info.size != size:
            raise StoreFault(f"the driver stored {info.size} of {size} bytes", store=self.id, key=key)
        return info


class Reader:
    """The iterator over a blob: counts, translates errors and can be closed."""

    def __init__(
        self, guard: Guard, key: str, blocks: Iterator[bytes], offset: int, length: int | None
    ) -> None:
        self._guard = guard
        self._key = key
        self._blocks: Iterator[bytes] | None = blocks
        self._offset = offset
        self._length = length
        self.count = 0

    def __iter__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> bytes:
        if self._blocks is None:
            raise StopIteration
        try:
            while not (block := next(self._blocks)):
                pass
        except StopIteration:
            self.close()
            self._check_end()
            raise
        except BaseException:
            self.close()
            with self._guard.errors(self._key):
                raise
        self.count += len(block)
        if self._length is not None and self.count > self._length:
            self.close()
            self._fault(f"the driver read more than the {self._length} bytes asked for")
        return block

    def close(self) -> None:
        """Release what the driver holds for this read."""
        blocks, self._blocks = self._blocks, None
        close = getattr(blocks, "close", None)
        if close is not None:
            with self._guard.errors(self._key):
                close()

    def _check_end(self) -> None:
        # Asked only now, so that a read of a known range costs no second call to the backend.
        if self.count == self._length:
            return
        try:
            expected = self._guard.stat(self._key).size - self._offset
        except BlobNotFound:
            return  # deleted meanwhile: there is nothing left to compare with
        if self._length is not None:
            expected = min(expected, self._length)
        if self.count != expected:
            self._fault(f"the read ended after {self.count} of {expected} bytes")

    def _fault(self, message: str) -> None:
        raise StoreFault(message, store=self._guard.id, key=self._key)
