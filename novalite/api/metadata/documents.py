"""Every path of the metadata service: ``/openstack/…``, and all else is EC2's."""

from __future__ import annotations

import re

import falcon

from novalite.admission import Guests
from novalite.api.metadata.tokens import LONGEST_SECONDS, Tokens
from novalite.guestdata import ec2, openstack
from novalite.guestdata.facts import GuestFacts
from novalite.model import Server

_TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name
_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
_TEXT = "text/plain; charset=utf-8"


class Documents:
    """Answers the guest whom ``GuestAuth`` has recognised."""

    def __init__(self, guests: Guests, tokens: Tokens, *, require_token: bool) -> None:
        self._guests = guests
        self._tokens = tokens
        self._require_token = require_token

    def show(self, req: falcon.Request, resp: falcon.Response, path: str = "") -> None:
        """Answer a document, an item or a listing."""
        server: Server = req.context.server
        self._demand_token(req, server)
        parts = [part for part in path.split("/") if part]
        facts = self._guests.facts(server)
        found = _openstack(facts, parts[1:]) if parts[:1] == ["openstack"] else _ec2(facts, parts)
        if found is None:
            raise falcon.HTTPNotFound
        resp.content_type = falcon.MEDIA_JSON if path.endswith(".json") else _TEXT
        resp.data = found

    def make_token(self, req: falcon.Request, resp: falcon.Response, path: str) -> None:
        """Answer a token, but never one that went through somebody else's proxy."""
        if path != "latest/api/token":
            raise falcon.HTTPMethodNotAllowed(["GET", "HEAD"])
        hops = [hop for hop in (req.get_header("X-Forwarded-For") or "").split(",") if hop.strip()]
        # A proxy of ours names the guest itself; whoever is named beside it was there before.
        if len(hops) > (1 if req.context.proxied else 0):
            raise falcon.HTTPForbidden(description="A token isn't given to requests that were passed on.")
        wanted = req.get_header(_TTL) or ""
        if not re.fullmatch("[0-9]{1,5}", wanted) or not 1 <= int(wanted) <= LONGEST_SECONDS:
            raise falcon.HTTPBadRequest(description=f"{_TTL} must be 1 to {LONGEST_SECONDS} seconds.")
        resp.set_header(_TTL, wanted)
        resp.set_header("Cache-Control", "no-store")
        resp.content_type = _TEXT
        resp.text = self._tokens.make(req.context.server.id, int(wanted))

    def _demand_token(self, req: falcon.Request, server: Server) -> None:
        token = req.get_header(_TOKEN)
        if token is None and not self._require_token:
            return
        if token is None or not self._tokens.good(token, server.id):
            raise falcon.HTTPUnauthorized(description=f"{_TOKEN} is missing, not yours or has expired.")


def _openstack(facts: GuestFacts, parts: list[str]) -> bytes | None:
    if not parts:
        return _lines(*openstack.VERSIONS, openstack.LATEST)
    documents = openstack.documents(facts, parts[0])
    if len(parts) == 1:
        return _lines(*documents) if documents else None
    return documents.get(parts[1]) if len(parts) == 2 else None


def _ec2(facts: GuestFacts, parts: list[str]) -> bytes | None:
    if parts[:1] == ["ec2"]:
        parts = parts[1:]
    if not parts:
        return _lines(*ec2.VERSIONS, openstack.LATEST)
    found = ec2.tree(facts, parts[0])
    return ec2.item(found, parts[1:]) if found else None


def _lines(*names: str) -> bytes:
    return "\n".join(names).encode()
