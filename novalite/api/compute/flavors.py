"""``/v2.1/flavors``."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import microversion, view
from novalite.api.compute.booleans import BOOLEAN, truth
from novalite.api.compute.resource import (
    Resource,
    body_of,
    caller_of,
    demand_known,
    demand_version,
    flag,
    integer,
    next_link,
    params_of,
)
from novalite.errors import InvalidInput
from novalite.model import Flavor, Page

NUMBER: dict[str, Any] = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]{1,9}$"}]
}
NUMBER_OR_NOTHING: dict[str, Any] = {"anyOf": [*NUMBER["anyOf"], {"const": ""}]}
FACTOR: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": 3.40282e38},
        {"type": "string", "pattern": r"^(?=.*[1-9])[0-9]{1,38}(\.[0-9]{1,30})?$"},
    ]
}

DESCRIPTION: dict[str, Any] = {"type": ["string", "null"], "maxLength": 65535}

CREATE = Schema(
    {
        "type": "object",
        "properties": {
            "flavor": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 255},
                    "id": {"type": ["string", "integer", "null"]},
                    "ram": NUMBER,
                    "vcpus": NUMBER,
                    "disk": NUMBER,
                    "swap": NUMBER_OR_NOTHING,
                    "OS-FLV-EXT-DATA:ephemeral": NUMBER_OR_NOTHING,
                    "rxtx_factor": FACTOR,
                    "os-flavor-access:is_public": BOOLEAN,
                    "description": DESCRIPTION,
                },
                "required": ["name", "ram", "vcpus", "disk"],
                "additionalProperties": False,
            }
        },
        "required": ["flavor"],
        "additionalProperties": False,
    }
)
UPDATE = Schema(
    {
        "type": "object",
        "properties": {
            "flavor": {
                "type": "object",
                "properties": {"description": DESCRIPTION},
                "required": ["description"],
                "additionalProperties": False,
            }
        },
        "required": ["flavor"],
        "additionalProperties": False,
    }
)
DESCRIBED = (2, 55)
LEANER = (2, 102)
SORT_NAMES = {
    "flavorid": "id",
    "ram": "memory_mb",
    "memory": "memory_mb",
    "disk": "disk_gb",
    "swap": "swap_mb",
}


class Flavors(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        page = self._page(req)
        resp.media = {
            "flavors": [view.brief_flavor(req, each) for each in page.items],
            **next_link(req, "flavors", page.next_marker),
        }

    def detail(self, req: falcon.Request, resp: falcon.Response) -> None:
        page = self._page(req)
        resp.media = {
            "flavors": [self._shown(req, each) for each in page.items],
            **next_link(req, "flavors", page.next_marker),
        }

    def create(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked = body_of(req, CREATE)["flavor"]
        demand_known(req, asked, {"description": DESCRIBED})
        if "rxtx_factor" in asked and microversion.since(req, LEANER):
            raise InvalidInput("Invalid input for ['flavor']: 'rxtx_factor' is no more")
        flavor = Flavor(
            id="" if asked.get("id") is None else str(asked["id"]),
            name=asked["name"],
            vcpus=int(asked["vcpus"]),
            memory_mb=int(asked["ram"]),
            disk_gb=int(asked["disk"]),
            swap_mb=int(asked.get("swap") or 0),
            ephemeral_gb=int(asked.get("OS-FLV-EXT-DATA:ephemeral") or 0),
            rxtx_factor=float(asked.get("rxtx_factor", 1)),
            public=truth(asked.get("os-flavor-access:is_public", True)),
            description=asked.get("description"),
        )
        resp.media = {"flavor": self._shown(req, self.service.flavors.create(caller_of(req), flavor))}

    def show(self, req: falcon.Request, resp: falcon.Response, flavor_id: str) -> None:
        resp.media = {"flavor": self._shown(req, self.service.flavors.show(caller_of(req), flavor_id))}

    def update(self, req: falcon.Request, resp: falcon.Response, flavor_id: str) -> None:
        demand_version(req, DESCRIBED)
        told = body_of(req, UPDATE)["flavor"]["description"]
        changed = self.service.flavors.describe(caller_of(req), flavor_id, told)
        resp.media = {"flavor": self._shown(req, changed)}

    def delete(self, req: falcon.Request, resp: falcon.Response, flavor_id: str) -> None:
        self.service.flavors.delete(caller_of(req), flavor_id)
        resp.status = 202

    def _shown(self, req: falcon.Request, flavor: Flavor) -> dict[str, Any]:
        return view.flavor(req, flavor, specs=self.service.flavors.tells_specs(caller_of(req)))

    def _page(self, req: falcon.Request) -> Page[Flavor]:
        params = params_of(req)
        key = params.get("sort_key", "id")
        direction = params.get("sort_dir", "asc")
        if direction not in ("asc", "desc"):
            raise InvalidInput(f"sort_dir must be asc or desc, not '{direction}'")
        return self.service.flavors.list(
            caller_of(req),
            limit=self.limit_of(params),
            marker=params.get("marker"),
            min_disk=integer(params, "minDisk"),
            min_ram=integer(params, "minRam"),
            name=params.get("name") if microversion.since(req, LEANER) else None,
            public=None if params.get("is_public", "").lower() == "none" else _public(params),
            sort=SORT_NAMES.get(key, key),
            descending=direction == "desc",
        )


def _public(params: dict[str, str]) -> bool:
    return flag(params, "is_public") if "is_public" in params else True
