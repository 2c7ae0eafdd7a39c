"""``/v2.1/limits``."""

from __future__ import annotations

import falcon

from novalite.api.compute import microversion
from novalite.api.compute.resource import Resource, caller_of, params_of

NETWORKING = ("maxSecurityGroups", "maxSecurityGroupRules", "maxTotalFloatingIps")
NETWORKING_USED = ("totalSecurityGroupsUsed", "totalFloatingIpsUsed")


class Limits(Resource):
    def show(self, req: falcon.Request, resp: falcon.Response) -> None:
        limits = self.service.servers.limits(caller_of(req), params_of(req).get("tenant_id"))
        absolute = {
            "maxTotalInstances": limits.quota.instances,
            "maxTotalCores": limits.quota.cores,
            "maxTotalRAMSize": limits.quota.ram,
            "maxTotalKeypairs": limits.key_pairs,
            "maxServerGroups": limits.server_groups,
            "maxServerGroupMembers": limits.server_group_members,
            "totalServerGroupsUsed": limits.server_groups_used,
            "maxServerMeta": limits.metadata_items,
            "totalInstancesUsed": limits.used.instances,
            "totalCoresUsed": limits.used.cores,
            "totalRAMUsed": limits.used.ram,
        }
        if not microversion.since(req, (2, 57)):
            # There are no files that are put into servers, nor bounds on them.
            absolute |= {"maxPersonality": -1, "maxPersonalitySize": -1}
        if not microversion.since(req, (2, 39)):
            absolute["maxImageMeta"] = limits.metadata_items
        if not microversion.since(req, (2, 36)):
            # What other services have: as many as there may be, none of which is here.
            absolute |= dict.fromkeys(NETWORKING, -1) | dict.fromkeys(NETWORKING_USED, 0)
        resp.media = {"limits": {"rate": [], "absolute": absolute}}
