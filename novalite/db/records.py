"""Rows to values and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy.engine import RowMapping

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

_SERVER_FIELDS = frozenset(field.name for field in fields(Server))


def fault_json(fault: Fault | None) -> dict[str, Any] | None:
    """Turn a fault into what is stored."""
    if fault is None:
        return None
    return {"code": fault.code, "message": fault.message, "created_at": fault.created_at.isoformat()}


def server_values(server: Server) -> dict[str, Any]:
    """Turn a server into the values of its row."""
    values = {name: getattr(server, name) for name in _SERVER_FIELDS}
    flavor = {name: getattr(server.flavor, name) for name in (field.name for field in fields(Flavor))}
    values.update(
        flavor_id=server.flavor.id,
        flavor={
            **flavor,
            "extra_specs": dict(server.flavor.extra_specs),
            "created_at": server.flavor.created_at.isoformat(),
        },
        vcpus=server.flavor.vcpus,
        memory_mb=server.flavor.memory_mb,
        disk_gb=server.flavor.disk_gb,
        image_id=server.image.id,
        image={
            **{field.name: getattr(server.image, field.name) for field in fields(ImageInfo)},
            "properties": dict(server.image.properties),
        },
        metadata=dict(server.metadata),
        hints=dict(server.hints),
        addresses=[asdict(address) for address in server.addresses],
        fault=fault_json(server.fault),
        tried_hosts=list(server.tried_hosts),
    )
    return values


def server(row: RowMapping) -> Server:
    """Make a server of its row."""
    values = {name: row[name] for name in _SERVER_FIELDS}
    fault, flavor = row["fault"], row["flavor"]
    values.update(
        vm_state=VmState(row["vm_state"]),
        task_state=None if row["task_state"] is None else TaskState(row["task_state"]),
        flavor=Flavor(**{**flavor, "created_at": datetime.fromisoformat(flavor["created_at"])}),
        image=ImageInfo(**row["image"]),
        addresses=tuple(Address(**address) for address in row["addresses"]),
        fault=fault and Fault(fault["code"], fault["message"], datetime.fromisoformat(fault["created_at"])),
        tried_hosts=tuple(row["tried_hosts"]),
    )
    return Server(**values)


def flavor(row: RowMapping) -> Flavor:
    """Make a flavor of its row."""
    return Flavor(**row)


def keypair(row: RowMapping) -> KeyPair:
    """Make a key pair of its row."""
    return KeyPair(**row)


def host(row: RowMapping, used: Mapping[str, int], server_ids: frozenset[str], *, up: bool) -> ComputeHost:
    """Make a host of its row and of what is allocated on it."""
    return ComputeHost(
        **row,
        vcpus_used=used["vcpus"],
        memory_mb_used=used["memory_mb"],
        disk_gb_used=used["disk_gb"],
        server_ids=server_ids,
        up=up,
    )
