"""Where the containers come from, and where they go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from glancelike.errors import ConfigError
from glancelike_store_swift.layout import Group, Layout
from glancelike_store_swift.objects import Objects
from glancelike_store_swift.tempurls import TempUrlKey


class Containers(ABC):
    """The containers of one place."""

    @abstractmethod
    def ready(self, key: str) -> None:
        """See to it that the key has a container."""

    @abstractmethod
    def hold(self, container: str, name: str) -> None:
        """Put an empty object, before all else of a key, into its container, which stays while it's there."""

    @abstractmethod
    def held(self, group: Group) -> AbstractContextManager[None]:
        """Keep the container of a group while it is written to."""

    @abstractmethod
    def forget(self, key: str) -> None:
        """Let go of the container of a key that is gone."""


class Shared(Containers):
    """The containers of all blobs: one, or as many as the keys have beginnings."""

    def __init__(self, objects: Objects, layout: Layout, temp_url_key: TempUrlKey, *, create: bool) -> None:
        self._objects = objects
        self._layout = layout
        self._temp_url_key = temp_url_key
        self._create = create
        self._made: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        if not self._layout.seed:
            yield self._layout.container
            return
        yield from self._layout.own(self._objects.containers(f"{self._layout.container}_"))

    def find(self, container: str) -> None:
        """Look for a container, or make it if that is allowed; raise ConfigError."""
        headers = self._objects.head_container(container)
        if headers is None:
            if not self._create:
                raise ConfigError(
                    f"the container {container!r} is missing: make it, or set "
                    f"swift_store_create_container_on_put"
                )
            self._objects.put_container(container)
            headers = {}
        self._temp_url_key.check(self._objects, container, headers)

    def ready(self, key: str) -> None:
        """Make the container of a key, once; only where keys are spread is any left to make."""
        container = self._layout.container_of(key)
        if self._layout.seed and container not in self._made:
            self.find(container)
            self._made.add(container)

    def hold(self, container: str, name: str) -> None:
        self._objects.put(container, name)

    @contextmanager
    def held(self, group: Group) -> Iterator[None]:
        self.ready(group.key)
        yield

    def forget(self, key: str) -> None:
        """Do nothing: the containers stay."""
