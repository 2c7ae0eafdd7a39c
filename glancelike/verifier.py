"""Is what arrived what the record says? For everybody who fetches an image."""

from __future__ import annotations

import hashlib
from typing import Any

from glancelike.errors import DataMismatch


class Verifier:
    """Counts and hashes what passes, and judges it at the end.

    ``algorithm`` is hashlib's name and ``expected`` the hexadecimal digest;
    without them, or without ``size`` (bytes), that isn't checked.
    """

    def __init__(
        self, image_id: str, *, size: int | None, algorithm: str | None, expected: str | None
    ) -> None:
        self._image_id = image_id
        self._size = size
        self._algorithm, self._expected = algorithm or "", (expected or "").lower()
        self.restart()

    def restart(self) -> None:
        """Forget what has passed; raise DataMismatch for an unknown algorithm."""
        self.count = 0
        self._hash: Any = None
        if self._algorithm and self._expected:
            try:
                self._hash = hashlib.new(self._algorithm, usedforsecurity=False)
            except ValueError as error:
                raise DataMismatch(
                    f"image {self._image_id}: its digest algorithm {self._algorithm} isn't known here"
                ) from error

    @property
    def complete(self) -> bool:
        """Whether all bytes have passed; without a size nobody can tell, so yes."""
        return self._size is None or self.count >= self._size

    def add(self, block: bytes) -> None:
        """Take the next bytes; raise DataMismatch for more than there should be."""
        self.count += len(block)
        if self._size is not None and self.count > self._size:
            raise DataMismatch(f"image {self._image_id} is longer than its {self._size} bytes")
        if self._hash is not None:
            self._hash.update(block)

    def finish(self) -> None:
        """Raise DataMismatch unless size and digest are right."""
        if self._size is not None and self.count != self._size:
            raise DataMismatch(f"image {self._image_id} has {self.count} bytes, not {self._size}")
        if self._hash is not None and self._hash.hexdigest() != self._expected:
            raise DataMismatch(f"image {self._image_id}: its {self._algorithm} digest isn't {self._expected}")
