"""The options of whatever opens URLs, under any prefix, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from glancelike.errors import ConfigError
from glancelike.urlrules import FetchLimits, UrlRules
from glancelike.web.options import NameList

_LISTS: tuple[tuple[str, list[str], str], ...] = (
    ("schemes", ["http", "https"], "URL schemes, of http and https,"),
    ("hosts", [], "Hosts, as in the URL,"),
    ("ports", ["80", "443"], "Ports, also where the URL doesn't name one,"),
)


def rule_options(prefix: str = "") -> tuple[cfg.Opt, ...]:
    """Return the options that say which URLs may be opened."""
    lists = []
    for name, default, what in _LISTS:
        lists += [
            cfg.Opt(
                f"{prefix}allowed_{name}",
                type=NameList(),
                default=default,
                help=f"{what} that may be opened, and no others; all may if this is empty.",
            ),
            cfg.Opt(
                f"{prefix}disallowed_{name}",
                type=NameList(),
                default=[],
                help=f"{what} that must not be opened; looked at only while {prefix}allowed_{name} is empty.",
            ),
        ]
    return (
        *lists,
        cfg.Opt(
            f"{prefix}allowed_networks",
            type=NameList(),
            default=[],
            help="Networks, such as 10.2.0.0/16 or fd00:2::/64, that may be connected to although their "
            "addresses aren't public. Every address that a URL's host has must be public or in one of these.",
        ),
        cfg.BoolOpt(
            f"{prefix}allow_insecure_redirects",
            default=False,
            help="Follow redirects from https to http.",
        ),
    )


def limit_options(prefix: str = "") -> tuple[cfg.Opt, ...]:
    """Return the options that say how patient the server is with its peers."""
    return (
        cfg.FloatOpt(f"{prefix}connect_timeout", min=0.1, default=10.0, help="Seconds to connect in."),
        cfg.FloatOpt(
            f"{prefix}read_timeout",
            min=0.1,
            default=60.0,
            help="Seconds that a peer may take to begin its answer, and then for each 256 KiB.",
        ),
        cfg.IntOpt(
            f"{prefix}retries",
            min=0,
            default=4,
            help="Failures in a row, with less than 1 MiB between them, after which the server gives up. "
            "What broke off goes on where it stopped.",
        ),
        cfg.IntOpt(f"{prefix}max_redirects", min=0, default=10, help="Redirects that are followed."),
        cfg.StrOpt(
            "https_ca_certificates_file",
            help="File with the certificates of the authorities to trust instead of the system's.",
        ),
        cfg.BoolOpt("https_insecure", default=False, help="Don't verify the certificates of servers."),
    )


def rules_of(values: Mapping[str, Any], prefix: str = "") -> UrlRules:
    """Return what ``rule_options`` say; raise ConfigError."""
    names = (opt.dest.removeprefix(prefix) for opt in rule_options(prefix))
    return UrlRules.of(**{name: values[prefix + name] for name in names})


def limits_of(values: Mapping[str, Any], prefix: str = "") -> FetchLimits:
    """Return what ``limit_options`` say; raise ConfigError."""
    cafile = values["https_ca_certificates_file"]
    if cafile and not os.access(cafile, os.R_OK):
        raise ConfigError(f"https_ca_certificates_file: {cafile} can't be read")
    return FetchLimits(
        connect_seconds=values[f"{prefix}connect_timeout"],
        read_seconds=values[f"{prefix}read_timeout"],
        retries=values[f"{prefix}retries"],
        redirects=values[f"{prefix}max_redirects"],
        cafile=cafile or None,
        verify=not values["https_insecure"],
    )
