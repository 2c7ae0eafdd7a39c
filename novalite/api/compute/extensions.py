"""``/v2.1/extensions``: what older clients ask to find out what is here.

Nova has had no extensions for long, and answers with a fixed list. This one
is of those among them that novalite has.
"""

from __future__ import annotations

from typing import Any

import falcon

from novalite.api.compute.resource import Resource, caller_of
from novalite.errors import NotFound
from novalite.policy import NOBODYS

# Alias -> name and description
EXTENSIONS: dict[str, tuple[str, str]] = {
    "OS-DCF": ("DiskConfig", "How a server's disk is partitioned."),
    "OS-EXT-AZ": ("ExtendedAvailabilityZone", "The availability zone of a server."),
    "OS-EXT-IPS": ("ExtendedIps", "The kind of a server's addresses."),
    "OS-EXT-IPS-MAC": ("ExtendedIpsMac", "The MAC addresses of a server's addresses."),
    "OS-EXT-SRV-ATTR": ("ExtendedServerAttributes", "Where a server is, for administrators."),
    "OS-EXT-STS": ("ExtendedStatus", "What a server is and what is done to it."),
    "OS-FLV-DISABLED": ("FlavorDisabled", "Whether a flavor is disabled."),
    "OS-FLV-EXT-DATA": ("FlavorExtraData", "The ephemeral disk of a flavor."),
    "OS-SCH-HNT": ("SchedulerHints", "Hints for the scheduler when a server is created."),
    "OS-SRV-USG": ("ServerUsage", "When a server was launched and when it ended."),
    "os-admin-actions": ("AdminActions", "Resetting the state of servers."),
    "os-aggregates": ("Aggregates", "Sets of hosts."),
    "os-availability-zone": ("AvailabilityZone", "The availability zones."),
    "os-config-drive": ("ConfigDrive", "Config drives of servers."),
    "os-console-output": ("ConsoleOutput", "The end of a server's console log."),
    "os-create-backup": ("CreateBackup", "Backups of servers, the oldest of which go."),
    "os-deferred-delete": ("DeferredDelete", "Deleting at once, which every server is."),
    "os-evacuate": ("Evacuate", "Making servers of a dead host anew on another."),
    "os-extended-volumes": ("ExtendedVolumes", "The volumes of a server, of which there are none."),
    "os-flavor-access": ("FlavorAccess", "Who may use a flavor that isn't public."),
    "os-flavor-extra-specs": ("FlavorExtraSpecs", "Extra specs of flavors."),
    "os-flavor-manage": ("FlavorManage", "Making and deleting flavors."),
    "os-hypervisors": ("Hypervisors", "The hosts and what is used of them."),
    "os-instance-actions": ("InstanceActions", "What was ordered of a server."),
    "os-keypairs": ("Keypairs", "Keys of users."),
    "os-lock-server": ("LockServer", "Locking servers."),
    "os-migrate-server": ("MigrateServer", "Moving servers to another host."),
    "os-migrations": ("Migrations", "What was resized or moved."),
    "os-multiple-create": ("MultipleCreate", "Several servers at once."),
    "os-pause-server": ("PauseServer", "Pausing servers."),
    "os-quota-class-sets": ("QuotaClasses", "The quotas of all projects."),
    "os-quota-sets": ("Quotas", "The quotas of a project."),
    "os-remote-consoles": ("Consoles", "Serial consoles of servers."),
    "os-rescue": ("Rescue", "Rescuing servers."),
    "os-server-diagnostics": ("ServerDiagnostics", "What a guest has used."),
    "os-server-groups": ("ServerGroups", "Servers that are to be together, or apart."),
    "os-services": ("Services", "The compute workers."),
    "os-shelve": ("Shelve", "Putting servers away."),
    "os-simple-tenant-usage": ("SimpleTenantUsage", "How long each project's servers ran."),
    "os-suspend-server": ("SuspendServer", "Suspending servers."),
    "os-used-limits": ("UsedLimits", "What is used of the limits."),
    "os-user-data": ("UserData", "Data for a server's guest."),
}
UPDATED = "2014-12-03T00:00:00Z"  # of all of them, in every cloud
NAMESPACE = "http://docs.openstack.org/compute/ext/fake_xml"


class Extensions(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._demand(req)
        resp.media = {"extensions": [_extension(alias) for alias in sorted(EXTENSIONS)]}

    def show(self, req: falcon.Request, resp: falcon.Response, alias: str) -> None:
        self._demand(req)
        if alias not in EXTENSIONS:
            raise NotFound(f"The resource could not be found: extension {alias}")
        resp.media = {"extension": _extension(alias)}

    def _demand(self, req: falcon.Request) -> None:
        self.service.policy.check(caller_of(req), "os_compute_api:extensions", NOBODYS)


def _extension(alias: str) -> dict[str, Any]:
    name, description = EXTENSIONS[alias]
    told = {"alias": alias, "name": name, "description": description, "links": []}
    return {**told, "namespace": NAMESPACE, "updated": UPDATED}
