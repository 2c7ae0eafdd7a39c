"""Rows to values and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from glancelike.sql.types import Document, UtcTime, decoded
from novalite.db.tables import servers
from novalite.model import (
    Address,
    ComputeHost,
    Fault,
    Flavor,
    ImageInfo,
    KeyPair,
    Server,
    TaskState,
    VmState,
)

#: Mappings that are mostly empty: NULL then.
_OPTIONAL = ("task_args", "kept")
#: Members of flavors that code before revision 0010 can't read, and what they are where they aren't told.
_YOUNG = {"ephemeral_gb": 0, "rxtx_factor": 1.0}
_SERVER_FIELDS = tuple(field.name for field in fields(Server))
_JSON = tuple(name for name in _SERVER_FIELDS if isinstance(servers.c[name].type, sa.JSON))
_TIMES = tuple(name for name in _SERVER_FIELDS if isinstance(servers.c[name].type, UtcTime))
#: A server's row as one text: drivers take rows apart in Python, column by column.
SERVER = Document(*(servers.c[name] for name in _SERVER_FIELDS))


def fault_json(fault: Fault | None) -> dict[str, Any] | None:
    """Turn a fault into what is stored."""
    if fault is None:
        return None
    return {"code": fault.code, "message": fault.message, "created_at": fault.created_at.isoformat()}


def image_json(image: ImageInfo) -> dict[str, Any]:
    """Turn an image into what is stored."""
    values = {field.name: getattr(image, field.name) for field in fields(ImageInfo)}
    return {**values, "properties": dict(image.properties)}


def image_of(stored: Mapping[str, Any]) -> ImageInfo:
    """Make an image of what is stored."""
    return ImageInfo(**stored)


def flavor_json(flavor: Flavor) -> dict[str, Any]:
    """Turn a flavor into what is stored."""
    values = {field.name: getattr(flavor, field.name) for field in fields(Flavor)}
    for name, default in _YOUNG.items():
        if values[name] == default:
            del values[name]
    extra = dict(flavor.extra_specs)
    return {**values, "extra_specs": extra, "created_at": flavor.created_at.isoformat()}


def flavor_of(stored: Mapping[str, Any]) -> Flavor:
    """Make a flavor of what is stored."""
    return Flavor(**{**stored, "created_at": datetime.fromisoformat(stored["created_at"])})


def columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn fields of a server into columns of its row."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, ImageInfo):
            found |= {"image_id": value.id, name: image_json(value)}
        elif isinstance(value, Flavor):
            found |= {"flavor_id": value.id, name: flavor_json(value)}
            found |= {"vcpus": value.vcpus, "memory_mb": value.memory_mb, "disk_gb": value.disk_gb}
        elif isinstance(value, Fault):
            found[name] = fault_json(value)
        elif name in _OPTIONAL:
            found[name] = dict(value) or None
        else:
            found[name] = dict(value) if isinstance(value, Mapping) else value
    return found


def server_values(server: Server) -> dict[str, Any]:
    """Turn a server into the values of its row."""
    values = columns({name: getattr(server, name) for name in _SERVER_FIELDS})
    values.update(
        addresses=[asdict(address) for address in server.addresses],
        tried_hosts=list(server.tried_hosts),
    )
    return values


def server(text: str) -> Server:
    """Make a server of what SERVER selects."""
    values = dict(zip(_SERVER_FIELDS, decoded(text), strict=True))
    # Some databases write a JSON column into the document as it is, others as a text.
    values |= {name: decoded(told) for name in _JSON if isinstance(told := values[name], str)}
    for name in _TIMES:
        if (told := values[name]) is not None:
            values[name] = datetime.fromisoformat(told).replace(tzinfo=UTC)
    fault = values["fault"]
    values.update(
        vm_state=VmState(values["vm_state"]),
        task_state=None if values["task_state"] is None else TaskState(values["task_state"]),
        flavor=flavor_of(values["flavor"]),
        image=image_of(values["image"]),
        addresses=tuple(Address(**address) for address in values["addresses"]),
        fault=fault and Fault(fault["code"], fault["message"], datetime.fromisoformat(fault["created_at"])),
        tried_hosts=tuple(values["tried_hosts"]),
        config_drive=bool(values["config_drive"]),
        hostname=values["hostname"] or "",  # there are none of earlier versions
        **{name: values[name] or {} for name in _OPTIONAL},
    )
    return Server(**values)


def flavor(row: Mapping[str, Any] | RowMapping) -> Flavor:
    """Make a flavor of its row."""
    return Flavor(**row)


def keypair(row: RowMapping) -> KeyPair:
    """Make a key pair of its row."""
    return KeyPair(**row)


def host(row: RowMapping, used: Mapping[str, int], server_ids: frozenset[str], *, up: bool) -> ComputeHost:
    """Make a host of its row, with the zone it's in, and of what is allocated on it."""
    values = dict(row)
    values["zone"] = values.pop("effective_zone")
    return ComputeHost(
        **values,
        vcpus_used=used["vcpus"],
        memory_mb_used=used["memory_mb"],
        disk_gb_used=used["disk_gb"],
        server_ids=server_ids,
        up=up,
    )
