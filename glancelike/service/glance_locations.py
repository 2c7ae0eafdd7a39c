"""Locations as a Glance's database has them: URLs, perhaps encrypted, often with credentials."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from glancelike.errors import ConfigError, InvalidInput, StoreError, UnknownStore
from glancelike.model import Location
from glancelike.vfs import Mount, MountTable

OPTION = "metadata_encryption_key"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.+", re.DOTALL)
BLOCK = 16  # of AES, in bytes


class Decryption:
    """Reads URLs that a Glance with ``metadata_encryption_key`` has encrypted (glance/common/crypt.py)."""

    def __init__(self, key: str | None) -> None:
        self._cipher = None if key is None else key.encode()
        if self._cipher is not None and len(self._cipher) not in (16, 24, 32):
            raise ConfigError(f"{OPTION} must have 16, 24 or 32 bytes, not {len(self._cipher)}")

    def url(self, kept: str) -> str:
        """Return the URL; raise InvalidInput for one that can't be read."""
        if _URL.fullmatch(kept):
            return kept
        if self._cipher is None:
            raise InvalidInput(f"its location is encrypted: Glance's {OPTION} is needed")
        found = self._decrypted(self._cipher, kept)
        if not _URL.fullmatch(found):
            raise InvalidInput(f"its location can't be decrypted: is that Glance's {OPTION}?")
        return found

    @staticmethod
    def _decrypted(key: bytes, kept: str) -> str:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        try:
            data = base64.urlsafe_b64decode(kept)
            decryptor = Cipher(algorithms.AES(key), modes.CBC(data[:BLOCK])).decryptor()
            padded = decryptor.update(data[BLOCK:]) + decryptor.finalize()
            # A NUL and noise fill the last block.
            return padded[: padded.rfind(b"\0")].decode()
        except (ValueError, binascii.Error):
            return ""


def place(mounts: MountTable, url: str, metadata: Mapping[str, Any], size: int | None) -> Location:
    """Return where the data of a location lies in the mounted stores.

    The store that Glance knew it by is asked first. With a ``size``, not
    None, the blob must be there and have it. Raises InvalidInput, without
    the URL: that may hold a secret.
    """
    faults = []
    for mount in _likely(mounts, metadata.get("store")):
        try:
            key = mount.store.key_of_location(url)
            if key is None:
                continue
            if size is not None and (found := mount.store.stat(key).size) != size:
                faults.append(f"store {mount.id} has {found} bytes instead of {size}")
                continue
        except (StoreError, InvalidInput) as error:
            faults.append(f"store {mount.id}: {error.args[0] if error.args else error}")
            continue
        return Location(mount.id, key, _metadata(metadata))
    raise InvalidInput("; ".join(faults) or f"no store here has the place of its location {shown(url)}")


def _likely(mounts: MountTable, named: Any) -> Iterator[Mount]:
    first = None
    if isinstance(named, str):
        try:
            first = mounts.listed(named)
        except UnknownStore:
            first = None
    if first is not None:
        yield first
    yield from (mount for mount in mounts if mount is not first)


def _metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(key): value if isinstance(value, str) else json.dumps(value)
        for key, value in metadata.items()
        if key != "store"
    }


def shown(url: str) -> str:
    """Return what may be told of a URL: scheme and last part, no credential and no query."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://.../{rest.rpartition('/')[2].partition('?')[0].rpartition('@')[2]}"
