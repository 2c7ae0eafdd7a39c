"""``/v2.1/servers/{server_id}/os-instance-actions``: what was ordered, and how it went."""

from __future__ import annotations

from typing import Any

import falcon

from novalite.api.compute import microversion, view
from novalite.api.compute.resource import Resource, caller_of, instant, next_link, params_of
from novalite.errors import InvalidInput
from novalite.model import Action, ActionEvent, ActionQuery
from novalite.service.actions import Insight


class InstanceActions(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        page = self.service.actions.list(
            caller_of(req), server_id, self._query(req), deleted=microversion.since(req, (2, 21))
        )
        resp.media = {"instanceActions": [_action(req, each) for each in page.items]}
        if microversion.since(req, (2, 58)) and page.next_marker is not None:
            resp.media["links"] = next_link(req, "links", page.next_marker)["links_links"]

    def show(self, req: falcon.Request, resp: falcon.Response, server_id: str, request_id: str) -> None:
        deleted = microversion.since(req, (2, 21))
        found, insight = self.service.actions.show(caller_of(req), server_id, request_id, deleted=deleted)
        shown = _action(req, found)
        if insight.events or microversion.since(req, (2, 51)):
            shown["events"] = [_event(req, each, found.project or "", insight) for each in found.events]
        resp.media = {"instanceAction": shown}

    def _query(self, req: falcon.Request) -> ActionQuery:
        if not microversion.since(req, (2, 58)):
            return ActionQuery()
        params = params_of(req)
        names = ["changes-since"] + ["changes-before"] * microversion.since(req, (2, 66))
        times = {name.replace("-", "_"): instant(name, params[name]) for name in names if name in params}
        if len(times) == 2 and times["changes_since"] > times["changes_before"]:
            raise InvalidInput("The value of changes-since must be less than or equal to changes-before.")
        return ActionQuery(**times, limit=self.limit_of(params), marker=params.get("marker"))


def _action(req: falcon.Request, value: Action) -> dict[str, Any]:
    body = {
        "action": value.action,
        "instance_uuid": value.server_id,
        "request_id": value.request_id,
        "user_id": value.user,
        "project_id": value.project,
        "start_time": view.precise(value.started_at),
        "message": value.message,
    }
    if microversion.since(req, (2, 58)):
        body["updated_at"] = view.precise(value.updated_at)
    return body


def _event(req: falcon.Request, value: ActionEvent, project: str, insight: Insight) -> dict[str, Any]:
    body: dict[str, Any] = {
        "event": value.event,
        "start_time": view.precise(value.started_at),
        "finish_time": view.precise(value.finished_at),
        "result": value.result,
    }
    if insight.events:
        body["traceback"] = value.details if not microversion.since(req, (2, 84)) else None
    if microversion.since(req, (2, 62)):
        body["hostId"] = view.host_id(project, value.host)
        if insight.events:
            body["host"] = value.host
    if microversion.since(req, (2, 84)) and insight.details:
        body["details"] = value.details
    return body
