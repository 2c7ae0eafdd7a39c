"""Where manifests lie in the store below.

::

    blobs/<key>                           the manifest of a blob
    long/<SHA-256 of the key>             the same, where the key is too long for that
    uploads/<id>/begin                    an upload goes on; the id ends with a digest of the key
    uploads/<id>/<number>-<turn>-<size>   the manifest of a part; of several the latest turn counts
"""

from __future__ import annotations

import hashlib

BLOBS = "blobs/"
LONG = "long/"
UPLOADS = "uploads/"
MARKER = "/begin"
LONGEST = 512  # what every store can hold


def manifest_name(key: str) -> str:
    """Return where the manifest of a blob lies."""
    if len(BLOBS + key) <= LONGEST:
        return BLOBS + key
    return LONG + hashlib.sha256(key.encode()).hexdigest()
