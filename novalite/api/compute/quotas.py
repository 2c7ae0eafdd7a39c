"""``/v2.1/os-quota-sets`` and ``/v2.1/os-quota-class-sets``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import microversion
from novalite.api.compute.resource import Resource, body_of, caller_of
from novalite.errors import InvalidInput, NotFound

# Until which microversion Nova speaks of what other services have, or nobody any more.
UNTIL: Mapping[str, microversion.Version] = {
    **dict.fromkeys(("fixed_ips", "floating_ips", "security_groups", "security_group_rules"), (2, 35)),
    **dict.fromkeys(("injected_files", "injected_file_content_bytes", "injected_file_path_bytes"), (2, 56)),
}
# The classes tell of these from here on only.
CLASS_SINCE = dict.fromkeys(("server_groups", "server_group_members"), (2, 50))
DEFAULT_CLASS = "default"
LIMIT: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": -1, "maximum": 0x7FFFFFFF},
        {"type": "string", "pattern": "^(-1|[0-9]{1,9})$"},
    ]
}


def _schema(name: str) -> Schema:
    """Return the schema of a body whose one member maps resources to limits."""
    limits = {
        "type": "object",
        "properties": {"force": {"enum": [True, False, "True", "true", "False", "false"]}},
        "additionalProperties": LIMIT,
    }
    return Schema(
        {"type": "object", "properties": {name: limits}, "required": [name], "additionalProperties": False}
    )


SET, CLASS = _schema("quota_set"), _schema("quota_class_set")


class QuotaSets(Resource):
    def show(self, req: falcon.Request, resp: falcon.Response, project: str) -> None:
        limits = self.service.quotas.show(caller_of(req), project)
        resp.media = {"quota_set": {"id": project, **_known(req, limits)}}

    def detail(self, req: falcon.Request, resp: falcon.Response, project: str) -> None:
        limits, used = self.service.quotas.detail(caller_of(req), project)
        known = _known(req, limits)
        told = {name: {"limit": limit, "in_use": used[name], "reserved": 0} for name, limit in known.items()}
        resp.media = {"quota_set": {"id": project, **told}}

    def defaults(self, req: falcon.Request, resp: falcon.Response, project: str) -> None:
        limits = self.service.quotas.defaults(caller_of(req), project)
        resp.media = {"quota_set": {"id": project, **_known(req, limits)}}

    def update(self, req: falcon.Request, resp: falcon.Response, project: str) -> None:
        asked = body_of(req, SET)["quota_set"]
        force = str(asked.get("force", False)).lower() == "true"
        limits = self.service.quotas.set(caller_of(req), project, _limits(req, asked), force=force)
        resp.media = {"quota_set": _known(req, limits)}

    def delete(self, req: falcon.Request, resp: falcon.Response, project: str) -> None:
        self.service.quotas.clear(caller_of(req), project)
        resp.status = 202


class QuotaClassSets(Resource):
    def show(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        limits = self.service.quotas.of_class(caller_of(req))
        resp.media = {"quota_class_set": {"id": name, **_of_class(req, limits)}}

    def update(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        if name != DEFAULT_CLASS:
            raise NotFound(f"Quota class {name} could not be found.")
        asked = _limits(req, body_of(req, CLASS)["quota_class_set"])
        limits = self.service.quotas.set_defaults(caller_of(req), asked)
        resp.media = {"quota_class_set": _of_class(req, limits)}


def _limits(req: falcon.Request, asked: Mapping[str, Any]) -> dict[str, int]:
    limits = {name: int(value) for name, value in asked.items() if name != "force"}
    strange = sorted(limits.keys() - _known(req, limits).keys())
    if strange:
        raise InvalidInput(
            f"Invalid input for the request body: Additional properties are not allowed "
            f"({strange[0]!r} was unexpected)"
        )
    return limits


def _known(req: falcon.Request, limits: Mapping[str, int]) -> dict[str, int]:
    version = microversion.of(req)
    return {name: limit for name, limit in limits.items() if version <= UNTIL.get(name, version)}


def _of_class(req: falcon.Request, limits: Mapping[str, int]) -> dict[str, int]:
    version = microversion.of(req)
    known = _known(req, limits)
    # Nova forgot to end the addresses of classes where those of projects end.
    kept = {name: limits[name] for name in UNTIL if version < (2, 50) and UNTIL[name] == (2, 35)}
    return {
        name: limit for name, limit in {**known, **kept}.items() if version >= CLASS_SINCE.get(name, version)
    }
