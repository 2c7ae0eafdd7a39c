"""``/v2.1/os-server-groups``: servers that are to be together, or apart."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import microversion
from novalite.api.compute.resource import Resource, body_of, caller_of, integer, params_of
from novalite.groupings import GroupPolicy, ServerGroup

NAME: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255}
HARD = [GroupPolicy.ANTI_AFFINITY.value, GroupPolicy.AFFINITY.value]
ALL = [each.value for each in GroupPolicy]


def _schema(required: str, **properties: Any) -> Schema:
    group = {
        "type": "object",
        "properties": {"name": NAME, **properties},
        "required": ["name", required],
        "additionalProperties": False,
    }
    return Schema(
        {
            "type": "object",
            "properties": {"server_group": group},
            "required": ["server_group"],
            "additionalProperties": False,
        }
    )


def _one_of(policies: list[str]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": 1, "items": {"enum": policies}}


RULES: dict[str, Any] = {
    "type": "object",
    "properties": {
        "max_server_per_host": {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 0x7FFFFFFF},
                {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
            ]
        }
    },
    "additionalProperties": False,
}
CREATE = _schema("policies", policies=_one_of(HARD))
CREATE_215 = _schema("policies", policies=_one_of(ALL))
CREATE_264 = _schema("policy", policy={"enum": ALL}, rules=RULES)


class ServerGroups(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        params = params_of(req)
        found = self.service.groups.list(
            caller_of(req),
            all_projects="all_projects" in params,
            limit=self.limit_of(params),
            offset=integer(params, "offset") or 0,
        )
        resp.media = {"server_groups": [_full(req, each) for each in found]}

    def create(self, req: falcon.Request, resp: falcon.Response) -> None:
        if microversion.since(req, (2, 64)):
            asked = body_of(req, CREATE_264)["server_group"]
            policy, rules = asked["policy"], asked.get("rules", {})
        else:
            asked = body_of(req, CREATE_215 if microversion.since(req, (2, 15)) else CREATE)["server_group"]
            policy, rules = asked["policies"][0], {}
        most = rules.get("max_server_per_host")
        made = self.service.groups.create(
            caller_of(req),
            asked["name"].strip(),
            GroupPolicy(policy),
            max_per_host=None if most is None else int(most),
        )
        resp.media = {"server_group": _full(req, made)}

    def show(self, req: falcon.Request, resp: falcon.Response, group_id: str) -> None:
        resp.media = {"server_group": _full(req, self.service.groups.show(caller_of(req), group_id))}

    def delete(self, req: falcon.Request, resp: falcon.Response, group_id: str) -> None:
        self.service.groups.delete(caller_of(req), group_id)
        resp.status = 204


def _full(req: falcon.Request, value: ServerGroup) -> dict[str, Any]:
    body: dict[str, Any] = {"id": value.id, "name": value.name, "members": list(value.members)}
    if microversion.since(req, (2, 64)):
        most = value.max_per_host
        body |= {"policy": value.policy, "rules": {} if most is None else {"max_server_per_host": most}}
    else:
        body |= {"policies": [value.policy], "metadata": {}}
    if microversion.since(req, (2, 13)):
        body |= {"project_id": value.project, "user_id": value.user}
    return body
