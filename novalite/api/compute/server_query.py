"""The query string of a server list: filters, order, page.

What anybody may filter by, and what only administrators may, is Nova's; what
the others ask beyond theirs is passed over, as Nova does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import falcon

from novalite.api.compute import microversion
from novalite.api.compute.resource import flag, instant, integer, params_of
from novalite.api.compute.view import POWER_STATES
from novalite.errors import Forbidden, InvalidInput
from novalite.model import SERVER_SORT_FIELDS, Caller, ServerQuery, SortKey, Status

# Query parameter -> field of ServerQuery
FILTERS = {
    "name": "name",
    "display_name": "name",
    "host": "host",
    "image": "image_id",
    "image_ref": "image_id",
    "flavor": "flavor_id",
    "instance_type_id": "flavor_id",
    "user_id": "user",
    "tenant_id": "project",
    "project_id": "project",
    "availability_zone": "zone",
    "key_name": "key_name",
    "reservation_id": "reservation_id",
}
ADMIN_FILTERS = {
    "uuid": "id",
    "display_description": "description",
    "description": "description",
}
STATE_FILTERS = {"vm_state": "vm_state", "task_state": "task_state"}
TAG_FILTERS = {
    "tags": "tags",
    "tags-any": "tags_any",
    "not-tags": "not_tags",
    "not-tags-any": "not_tags_any",
}
TIMES = {"changes-since": "changes_since"}
TIMES_266 = {"changes-before": "changes_before"}
ADMIN_TIMES = {
    "created_at": "created_since",
    "launched_at": "launched_since",
    "terminated_at": "terminated_since",
}
UNKNOWN_FILTERS = frozenset({"ip", "ip6"})
SORT_NAMES = {
    "display_name": "name",
    "display_description": "description",
    "project_id": "project",
    "user_id": "user",
    "uuid": "id",
    "availability_zone": "zone",
    "image_ref": "image_id",
    "instance_type_id": "flavor_id",
}


def query_of(req: falcon.Request, caller: Caller, limit: int) -> ServerQuery:
    """Make a ServerQuery; parameters nobody knows are passed over, as in Nova."""
    params = params_of(req)
    unknown = sorted(UNKNOWN_FILTERS & params.keys())
    if unknown:
        raise InvalidInput(f"servers can't be filtered by {unknown[0]} here")
    found = _fields(params, FILTERS, str) | _fields(params, TIMES, None)
    if microversion.since(req, (2, 26)):
        found |= _fields(params, TAG_FILTERS, lambda value: frozenset(value.split(",")))
    if microversion.since(req, (2, 66)):
        found |= _fields(params, TIMES_266, None)
        if "changes_since" in found and found["changes_since"] > found.get(
            "changes_before", found["changes_since"]
        ):
            raise InvalidInput("The value of changes-since must be less than or equal to changes-before.")
    if microversion.since(req, (2, 73)) and "locked" in params:
        found["locked"] = flag(params, "locked")
    if caller.admin or microversion.since(req, (2, 83)):
        found |= _fields(params, STATE_FILTERS, str) | _fields(params, ADMIN_TIMES, None)
        found |= _states(params)
    if (caller.admin or microversion.since(req, (2, 90))) and "hostname" in params:
        found["hostname"] = params["hostname"]
    if caller.admin:
        found |= _fields(params, ADMIN_FILTERS, str)
        if "launch_index" in params:
            found["launch_index"] = integer(params, "launch_index")
    found |= _statuses(req, params)
    found["deleted"] = found.get("deleted") or flag(params, "deleted")
    if found["deleted"] and not caller.admin:
        if "status" in params:
            raise Forbidden("Only administrators may list deleted instances")
        found["deleted"] = False
    everywhere = flag(params, "all_tenants") or flag(params, "all_projects")
    if caller.admin and not everywhere:
        found.pop("project", None)  # Nova looks at it only then
    return ServerQuery(
        **found,
        all_projects=everywhere,
        sort=_sort(req),
        limit=limit,
        marker=params.get("marker"),
    )


def _fields(
    params: Mapping[str, str], names: Mapping[str, str], read: Callable[[str], Any] | None
) -> dict[str, Any]:
    """Read parameters by ``read``, or as times."""
    return {
        field: read(params[name]) if read else instant(name, params[name])
        for name, field in names.items()
        if name in params
    }


def _states(params: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "config_drive" in params:
        found["config_drive"] = flag(params, "config_drive")
    if "power_state" in params:
        number = integer(params, "power_state")
        found["power_states"] = tuple(state for state, shown in POWER_STATES.items() if shown == number)
    return found


def _statuses(req: falcon.Request, params: Mapping[str, str]) -> dict[str, Any]:
    """Return the statuses asked for, any of several; one no server ever has matches none."""
    if "status" not in params:
        return {}
    asked = {value.upper() for name, value in parse_qsl(req.query_string) if name == "status"}
    known = frozenset(status for status in Status if status in asked)
    if microversion.since(req, (2, 38)) and len(known) < len(asked):
        wrong = ", ".join(sorted(asked - set(known)))
        raise InvalidInput(f"Invalid filter field: status ({wrong})")
    return {"statuses": known, "deleted": Status.DELETED in known}


def _sort(req: falcon.Request) -> tuple[SortKey, ...]:
    """Pair the sort keys with their directions; the last direction goes for the rest."""
    pairs = parse_qsl(req.query_string, keep_blank_values=True)
    keys = [value for name, value in pairs if name == "sort_key"] or ["created_at"]
    directions = [value for name, value in pairs if name == "sort_dir"] or ["desc"]
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise InvalidInput(f"Unknown sort direction, must be one of: asc, desc, not '{direction}'")
    directions += [directions[-1]] * len(keys)
    found = []
    for key, direction in zip(keys, directions, strict=False):
        name = SORT_NAMES.get(key, key)
        if key == "locked" and microversion.since(req, (2, 73)):
            name = "locked_by"
        if name not in SERVER_SORT_FIELDS:
            known = ", ".join(sorted(SERVER_SORT_FIELDS))
            raise InvalidInput(f"sort_key must be one of {known}, not '{key}'")
        found.append(SortKey(name, direction == "desc"))
    return tuple(found)
