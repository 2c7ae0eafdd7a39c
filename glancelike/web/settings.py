"""What the web kit can be told: options under oslo.middleware's names, and their values.

oslo.middleware itself isn't used: it is made of WebOb, which would wrap
every request and response a second time, and its CORS answers ``*``
together with credentials, which no browser takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from oslo_config import cfg

from glancelike.web.options import DEFAULT, OptionError, Values

OPTIONS: Mapping[str, Sequence[cfg.Opt]] = {
    DEFAULT: (
        cfg.StrOpt(
            "public_endpoint",
            help="URL that clients reach this service at, for the links of the versions document. "
            "By default what the request says.",
        ),
    ),
    "cors": (
        cfg.ListOpt(
            "allowed_origin",
            default=[],
            help="Sites whose pages may send requests here, as https://horizon.example.com, or '*' for "
            "any. None by default.",
        ),
        cfg.BoolOpt(
            "allow_credentials",
            default=True,
            help="Whether those pages may use the browser's own credentials; never with '*'.",
        ),
        cfg.ListOpt(
            "expose_headers",
            default=[
                "X-OpenStack-Request-ID",
                "Location",
                "ETag",
                "Content-Range",
                "Retry-After",
                "Tus-Resumable",
                "Tus-Version",
                "Tus-Extension",
                "Tus-Max-Size",
                "Tus-Checksum-Algorithm",
                "Upload-Offset",
                "Upload-Length",
                "Upload-Defer-Length",
                "Upload-Metadata",
                "Upload-Concat",
                "Upload-Expires",
            ],
            help="Response headers that those pages may read.",
        ),
        cfg.IntOpt(
            "max_age", min=0, default=3600, help="Seconds that a browser may keep a preflight's answer."
        ),
        cfg.ListOpt(
            "allow_methods",
            default=["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"],
            help="Methods that those pages may use.",
        ),
        cfg.ListOpt(
            "allow_headers",
            default=[
                "Authorization",
                "X-Auth-Token",
                "X-OpenStack-Request-ID",
                "X-OpenStack-Image-Size",
                "X-Image-Meta-Store",
                "Content-MD5",
                "If-None-Match",
                "If-Range",
                "Range",
                "Tus-Resumable",
                "Upload-Offset",
                "Upload-Length",
                "Upload-Defer-Length",
                "Upload-Metadata",
                "Upload-Concat",
                "Upload-Checksum",
                "X-HTTP-Method-Override",
                "X-Request-ID",
            ],
            help="Request headers that those pages may send, besides what any page may.",
        ),
    ),
    "oslo_middleware": (
        cfg.BoolOpt(
            "enable_proxy_headers_parsing",
            default=False,
            help="Believe Forwarded and X-Forwarded-* headers. Only behind a proxy that sets or removes "
            "them: else every client may say where it comes from.",
        ),
    ),
    "healthcheck": (
        cfg.StrOpt(
            "disable_by_file_path",
            help="While this file is there, /healthcheck answers 503, so that a load balancer takes the "
            "server out.",
        ),
        cfg.ListOpt(
            "disable_by_file_paths",
            default=[],
            help="The same, for servers on several ports: port:path, comma separated.",
        ),
        cfg.BoolOpt(
            "detailed",
            default=False,
            help="Tell in the answer which file disables the server. Everybody may read it.",
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class CorsSettings:
    """Who may send requests from pages of other sites; names as the options."""

    allowed_origin: frozenset[str] = frozenset()
    allow_credentials: bool = True
    expose_headers: tuple[str, ...] = ()
    max_age: int = 3600
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """Files that take the server out while they are there; by port, None for any."""

    disable_by: tuple[tuple[int | None, Path], ...] = ()
    detailed: bool = False


@dataclass(frozen=True, slots=True)
class WebSettings:
    """What the kit does besides its routes."""

    public_endpoint: str | None = None
    trust_proxy: bool = False
    cors: CorsSettings = field(default_factory=CorsSettings)
    health: HealthSettings = field(default_factory=HealthSettings)


def settings_of(values: Values) -> WebSettings:
    """Check the values of OPTIONS; raise OptionError."""
    cors, health = values["cors"], values["healthcheck"]
    for origin in cors["allowed_origin"]:
        parts = urlsplit(origin)
        if origin != "*" and (not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}"):
            raise OptionError(f"[cors] allowed_origin: {origin!r} isn't like https://host:port")
    endpoint = values[DEFAULT]["public_endpoint"]
    if endpoint is not None and urlsplit(endpoint).scheme not in ("http", "https"):
        raise OptionError(f"public_endpoint: {endpoint!r} is no http or https URL")
    files: list[tuple[int | None, Path]] = [_port_and_path(each) for each in health["disable_by_file_paths"]]
    if health["disable_by_file_path"]:
        files.append((None, Path(health["disable_by_file_path"])))
    return WebSettings(
        public_endpoint=endpoint.rstrip("/") if endpoint else None,
        trust_proxy=values["oslo_middleware"]["enable_proxy_headers_parsing"],
        cors=CorsSettings(
            allowed_origin=frozenset(cors["allowed_origin"]),
            allow_credentials=cors["allow_credentials"],
            expose_headers=tuple(cors["expose_headers"]),
            max_age=cors["max_age"],
            allow_methods=tuple(cors["allow_methods"]),
            allow_headers=tuple(cors["allow_headers"]),
        ),
        health=HealthSettings(tuple(files), health["detailed"]),
    )


def _port_and_path(text: str) -> tuple[int, Path]:
    port, _, path = text.partition(":")
    if not port.isascii() or not port.isdigit() or not path:
        raise OptionError(f"[healthcheck] disable_by_file_paths: {text!r} isn't port:path")
    return int(port), Path(path)
