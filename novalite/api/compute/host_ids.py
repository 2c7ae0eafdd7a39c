"""What hosts are called by clients: they have names only."""

from __future__ import annotations

import uuid
import zlib

import falcon

from novalite.api.compute import microversion
from novalite.model import ComputeHost

_SPACE = uuid.UUID("6f70656e-7374-5163-ab2d-6e6f76616c69")


def id_of(req: falcon.Request, host: ComputeHost) -> str | int:
    """Return the id of a host, as hypervisor and as service: from 2.53 on a UUID, a number before."""
    return uuid_of(host) if microversion.since(req, (2, 53)) else number_of(host)


def number_of(host: ComputeHost) -> int:
    """Number a host: the same again for the same name."""
    return zlib.crc32(host.name.encode()) & 0x7FFFFFFF


def uuid_of(host: ComputeHost) -> str:
    """Make a host's UUID: the same again for the same name."""
    return str(uuid.uuid5(_SPACE, host.name))
