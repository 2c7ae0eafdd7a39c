"""``/v3``: what lets OpenStack's clients work where there is no Keystone.

Some commands (``openstack keypair create``, ``openstack image create``) look
for the Identity service's version document before they do anything, and give
up without one, even if they never ask that service for more. Pointing their
``identity_endpoint_override`` here satisfies them. There is no operation
behind the document.
"""

from __future__ import annotations

import falcon

from novalite.api.compute.resource import Resource


class IdentityVersion(Resource):
    def show(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {
            "version": {
                "id": "v3.14",
                "status": "stable",
                "updated": "2020-04-07T00:00:00Z",
                "links": [{"rel": "self", "href": f"{req.prefix}/v3/"}],
                "media-types": [
                    {
                        "base": "application/json",
                        "type": "application/vnd.openstack.identity-v3+json",
                    }
                ],
            }
        }
