"""Behind a proxy: the request as the client sent it.

What oslo.middleware's http_proxy_to_wsgi does, on request only: without a
proxy that sets or removes these headers every client could write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import falcon

HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
CLIENT = re.compile(r"[A-Za-z0-9._:\[\]-]{1,64}")


class ProxyHeaders:
    """Take scheme, host, client and prefix from ``Forwarded`` or ``X-Forwarded-*``.

    The first proxy's word counts (RFC 7239; of several values the first).
    What can't be meant is passed over, and the connection's own stays.
    """

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        told = dict(_told(req))
        if told.get("proto") in ("http", "https"):
            req.env["wsgi.url_scheme"] = told["proto"]
        if HOST.fullmatch(told.get("host", "")):
            req.env["HTTP_HOST"] = told["host"]
        if CLIENT.fullmatch(told.get("for", "")):
            req.env["REMOTE_ADDR"] = told["for"]
        if PREFIX.fullmatch(told.get("prefix", "")):
            req.env["SCRIPT_NAME"] = told["prefix"] + req.env.get("SCRIPT_NAME", "")


def _told(req: falcon.Request) -> Iterator[tuple[str, str]]:
    env: Mapping[str, str] = req.env
    yield "prefix", env.get("HTTP_X_FORWARDED_PREFIX", "").strip().rstrip("/")
    if "HTTP_FORWARDED" in env:
        for first in (req.forwarded or [])[:1]:
            yield "proto", first.scheme or ""
            yield "host", first.host or ""
            yield "for", first.src or ""
        return
    for name in ("proto", "host", "for"):
        first_value = env.get(f"HTTP_X_FORWARDED_{name.upper()}", "").partition(",")[0].strip()
        yield name, first_value.lower() if name == "proto" else first_value
