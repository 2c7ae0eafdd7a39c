"""``/v2.1/os-simple-tenant-usage``: how long each project's servers ran, times their size."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import falcon

from novalite.api.compute import microversion
from novalite.api.compute.resource import Resource, caller_of, next_link, params_of
from novalite.errors import InvalidInput
from novalite.model import utcnow
from novalite.reports import ServerUsage, UsageQuery

FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f")


class TenantUsage(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        if str(req.env.get("PATH_INFO", "")).endswith("/"):
            # Of the project that the path ends before, not of all.
            raise falcon.HTTPNotFound(description="The resource could not be found.")
        query, usages = self._usages(req, None)
        detailed = params_of(req).get("detailed") == "1"
        by_project: dict[str, list[ServerUsage]] = {}
        for each in usages:
            by_project.setdefault(each.project, []).append(each)
        told = [_project(query, name, each, detailed) for name, each in by_project.items()]
        resp.media = {"tenant_usages": told, **_next(req, "tenant_usages", query, usages)}

    def show(self, req: falcon.Request, resp: falcon.Response, project: str) -> None:
        query, usages = self._usages(req, project)
        told = _project(query, project, usages, detailed=True) if usages else {}
        resp.media = {"tenant_usage": told, **_next(req, "tenant_usage", query, usages)}

    def _usages(self, req: falcon.Request, project: str | None) -> tuple[UsageQuery, tuple[ServerUsage, ...]]:
        params = params_of(req)
        start, stop = _time(params.get("start")), _time(params.get("end"))
        query = UsageQuery(start, stop, project)
        if microversion.since(req, (2, 40)):
            query = UsageQuery(start, stop, project, self.limit_of(params), params.get("marker"))
        return self.service.reports.usage(caller_of(req), query)


def _time(text: str | None) -> datetime:
    """Read a time, which is UTC; none is now."""
    if not text:
        return utcnow()
    for form in FORMATS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise InvalidInput(f"Datetime is in invalid format: '{text}'")


def _next(req: falcon.Request, name: str, query: UsageQuery, usages: Sequence[ServerUsage]) -> dict[str, Any]:
    """Return the link to the next page; as in Nova there is one behind every full page."""
    full = query.limit is not None and 0 < query.limit <= len(usages)
    return next_link(req, name, usages[-1].id) if full else {}


def _project(
    query: UsageQuery, project: str, usages: Sequence[ServerUsage], detailed: bool
) -> dict[str, Any]:
    hours = [each.hours(query.start, query.stop) for each in usages]
    pairs = list(zip(usages, hours, strict=True))
    body: dict[str, Any] = {
        "tenant_id": project,
        "total_hours": sum(hours),
        "total_vcpus_usage": sum(each.vcpus * time for each, time in pairs),
        "total_memory_mb_usage": sum(each.memory_mb * time for each, time in pairs),
        "total_local_gb_usage": sum(each.disk_gb * time for each, time in pairs),
        "start": _naive(query.start),
        "stop": _naive(query.stop),
    }
    return {**body, "server_usages": [_server(each, time) for each, time in pairs]} if detailed else body


def _server(value: ServerUsage, hours: float) -> dict[str, Any]:
    ended = value.ended_at
    return {
        "instance_id": value.id,
        "name": value.name,
        "tenant_id": value.project,
        "flavor": value.flavor,
        "vcpus": value.vcpus,
        "memory_mb": value.memory_mb,
        "local_gb": value.disk_gb,
        "hours": hours,
        "started_at": _naive(value.started_at),
        "ended_at": None if ended is None else _naive(ended),
        "state": value.vm_state if ended is None else "terminated",
        "uptime": int(((ended or utcnow()) - value.started_at).total_seconds()),
    }


def _naive(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%S.%f")
