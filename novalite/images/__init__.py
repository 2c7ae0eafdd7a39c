"""The only door to the image service.

``http.HttpImages`` speaks the Image API v2, so a real Glance does as well;
``library.LibraryImages`` uses an opened glancelike service in the same process.
Both give values and verified files, and translate every foreign error:
ImageMissing, ImageUnusable, or ImageServiceDown (retryable).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from glancelike import errors
from glancelike.verifier import Verifier
from novalite.errors import (
    Forbidden,
    ImageMissing,
    ImageServiceDown,
    ImageUnusable,
    InvalidInput,
    QuotaExceeded,
    Unsupported,
)
from novalite.model import Caller, ImageInfo

Check = Callable[[], None]


class Images(Protocol):
    """What the service and the compute worker need of images."""

    def open(self) -> None:
        """Get ready; no error when the image service is away just now."""

    def close(self) -> None:
        """Release everything."""

    def show(self, image_id: str, caller: Caller) -> ImageInfo:
        """Return an image the caller may see."""

    def fetch(self, image: ImageInfo, target: Path, check: Callable[[], None] = lambda: None) -> None:
        """Write the image's verified bytes to a file.

        ``check`` is called between blocks; what it raises ends the transfer.
        An OSError of the target passes.
        """

    def create(self, values: Mapping[str, Any], caller: Caller) -> str:
        """Make an image without data for the caller; return its id.

        ``values`` are the Image API's. Raises Forbidden, QuotaExceeded,
        InvalidInput or ImageServiceDown.
        """

    def upload(self, image_id: str, source: Path, values: Mapping[str, Any], check: Check) -> None:
        """Set ``values`` and make a file the image's data, which makes it active.

        Nothing is done when it has data already. ``check`` is as in ``fetch``.
        """

    def delete(self, image_id: str, *, unless_filled: bool = False) -> None:
        """Remove an image, or leave it if it has data and shouldn't; no error when it's gone."""

    def with_properties(self, **properties: str) -> tuple[str, ...]:
        """Return the ids of the images with all of the properties, newest first."""


@runtime_checkable
class LocalImages(Protocol):
    """Images whose data may lie in a file of this host."""

    def files_of(self, image: ImageInfo) -> list[tuple[str, str]]:
        """Return where the data lies: a file store's id and the path in it, or "" and a whole path."""


def verifier_of(image: ImageInfo) -> Verifier:
    """Make what checks the image's bytes while they arrive."""
    algorithm, expected = image.hash_algo, image.hash_value
    if not (algorithm and expected):
        algorithm, expected = "md5", image.checksum
    return Verifier(image.id, size=image.size, algorithm=algorithm, expected=expected)


@contextmanager
def translated(image_id: str) -> Iterator[None]:
    """Turn the image service's errors into this package's."""
    try:
        yield
    except errors.Unsupported as error:
        raise Unsupported(str(error)) from error
    except (errors.NoImageData, errors.InvalidTransition) as error:
        raise ImageUnusable(str(error)) from error
    except errors.DataMismatch as error:
        raise ImageUnusable(str(error)) from error
    except (errors.NotFound, errors.Forbidden, errors.InvalidInput) as error:
        raise ImageMissing(f"image {image_id} not found") from error
    except errors.GlancelikeError as error:
        raise ImageServiceDown(f"image {image_id}: {error}") from error


@contextmanager
def changing(what: str) -> Iterator[None]:
    """Turn the errors of making and changing images into this package's."""
    try:
        yield
    except errors.NotFound as error:
        raise ImageMissing(f"{what} not found") from error
    except errors.Forbidden as error:
        raise Forbidden(f"{what}: the image service doesn't allow it: {error}") from error
    except errors.LimitExceeded as error:
        raise QuotaExceeded(f"{what}: {error}") from error
    except errors.InvalidInput as error:
        raise InvalidInput(f"{what}: {error}") from error
    except errors.GlancelikeError as error:
        raise ImageServiceDown(f"{what}: {error}") from error


class CheckedFile:
    """A file that ``check`` is asked about before each block."""

    def __init__(self, file: BinaryIO, check: Check) -> None:
        self._file = file
        self._check = check

    def read(self, size: int = -1, /) -> bytes:
        self._check()
        return self._file.read(size)
