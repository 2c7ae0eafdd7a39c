"""Blocks whose digest is compared at their end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from glancelike.errors import DataMismatch
from glancelike.streams import Verified

BLOCKS = [b"one", b"two", b"three"]
RIGHT = hashlib.sha256(b"".join(BLOCKS)).hexdigest()


class Closing:
    """An iterator that knows whether it was closed."""

    closed = False

    def __init__(self, blocks: list[bytes]) -> None:
        self._blocks = iter(blocks)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._blocks)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("value", [RIGHT, RIGHT.upper()])
def test_right_data_passes(value: str) -> None:
    verified = Verified(iter(BLOCKS), "sha256", value)
    assert list(verified) == BLOCKS
    assert list(verified) == []
    empty = hashlib.sha256().hexdigest()
    assert list(Verified(iter([]), "sha256", empty)) == []


@pytest.mark.parametrize("blocks", [[*BLOCKS, b"more"], BLOCKS[:-1], [b"other"], []])
def test_of_wrong_data_the_end_never_comes(blocks: list[bytes]) -> None:
    got: list[bytes] = []
    with pytest.raises(DataMismatch, match="sha256"):
        got.extend(Verified(iter(blocks), "sha256", RIGHT))
    assert got == blocks[:-1]


def test_closing_releases_what_was_never_read() -> None:
    blocks = Closing(BLOCKS)
    Verified(blocks, "sha256", RIGHT).close()
    assert blocks.closed
