"""The import plugin contract: work on staged data before it goes to its stores.

Entry points ``glancelike.import_plugins``; the names in
``[image_import_opts] image_import_plugins`` run in that order. What a
plugin owes:

1. It may be run again after its process died, on data that it has done
   its work on already: it looks first, and then does nothing.
2. It raises a GlancelikeError to refuse the image; the import then fails
   and the image is queued again.
3. It never trusts the data: no program reads it without a named format and
   resource limits, nothing it refers to is opened.
4. It keeps its files in ``workspace()`` and its memory flat.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from glancelike.model import Caller, Image, Source
from glancelike.plugins import Plugin


class Subject(ABC):
    """A staged image in the hands of a plugin."""

    caller: Caller

    @property
    @abstractmethod
    def image(self) -> Image:
        """The record as it is now; ``image.size`` is that of the staged data."""

    @property
    @abstractmethod
    def size_cap(self) -> int:
        """The most bytes that ``replace_data`` takes: look before making more of a small image."""

    @abstractmethod
    def source(self) -> AbstractContextManager[Source]:
        """Give the staged data to read once, forward."""

    @abstractmethod
    def local(self) -> AbstractContextManager[Path]:
        """Give the staged data as a local file, only to be read."""

    @abstractmethod
    def workspace(self) -> AbstractContextManager[Path]:
        """Give an empty directory that is removed afterwards."""

    @abstractmethod
    def replace_data(
        self,
        source: Source,
        *,
        size: int | None,
        disk_format: str | None = None,
        container_format: str | None = None,
    ) -> None:
        """Put other data in the place of the staged, in these formats if given.

        Raises ImageTooLarge, StoreError, LeaseLost.
        """

    @abstractmethod
    def set_properties(self, properties: Mapping[str, str]) -> None:
        """Add or replace custom properties; raise ReadOnlyProperty, LeaseLost."""

    @abstractmethod
    def confirm(self) -> None:
        """Raise LeaseLost when another process has taken the work over, ImageNotFound when it is in vain.

        To be called now and then by what takes long.
        """


class ImportPlugin(Plugin):
    """Base class of import plugins."""

    @abstractmethod
    def process(self, subject: Subject) -> None:
        """Do the work; see the clauses above."""
