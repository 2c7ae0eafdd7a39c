"""Which guest asks: by the socket's holder, or by the word of a proxy that signs.

A header alone is never believed. A guest whose connection ends here is known
by the process that holds it, whatever it sends; everybody else needs the
signature that only proxies can make.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable

import falcon

from glancelike.web.auth import Auth, Caller
from novalite.admission import Guests
from novalite.errors import ServerNotFound
from novalite.virt.peers import Address

LOG = logging.getLogger(__name__)
_INSTANCE = "X-Instance-ID"
_SIGNATURE = "X-Instance-ID-Signature"

Holder = Callable[[Address, Address], str | None]


class GuestAuth(Auth):
    """Finds the server whose guest asks; ``server_of`` returns it afterwards."""

    def __init__(self, guests: Guests, *, holder: Holder | None, secret: str) -> None:
        """``holder`` tells whose guest a connection is; without ``secret`` no proxy is believed."""
        super().__init__({})
        self._guests = guests
        self._holder = holder
        self._secret = secret.encode()

    def authenticate(self, req: falcon.Request) -> Caller:
        """Return the guest, as a caller without any rights.

        Raises falcon.HTTPNotFound for whom we don't know, HTTPBadRequest and
        HTTPForbidden for requests of proxies that aren't as they have to be.
        """
        server_id = self._by_socket(req)
        req.context.proxied = server_id is None
        try:
            server = self._guests.server(server_id or self._by_signature(req))
        except ServerNotFound as error:
            raise falcon.HTTPNotFound(description=str(error)) from error
        req.context.server = server
        return Caller(server.id, server.project, request_id=req.env.get("app.request_id"))

    def _by_socket(self, req: falcon.Request) -> str | None:
        connection = req.env.get("gunicorn.socket")
        if self._holder is None or connection is None:
            return None
        return self._holder(connection.getsockname()[:2], connection.getpeername()[:2])

    def _by_signature(self, req: falcon.Request) -> str:
        server_id = req.get_header(_INSTANCE)
        if not self._secret:
            if server_id is not None:
                LOG.warning("%s is ignored: service_metadata_proxy isn't set", _INSTANCE)
            raise falcon.HTTPNotFound(description="No server is known by this connection.")
        if server_id is None:
            raise falcon.HTTPBadRequest(description=f"{_INSTANCE} header is missing from request.")
        signature = req.get_header(_SIGNATURE, default="")
        if not hmac.compare_digest(sign(self._secret, server_id).encode(), signature.encode()):
            LOG.warning("a request for %r from %s isn't signed rightly", server_id, req.remote_addr)
            raise falcon.HTTPForbidden(description="Invalid proxy request signature.")
        return server_id


def sign(secret: bytes, server_id: str) -> str:
    """Sign an instance id as Neutron's metadata agents do."""
    return hmac.new(secret, server_id.encode(), hashlib.sha256).hexdigest()
