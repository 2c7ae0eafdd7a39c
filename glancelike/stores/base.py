"""The store driver contract: few methods, declared capabilities, nine clauses.

A driver keeps blobs under keys. What every driver owes, and what
``glancelike.testing.StoreConformance`` checks:

1. A key is absent or complete, never partial, also after kill -9. Keys are
   flat: ``a``, ``A`` and ``a/b`` are three keys and don't touch one another.
   (In a store with URLS a key may also be a URL, one that is its own key.)
2. An exception from ``source.read()`` means: discard what was written and
   let the same exception through, unchanged, whatever its type.
3. Writing an existing key raises BlobExists and keeps the old bytes, also
   under a race: of two writers exactly one wins.
4. ``read`` raises before the first byte: what can fail fails at the call,
   not when the iterator is advanced.
5. Closing the iterator releases everything (files, sockets, threads), also
   when it was never advanced; a closed iterator has ended.
6. The source is read forward in chunks, never sought, not read on after its
   end or its error, and no more than a fixed number of parts is held:
   memory is flat in the size of the blob, also when the backend is slow.
7. A missing key raises BlobNotFound (from ``delete``, too).
8. A driver is thread-safe after ``open()``, keeps nobody waiting while it
   reads a source, and is never falsy.
9. No secret in keys, errors or logs.

A driver is dumb on purpose: it neither hashes, nor retries a whole upload,
nor checks quotas, nor names keys. ``glancelike.stores.guard`` wraps every
driver and does once what all need: checks keys and capabilities, counts
bytes, compares with the declared size, stamps errors, and turns what else
a driver raises (an OSError, say) into the StoreError that it means.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from glancelike.errors import Unsupported
from glancelike.model import Source as Source  # part of the SDK
from glancelike.plugins import Plugin

if TYPE_CHECKING:
    from glancelike.stores.guard import Guard


class Cap(enum.Flag):
    """What a driver can do beyond ``stat`` and ``read``."""

    NONE = 0
    RANGE = enum.auto()  # read(offset=, length=)
    WRITE = enum.auto()
    UNKNOWN_SIZE = enum.auto()  # write(size=None)
    DELETE = enum.auto()
    LIST = enum.auto()
    COPY = enum.auto()  # inside the store, without moving bytes through here
    PRESIGN = enum.auto()
    LOCAL = enum.auto()  # local_path()
    PARTS = enum.auto()  # resumable and parallel upload
    USAGE = enum.auto()
    URLS = enum.auto()  # key_of(), url_of(): callers may name its blobs by URL


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """What a store tells of a blob. ``size`` in bytes."""

    key: str
    size: int
    modified: datetime | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class PartInfo:
    """One stored part of an upload in progress; numbers start at 1."""

    number: int
    size: int
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes used by the store's blobs, and free; None where nobody can tell.

    ``used`` is what the backend holds for them. ``logical`` is what their
    readers see, from a store in which the two differ: one that shares or
    compresses.
    """

    used: int
    free: int | None = None
    logical: int | None = None


class Store(Plugin):
    """Base class of store drivers, entry points ``glancelike.stores``.

    ``open`` raises ConfigError or StoreDenied: a store that can't work must
    fail the start, not the first upload. Where the backend is away it raises
    StoreUnavailable, with nothing left open, and is called again later.

    A driver that keeps its data in another mounted store names, in
    ``stacks_on``, the option that holds that store's id, and in
    ``needs_below`` the capabilities it can't do without. ``below`` is that
    store behind its guard: set before ``open``, opened before and closed
    after this one. Its keys are shared with whoever else uses it, so a
    driver puts its own under a prefix. Other drivers have no ``below``.

    A driver that places a blob by its image's owner sets ``keys_by_owner``,
    on the class or, where its settings decide, in its constructor. Keys are
    ``<owner>/<name>`` then, or just a name where there is no owner, and no
    other store stacks on it. A key tells who owned the image when the blob
    was written; it doesn't change with the owner.
    """

    capabilities: ClassVar[Cap] = Cap.NONE
    stacks_on: ClassVar[str | None] = None
    needs_below: ClassVar[Cap] = Cap.NONE
    keys_by_owner: bool = False
    below: Guard

    @abstractmethod
    def stat(self, key: str) -> BlobInfo:
        """Describe the blob; raise BlobNotFound when there is none."""

    @abstractmethod
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Return an iterator over the blob's bytes, in blocks of up to 1 MiB or so.

        ``offset`` and ``length`` need RANGE; ``length=None`` means to the
        end, a length is at least 1. An offset at or behind the end raises
        InvalidRange (offset 0 of an empty blob is fine); a length that
        reaches behind it is cut. The iterator has ``close()``.
        """

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        """Store all of ``source`` under ``key``.

        ``size`` is exact when given: the guard sees to it that the source
        yields just that many bytes or raises SizeMismatch. None needs
        UNKNOWN_SIZE. Raises BlobExists, StoreFull, StoreDenied,
        StoreUnavailable.
        """
        raise Unsupported("the store is read-only")

    def delete(self, key: str) -> None:
        """Remove the blob; raise BlobNotFound when there is none."""
        raise Unsupported("the store can't delete")

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Iterate over the complete blobs whose key starts with ``prefix``, in any order."""
        raise Unsupported("the store can't list")

    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        """Copy a blob without its bytes passing through here; BlobNotFound, BlobExists as above.

        ``source`` is another open store of the very same class that has the
        blob, None this one. Raises Unsupported, before anything is done,
        where the two have no backend in common that could copy.
        """
        raise Unsupported("the store can't copy")

    def presign(self, key: str, method: str, expires: int) -> str:
        """Return a URL good for ``GET`` or ``PUT`` of the key for ``expires`` seconds.

        Whoever has it needs no credentials. Nothing is looked up, and a PUT
        may replace what is there: it is for keys that nobody reads yet.
        """
        raise Unsupported("the store can't presign")

    def local_path(self, key: str) -> Path:
        """Return the file that holds the blob, for sendfile and overlays.

        The file must not be changed. Raises BlobNotFound.
        """
        raise Unsupported("the store has no local files")

    # Resumable uploads: begin, then parts in any order and in parallel, then
    # complete or abort. The upload id survives a restart of this process. A
    # key may have several uploads at once; the first to complete wins.

    def begin(self, key: str) -> str:
        """Start an upload to ``key`` and return its id; raise BlobExists."""
        raise Unsupported("the store has no resumable upload")

    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        """Store part ``number`` (1 to 10,000); sending it again replaces it.

        Parts of an upload to an object store have 5 MiB at least, but the
        last. Raises BlobNotFound for an unknown upload.
        """
        raise Unsupported("the store has no resumable upload")

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        """List the complete parts by number; raise BlobNotFound for an unknown upload."""
        raise Unsupported("the store has no resumable upload")

    def complete(self, key: str, upload: str) -> BlobInfo:
        """Join the parts, one or more numbered without a gap, into the blob.

        Raises BlobExists, BlobNotFound, or SizeMismatch when a part is
        missing; the upload stays then and may be mended.
        """
        raise Unsupported("the store has no resumable upload")

    def abort(self, key: str, upload: str) -> None:
        """Drop an upload and its parts; no error when it's gone."""
        raise Unsupported("the store has no resumable upload")

    def sweep(self, before: datetime) -> int:
        """Remove what writes and uploads that began ``before`` never finished.

        ``before`` is older than any upload may still be going on. Returns
        how many were removed. No capability: a store in which nothing can
        be left behind does nothing.
        """
        return 0

    def probe(self) -> Mapping[str, str]:
        """Try what the backend supports beyond the contract; map each feature to ``ok`` or why not.

        For ``glancelike store check``, which tries the contract itself; it may
        write, and cleans up after itself.
        """
        return {}

    def usage(self) -> Usage:
        """Tell the bytes used and free."""
        raise Unsupported("the store can't tell its usage")

    def public_properties(self) -> Mapping[str, Any]:
        """Return what administrators may know of the store: JSON values, no secret."""
        return {}

    def key_of_location(self, url: str) -> str | None:
        """Return the key of the blob that a location of Glance's names, None if it's elsewhere.

        For ``glancelike db import-glance``, by operators: ``url`` is what Glance's
        driver for the same backend has written, perhaps with credentials,
        which are neither used nor repeated. What comes back can be read here
        under just that key. The store is open; whether there is such a blob
        nobody looks.
        """
        return None

    # URLs: a caller may name blobs that are there already. Both methods only
    # translate: no I/O, and no look whether there is such a blob.

    def key_of(self, url: str) -> str:
        """Return the key of the blob that ``url`` names.

        The scheme is one of ``schemes``. Where the URL itself is the key it
        comes back in its one normal form, whose own key it is. Raises
        InvalidInput (ForbiddenUrl, say) for a URL that can't be one of a
        blob in this store.
        """
        raise Unsupported("the store's blobs have no URLs")

    def url_of(self, key: str) -> str:
        """Return the URL of a blob: no secret, no path of this host."""
        raise Unsupported("the store's blobs have no URLs")
