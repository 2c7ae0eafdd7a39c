"""Actions that change a server's guest or make an image of it; see ``server_actions``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import microversion
from novalite.api.compute.addresses import access_addresses, password_of
from novalite.api.compute.booleans import BOOLEAN, truth
from novalite.api.compute.resource import caller_of, demand_known
from novalite.api.compute.server_body import changed, demand_hostname, demand_no_certificates
from novalite.api.compute.server_schema import (
    ADDRESS,
    CERTIFICATES,
    DESCRIPTION,
    HOSTNAME,
    METADATA,
    NAME,
    PASSWORD,
)
from novalite.errors import FlavorNotFound, ImageMissing, InvalidInput, KeyPairNotFound
from novalite.model import Place, Rebuild
from novalite.service import ComputeService

Act = Callable[[ComputeService, falcon.Request, falcon.Response, str, Any], None]
NUMBER: dict[str, Any] = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]{1,9}$"}]
}
DISK_CONFIG: dict[str, Any] = {"OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]}}


def _schema(required: tuple[str, ...] = (), *, optional: bool = False, **properties: Any) -> Schema:
    return Schema(
        {
            "type": ["object", "null"] if optional else "object",
            "properties": properties,
            "required": list(required),
            "additionalProperties": False,
        }
    )


REBUILD = _schema(
    ("imageRef",),
    imageRef={"type": "string", "minLength": 1, "maxLength": 255},
    name=NAME,
    adminPass=PASSWORD,
    metadata=METADATA,
    accessIPv4=ADDRESS,
    accessIPv6=ADDRESS,
    description=DESCRIPTION,
    key_name={"type": ["string", "null"], "maxLength": 255},
    user_data={"type": ["string", "null"]},
    hostname=HOSTNAME,
    trusted_image_certificates=CERTIFICATES,
    preserve_ephemeral=BOOLEAN,
    **DISK_CONFIG,
)
REBUILD_SINCE = {
    "description": (2, 19),
    "key_name": (2, 54),
    "user_data": (2, 57),
    "trusted_image_certificates": (2, 63),
    "hostname": (2, 90),
}
RESCUE = _schema(optional=True, adminPass=PASSWORD, rescue_image_ref={"type": "string", "maxLength": 255})
CREATE_IMAGE = _schema(("name",), name=NAME, metadata=METADATA)
CREATE_BACKUP = _schema(
    ("name", "backup_type", "rotation"),
    name=NAME,
    metadata=METADATA,
    backup_type={"type": "string", "maxLength": 255},
    rotation=NUMBER,
)
RESIZE = _schema(("flavorRef",), flavorRef={"type": ["string", "integer"]}, **DISK_CONFIG)


ZONE: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255}
UNSHELVE_277 = _schema(("availability_zone",), optional=True, availability_zone=ZONE)
UNSHELVE_291 = Schema(
    {
        "type": ["object", "null"],
        "properties": {"availability_zone": {**ZONE, "type": ["string", "null"]}, "host": ZONE},
        "additionalProperties": False,
    }
)


def _rebuild(
    service: ComputeService, req: falcon.Request, resp: falcon.Response, server_id: str, asked: Any
) -> None:
    demand_known(req, asked, REBUILD_SINCE)
    demand_no_certificates(asked)
    demand_hostname(req, asked)
    wanted = Rebuild(
        image_id=asked["imageRef"].rpartition("/")[2],
        name=asked["name"].strip() if "name" in asked else None,
        metadata=asked.get("metadata"),
        set_description="description" in asked,
        description=asked.get("description"),
        set_key="key_name" in asked,
        key_name=asked.get("key_name"),
        set_user_data="user_data" in asked,
        user_data=asked.get("user_data"),
        hostname=asked.get("hostname"),
        admin_password=password_of(asked),
        preserve_ephemeral=truth(asked.get("preserve_ephemeral", False)),
        **access_addresses(asked),
    )
    try:
        server = service.changes.rebuild(caller_of(req), server_id, wanted)
    except ImageMissing as error:
        raise InvalidInput(f"Cannot find image for rebuild: {error}") from error
    except KeyPairNotFound as error:
        raise InvalidInput("Invalid key_name provided.") from error
    body = changed(service, req, server)
    body.pop("OS-EXT-SRV-ATTR:user_data", None)  # it is told as user_data here
    for name, since in (("key_name", (2, 54)), ("user_data", (2, 57))):
        if microversion.since(req, since):
            body[name] = getattr(server, name)
    resp.location = body["links"][0]["href"]
    resp.media = {"server": {**body, "adminPass": wanted.admin_password}}


def _rescue(
    service: ComputeService, req: falcon.Request, resp: falcon.Response, server_id: str, asked: Any
) -> None:
    password = password_of(asked or {})
    image = (asked or {}).get("rescue_image_ref")
    try:
        service.changes.rescue(caller_of(req), server_id, password, image and image.rpartition("/")[2])
    except ImageMissing as error:
        raise InvalidInput(str(error)) from error
    resp.status = 200
    resp.media = {"adminPass": password}


def _create_image(
    service: ComputeService, req: falcon.Request, resp: falcon.Response, server_id: str, asked: Any
) -> None:
    image_id = service.changes.create_image(
        caller_of(req), server_id, asked["name"].strip(), asked.get("metadata")
    )
    _answer_image(req, resp, image_id)


def _create_backup(
    service: ComputeService, req: falcon.Request, resp: falcon.Response, server_id: str, asked: Any
) -> None:
    rotation = int(asked["rotation"])
    image_id = service.changes.create_backup(
        *(caller_of(req), server_id, asked["name"].strip(), asked["backup_type"], rotation),
        asked.get("metadata"),
    )
    if rotation:  # else it is gone as soon as it's made
        _answer_image(req, resp, image_id)


def _answer_image(req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
    if microversion.since(req, (2, 45)):
        resp.media = {"image_id": image_id}
    else:
        resp.location = f"{req.prefix}/images/{image_id}"


def _resize(
    service: ComputeService, req: falcon.Request, resp: falcon.Response, server_id: str, asked: Any
) -> None:
    try:
        service.changes.resize(caller_of(req), server_id, str(asked["flavorRef"]).rpartition("/")[2])
    except FlavorNotFound as error:
        raise InvalidInput("Unable to locate requested flavor.") from error


def _unshelve(
    service: ComputeService, req: falcon.Request, resp: falcon.Response, server_id: str, asked: Any
) -> None:
    if not microversion.since(req, (2, 77)):
        asked = None  # nobody looked at what came along
    fault = (UNSHELVE_291 if microversion.since(req, (2, 91)) else UNSHELVE_277).fault(asked)
    if fault is not None:
        raise InvalidInput(f"Invalid input for ['unshelve']{fault.where}: {fault.message}")
    told = asked or {}
    zone = "availability_zone"
    place = Place(host=told.get("host"), set_zone=zone in told, zone=told.get(zone))
    service.changes.unshelve(caller_of(req), server_id, place)


def _plain(name: str, status: int = 202) -> tuple[Schema, Act]:
    def act(
        service: ComputeService, req: falcon.Request, resp: falcon.Response, server_id: str, _: Any
    ) -> None:
        getattr(service.changes, name)(caller_of(req), server_id)
        resp.status = status

    return Schema({}), act


ACTIONS: Mapping[str, tuple[Schema, Act]] = {
    "rebuild": (REBUILD, _rebuild),
    "rescue": (RESCUE, _rescue),
    "unrescue": _plain("unrescue"),
    "createImage": (CREATE_IMAGE, _create_image),
    "createBackup": (CREATE_BACKUP, _create_backup),
    "resize": (RESIZE, _resize),
    "confirmResize": _plain("confirm_resize", 204),
    "revertResize": _plain("revert_resize"),
    "shelve": _plain("shelve"),
    "shelveOffload": _plain("shelve_offload"),
    "unshelve": (Schema({}), _unshelve),
}
