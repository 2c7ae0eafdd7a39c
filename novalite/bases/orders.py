"""What the process is told of a base, as files that both sides name here.

An order is written once, before a guest can ask for its base, and is there as
long as the base is: a guest that is switched on again finds its backing file
under the order's token. A token is made for each order, so a guest never gets
another's bytes, and nobody guesses one who wasn't told.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from novalite.model import ImageInfo

VERSION = 1
SOCKET = "nbd.sock"
LOCK = "novalite-bases.lock"
LOG = "novalite-bases.log"


@dataclass(frozen=True, slots=True)
class Order:
    """One base: which image, and as what its bytes are used. Sizes in bytes."""

    key: str
    token: str
    image_id: str
    size: int
    disk_format: str
    format: str  # qemu's name
    virtual_size: int  # 0 until it's known
    hash_algo: str
    hash_value: str
    trace: str = ""  # what former boots read, as the image told it
    local: bool = False  # the file is a store's own: nothing is to be fetched or changed

    @classmethod
    def of(
        cls,
        image: ImageInfo,
        key: str,
        qemu_format: str,
        virtual_size: int,
        *,
        trace: str = "",
        local: bool = False,
    ) -> Order:
        """Order an image, whose size and format are known, under a token of its own."""
        return cls(
            key=key,
            token=fresh_token(),
            image_id=image.id,
            size=image.size or 0,
            disk_format=image.disk_format or "",
            format=qemu_format,
            virtual_size=virtual_size,
            hash_algo=image.hash_algo or "",
            hash_value=image.hash_value or "",
            trace=trace,
            local=local,
        )

    def sized(self, virtual_size: int) -> Order:
        """Return the order with the disk's size known."""
        return replace(self, virtual_size=virtual_size)

    @property
    def export(self) -> str:
        """The name under which NBD serves it."""
        return f"{self.key}.{self.token}"

    @property
    def image(self) -> ImageInfo:
        """What is needed of the image to fetch and to verify it."""
        return ImageInfo(
            id=self.image_id, size=self.size, hash_algo=self.hash_algo, hash_value=self.hash_value
        )


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one base in the cache's directory."""

    directory: Path
    key: str

    def _named(self, suffix: str) -> Path:
        return self.directory / f"{self.key}.{suffix}"

    @property
    def order(self) -> Path:
        return self._named("order")

    @property
    def lazy(self) -> Path:
        """The sparse file, until it is complete and verified."""
        return self._named("lazy")

    @property
    def journal(self) -> Path:
        return self._named("journal")

    @property
    def base(self) -> Path:
        return self._named("base")

    @property
    def trace(self) -> Path:
        return self._named("trace")

    def bad(self, token: str) -> Path:
        """Why a base was discarded, until its guests are dealt with."""
        return self._named(f"bad-{token}")

    @property
    def trouble(self) -> Path:
        """Why the base can't be gone on with just now."""
        return self._named("trouble")

    def used_by(self, server_id: str) -> Path:
        """A link that keeps the base while a server is built upon it."""
        return self._named(f"use-{server_id}")


def fresh_token() -> str:
    """Make a token for a new order."""
    return secrets.token_hex(16)


def write(files: Files, order: Order) -> None:
    """Write an order; it is there as a whole or not at all."""
    write_json(files.order, {"version": VERSION, **asdict(order)})


def read(path: Path) -> Order | None:
    """Return an order; None where there is none that can be read."""
    told = read_json(path)
    if told is None or told.pop("version", None) != VERSION:
        return None
    try:
        return Order(**told)
    except TypeError:
        return None


def all_in(directory: Path) -> Iterator[Order]:
    """Iterate over the orders of a cache."""
    for path in sorted(directory.glob("*.order")):
        order = read(path)
        if order is not None and order.key == path.name.removesuffix(".order"):
            yield order


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a small file that is there as a whole or not at all, a crash included."""
    part = path.with_name(f"{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    with part.open("w") as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_directory(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read what ``write_json`` wrote; None for what isn't there or isn't that."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def sync_directory(directory: Path) -> None:
    """Bring a directory's names to the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
