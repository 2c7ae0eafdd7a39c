"""``/v2/tasks``: deprecated, and for administrators only."""

from __future__ import annotations

import re
import uuid
from typing import TypeVar

import falcon

from glancelike.api import wire
from glancelike.api.query import parse_pairs
from glancelike.api.resource import Resource
from glancelike.errors import InvalidInput
from glancelike.model import TASK_SORT_FIELDS, SortKey, TaskQuery, TaskStatus, TaskType
from glancelike.web.body import read_json
from glancelike.web.middleware import caller_of

E = TypeVar("E", TaskStatus, TaskType)


class Tasks(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        pairs = parse_pairs(req.query_string)
        query = _query(dict(pairs), self.service.settings.limit_param_default)
        page = self.service.list_tasks(caller_of(req), query)
        stubs = [wire.task_stub(task) for task in page.tasks]
        resp.media = wire.page("tasks", "/tasks", stubs, pairs, page.next_marker)

    def create(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = read_json(req)
        if isinstance(body, dict):
            for name in ("type", "input"):
                if name not in body:
                    raise InvalidInput(f"Task '{name}' is required")
        self.schemas.new_task.validate(body)
        task = self.service.create_task(caller_of(req), body["input"])
        resp.status = 201
        resp.location = f"{wire.PREFIX}/tasks/{task.id}"
        resp.media = wire.task(task)

    def show(self, req: falcon.Request, resp: falcon.Response, task_id: str) -> None:
        resp.media = wire.task(self.service.show_task(caller_of(req), task_id))

    def delete(self, req: falcon.Request, resp: falcon.Response, task_id: str) -> None:
        """Refuse, whoever asks: tasks go when their time is up."""
        self.service.show_task(caller_of(req), task_id)
        raise falcon.HTTPMethodNotAllowed(
            ["GET"],
            description="This operation is not permitted on tasks: they are deleted automatically "
            "after the time that their expires_at property tells.",
        )


def _query(given: dict[str, str], limit: int) -> TaskQuery:
    marker = given.get("marker")
    if marker is not None:
        try:
            uuid.UUID(marker)
        except ValueError:
            raise InvalidInput("Invalid marker format") from None
    wanted = given.get("limit")
    if wanted is not None:
        # More digits than any number of tasks has are refused before int() sees them.
        if not re.fullmatch(r"[0-9]{1,18}", wanted):
            raise InvalidInput("limit param must be a positive integer")
        limit = int(wanted)
    key, direction = given.get("sort_key", "created_at"), given.get("sort_dir", "desc")
    if key not in TASK_SORT_FIELDS:
        raise InvalidInput(f"Invalid sort key: {key}")
    if direction not in ("asc", "desc"):
        raise InvalidInput(f"Invalid sort direction: {direction}")
    return TaskQuery(
        owner=given.get("owner"),
        image_id=given.get("image_id"),
        type=_choice(TaskType, "type", given.get("type")),
        status=_choice(TaskStatus, "status", given.get("status")),
        sort=(SortKey(key, direction == "desc"),),
        limit=limit,
        marker=marker,
    )


def _choice(kind: type[E], name: str, value: str | None) -> E | None:
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError:
        raise InvalidInput(f"Invalid {name} value: {value}") from None
