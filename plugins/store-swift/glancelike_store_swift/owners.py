"""Blobs in the accounts of their owners, a container for each of them.

Nobody can list what a store has put into other people's accounts. So before
a key gets a container, an empty object in a container of the store's own,
the index, says that it is there. What is removed goes the other way round:
the blob, its container once it's empty, its line in the index. A crash in
between leaves a line without a blob, which ``list`` passes over and
``sweep`` removes, with all that a dead writer has left.

Containers come and go while others write to them, so a writer first puts
an empty object into its own: until that is gone Swift doesn't delete the
container. One that was deleted just before is made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from glancelike.errors import BlobNotFound, StoreDenied, StoreError, StoreUnavailable
from glancelike_store_swift.containers import Containers
from glancelike_store_swift.failures import Undecided
from glancelike_store_swift.layout import ELSEWHERE, Group, Layout, OneEach, new_id
from glancelike_store_swift.objects import Cluster, Headers, Objects
from glancelike_store_swift.place import Place
from glancelike_store_swift.tempurls import TempUrlKey

TRIES = 5


class Index:
    """The keys that are, or may be, in other accounts."""

    def __init__(self, objects: Objects, container: str) -> None:
        self._objects = objects
        self._container = container

    def add(self, key: str) -> None:
        self._objects.put(self._container, f"{ELSEWHERE}{key}")

    def remove(self, key: str) -> None:
        self._objects.delete(self._container, f"{ELSEWHERE}{key}")

    def lines(self, prefix: str = "") -> Iterator[tuple[str, datetime]]:
        """Iterate over the keys that start so, each with when it was last put down."""
        for entry in self._objects.list(self._container, f"{ELSEWHERE}{prefix}"):
            yield entry.name.removeprefix(ELSEWHERE), entry.modified


class OnesOwn(Containers):
    """The containers in one owner's account, each made for a key and deleted with it."""

    def __init__(
        self, objects: Objects, owner: str, layout: Layout, index: Index, temp_url_key: TempUrlKey
    ) -> None:
        self._objects = objects
        self._owner = owner
        self._layout = layout
        self._index = index
        self._temp_url_key = temp_url_key

    def ready(self, key: str) -> None:
        self._index.add(f"{self._owner}/{key}")
        self._objects.put_container(self._layout.container_of(key), self._temp_url_key.headers)

    def hold(self, container: str, name: str) -> None:
        for _ in range(TRIES):
            if self._objects.put_if_possible(container, name):
                return
            # It isn't made yet, or somebody has just found it empty.
            self._objects.put_container(container, self._temp_url_key.headers)
        raise StoreUnavailable(f"the container {container!r} is deleted time and again: try later")

    @contextmanager
    def held(self, group: Group) -> Iterator[None]:
        self._index.add(f"{self._owner}/{group.key}")
        self.hold(group.container, group.hold)
        try:
            yield
        except Undecided:
            raise  # the blob may appear yet
        except BaseException:
            with suppress(StoreError):
                self._objects.delete(group.container, group.hold)
                self.forget(group.key)
            raise
        with suppress(StoreError):
            self._objects.delete(group.container, group.hold)

    def forget(self, key: str) -> None:
        """Delete the container and the line, unless somebody is writing there."""
        container, line = self._layout.container_of(key), f"{self._owner}/{key}"
        if not self._objects.delete_container(container):
            return
        self._index.remove(line)
        if self._objects.head_container(container) is not None:
            # A writer has come in between, and its line went instead of the old one.
            self._index.add(line)


class Owners:
    """The accounts of the owners, by the role of a reseller administrator."""

    def __init__(
        self, objects: Objects, temp_url_key: TempUrlKey, cluster: Cluster, settings: Mapping[str, Any]
    ) -> None:
        self._objects = objects
        self._temp_url_key = temp_url_key
        self._cluster = cluster
        self._settings = settings
        self._container: str = settings["swift_store_container"]
        self._layout = OneEach(self._container, 0)
        self._index = Index(objects, self._container)

    def check(self) -> None:
        """Raise StoreDenied unless the user may do everything in every account."""
        try:
            self._account_of(new_id()).client.call("HEAD", "", expect={404})
        except StoreDenied:
            raise StoreDenied(
                "swift_store_multi_tenant: swift_store_user may not act in other accounts; it needs the "
                "role of reseller administrators, ResellerAdmin in Keystone, .reseller_admin in TempAuth"
            ) from None

    def place(self, owner: str) -> Place:
        """Return the place of an owner's blobs."""
        objects = self._account_of(owner)
        containers = OnesOwn(objects, owner, self._layout, self._index, self._temp_url_key)
        return Place(objects, self._layout, containers, self._cluster, self._settings)

    def blobs(self, prefix: str) -> Iterator[tuple[str, Headers]]:
        """Iterate over the complete blobs, each with its headers."""
        for key, _ in self._index.lines(prefix):
            place, name = self._found(key)
            headers = place.head(name)
            if headers is not None:
                yield key, headers

    def containers(self) -> Iterator[Headers]:
        """Iterate over the headers of the containers."""
        for key, _ in self._index.lines():
            place, name = self._found(key)
            yield place.objects.head_container(self._layout.container_of(name)) or {}

    def sweep(self, before: datetime) -> int:
        """Remove what dead writers left, containers and lines of the index, too; return how many writers."""
        swept = 0
        for key, since in self._index.lines():
            if since >= before:
                continue
            place, name = self._found(key)
            with suppress(BlobNotFound):  # the container
                swept += place.sweep([self._layout.container_of(name)], before)
            if place.head(name) is None:
                place.containers.forget(name)
        return swept

    def _found(self, key: str) -> tuple[Place, str]:
        owner, _, name = key.partition("/")
        return self.place(owner), name

    def _account_of(self, owner: str) -> Objects:
        # Accounts are called as the store's own is, AUTH_<project id>, say.
        return self._objects.at("".join(self._objects.account.rpartition("_")[:2]) + owner)
