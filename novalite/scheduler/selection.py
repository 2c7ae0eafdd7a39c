"""Choosing a host: hooks refuse and weigh, the driver picks. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from novalite.errors import NoValidHost
from novalite.groupings import GroupPlaces
from novalite.model import ComputeHost, Server
from novalite.scheduler.base import Driver, Hook, HostState, Request

LOG = logging.getLogger(__name__)


def request_of(server: Server, group: GroupPlaces | None = None, *, carried: bool = False) -> Request:
    """Make the scheduler's view of a server, and of where the others of its group are.

    One that is ``carried`` brings its disk along, so it needs no image where it goes.
    """
    image = server.task_args.get("image") or {"id": server.image.id}
    return Request(
        instance_id=server.id,
        project=server.project or None,
        vcpus=server.flavor.vcpus,
        memory_mb=server.flavor.memory_mb,
        disk_gb=server.flavor.disks_gb,
        zone=server.pinned_zone,
        image_properties=server.image.properties,
        extra_specs=server.flavor.extra_specs,
        hints=server.hints,
        group=group,
        image_id="" if carried else image["id"],
    )


def state_of(host: ComputeHost, images: frozenset[str] = frozenset()) -> HostState:
    """Make the scheduler's view of a host that has ``images``."""
    return HostState(
        name=host.name,
        zone=host.zone,
        vcpus=host.vcpus,
        vcpus_used=host.vcpus_used,
        memory_mb=host.memory_mb,
        memory_mb_used=host.memory_mb_used,
        disk_gb=host.disk_gb,
        disk_gb_used=host.disk_gb_used,
        instances=len(host.server_ids),
        virt_type=host.virt_type,
        arch=host.arch,
        hypervisor_type=host.hypervisor_type,
        hypervisor_version=host.hypervisor_version,
        instance_ids=host.server_ids,
        images=images,
    )


def without(host: HostState, server: Server) -> HostState:
    """Return a host as it would be if a server of it were elsewhere."""
    return replace(
        host,
        vcpus_used=host.vcpus_used - server.flavor.vcpus,
        memory_mb_used=host.memory_mb_used - server.flavor.memory_mb,
        disk_gb_used=host.disk_gb_used - server.flavor.disks_gb,
        instances=host.instances - 1,
        instance_ids=host.instance_ids - {server.id},
    )


def unfit(server: Server, host: ComputeHost) -> str | None:
    """Say why a host is out of the question whatever the hooks think."""
    if not host.up:
        if host.forced_down:
            return "is said to be down"
        return f"is down (no heartbeat since {host.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC)"
    if server.forced_host is not None and host.name != server.forced_host:
        return "isn't the host asked for"
    if not host.enabled:
        return f"is disabled ({host.disabled_reason or 'no reason given'})"
    if server.pinned_zone not in (None, host.zone):
        return f"is in zone {host.zone}, not {server.pinned_zone}"
    if host.name in server.tried_hosts:
        return "was tried already"
    return None


def choose(
    request: Request,
    hosts: Iterable[HostState],
    hooks: Sequence[Hook],
    driver: Driver,
    refused: Mapping[str, str],
) -> HostState:
    """Return the host to use; raise NoValidHost with each host's reason.

    ``refused`` holds the reasons of hosts that are out already.
    """
    reasons = dict(refused)
    left = list(hosts)
    for hook in hooks:
        if type(hook).reject is Hook.reject:
            continue
        left = [host for host in left if not _refuses(hook, request, host, reasons)]
        LOG.info("hook %s left %d hosts for %s", hook.name, len(left), request.instance_id)
    if not left:
        raise NoValidHost(reasons)
    weighed = _weighed(request, left, hooks)
    picked = driver.pick(request, weighed)
    if not any(picked is host for host in weighed) and picked not in weighed:
        raise NoValidHost({host.name: f"driver {driver.name} picked none of its hosts" for host in weighed})
    return picked


def _refuses(hook: Hook, request: Request, host: HostState, reasons: dict[str, str]) -> bool:
    try:
        reason = hook.reject(request, host)
    except Exception as error:
        LOG.exception("hook %s failed on host %s", hook.name, host.name)
        reason = f"hook {hook.name} failed: {type(error).__name__}: {error}"
    if reason is None:
        return False
    reasons[host.name] = reason
    return True


def _weighed(request: Request, hosts: Sequence[HostState], hooks: Sequence[Hook]) -> tuple[HostState, ...]:
    """Return the hosts with what the hooks think of them; most are left as they are."""
    weighing = [hook for hook in hooks if type(hook).weigh is not Hook.weigh]
    discounting = [hook for hook in hooks if type(hook).discount is not Hook.discount]
    found = []
    for host in hosts:
        weight = sum(_advice(hook, hook.weigh, request, host) for hook in weighing)
        discount = sum(_advice(hook, hook.discount, request, host) for hook in discounting)
        # A copy costs as much as all the rest of a decision does for a host.
        found.append(replace(host, weight=weight, discount=discount) if weight or discount else host)
    return tuple(found)


def _advice(
    hook: Hook, ask: Callable[[Request, HostState], float], request: Request, host: HostState
) -> float:
    try:
        return float(ask(request, host))
    except Exception:
        # It is advice: without it the host is as good as any.
        LOG.exception("hook %s failed to weigh host %s", hook.name, host.name)
        return 0.0
