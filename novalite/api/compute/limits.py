"""``/v2.1/limits``."""

from __future__ import annotations

import falcon

from novalite.api.compute.resource import Resource, caller_of, params_of


class Limits(Resource):
    def show(self, req: falcon.Request, resp: falcon.Response) -> None:
        limits = self.service.servers.limits(caller_of(req), params_of(req).get("tenant_id"))
        absolute = {
            "maxTotalInstances": limits.quota.instances,
            "maxTotalCores": limits.quota.cores,
            "maxTotalRAMSize": limits.quota.ram,
            "maxTotalKeypairs": limits.key_pairs,
            "maxServerMeta": limits.metadata_items,
            "totalInstancesUsed": limits.used.instances,
            "totalCoresUsed": limits.used.cores,
            "totalRAMUsed": limits.used.ram,
        }
        resp.media = {"limits": {"rate": [], "absolute": absolute}}
