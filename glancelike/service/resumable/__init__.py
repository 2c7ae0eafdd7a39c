"""Uploads in pieces, that go on after anything: https://tus.io/protocols/resumable-upload.

``requests`` has what a caller may do, ``deposit`` where the bytes go,
``finish`` how they become an image's data, ``upkeep`` how they go away;
``presigning`` has the uploads that a client writes to the store itself.
What holds at each line: the record says what is durable and not more;
bytes come first, then the record. See docs/adr/0007-resumable-uploads.md.
"""

from __future__ import annotations

from glancelike.service.resumable.finish import HANDLER
from glancelike.service.resumable.presigning import complete_presigned, presign
from glancelike.service.resumable.requests import CHECKSUMS, Checksum, create, show, take, terminate
from glancelike.service.resumable.upkeep import look_after, release

__all__ = [
    "CHECKSUMS",
    "HANDLER",
    "Checksum",
    "complete_presigned",
    "create",
    "look_after",
    "presign",
    "release",
    "show",
    "take",
    "terminate",
]
