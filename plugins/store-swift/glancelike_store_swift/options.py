"""The driver's options, named as Glance's where they mean the same, and its URI."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from oslo_config import cfg

from glancelike.errors import ConfigError

MIB = 1 << 20
PREFIX = "swift_store_"

LOGIN = (
    cfg.StrOpt(
        "swift_store_auth_address",
        help="URL to log in at: http://host:8080/auth/v1.0 for version 1, http://host:5000/v3 for version 3.",
    ),
    cfg.StrOpt("swift_store_auth_version", default="3", choices=["1", "3"], help="1, or 3 for Keystone."),
    cfg.StrOpt(
        "swift_store_user",
        help="account:user for version 1, project:user for Keystone. Not needed with an application "
        "credential.",
    ),
    cfg.StrOpt("swift_store_key", secret=True, help="The user's key or password."),
    cfg.StrOpt("swift_store_user_domain_name", default="Default", help="Domain of the user, Keystone only."),
    cfg.StrOpt("swift_store_user_domain_id", help="The same by id; goes before the name."),
    cfg.StrOpt(
        "swift_store_project_domain_name", default="Default", help="Domain of the project, Keystone only."
    ),
    cfg.StrOpt("swift_store_project_domain_id", help="The same by id; goes before the name."),
    cfg.StrOpt(
        "swift_store_application_credential_id",
        help="Log in to Keystone by this application credential instead of user and key.",
    ),
    cfg.StrOpt("swift_store_application_credential_secret", secret=True, help="Its secret."),
)

ENDPOINT = (
    cfg.StrOpt("swift_store_region", help="Region of the endpoint in Keystone's catalog."),
    cfg.StrOpt(
        "swift_store_endpoint_type",
        default="publicURL",
        choices=["publicURL", "internalURL", "adminURL"],
        help="Which of the endpoints in Keystone's catalog is used.",
    ),
    cfg.StrOpt("swift_store_service_type", default="object-store", help="Service type in the catalog."),
    cfg.StrOpt(
        "swift_store_endpoint",
        help="Storage URL with the account, http://host:8080/v1/AUTH_account, instead of the one that the "
        "login or the catalog tells.",
    ),
    cfg.StrOpt("swift_store_cacert", help="File of the authorities that sign the servers' certificates."),
    cfg.BoolOpt(
        "swift_store_auth_insecure", default=False, help="Don't verify certificates, of Swift's neither."
    ),
    cfg.FloatOpt(
        "swift_store_timeout",
        default=60.0,
        min=0.1,
        help="Seconds without a byte after which a peer is away.",
    ),
    cfg.IntOpt(
        "swift_store_retry_get_count",
        default=8,
        min=0,
        help="How often a download is taken up again before it fails, counted anew after each byte. "
        "Requests without data are repeated half as often.",
    ),
)

LAYOUT = (
    cfg.StrOpt(
        "swift_store_container",
        default="glance",
        help="Container of the images and their segments.",
    ),
    cfg.BoolOpt(
        "swift_store_create_container_on_put", default=False, help="Make the containers that are missing."
    ),
    cfg.IntOpt(
        "swift_store_multiple_containers_seed",
        default=0,
        min=0,
        max=32,
        help="Spread the images over <container>_<first characters of the key>, that many characters; "
        "0 puts all into one. Images written with another value aren't found.",
    ),
    cfg.BoolOpt(
        "swift_store_multi_tenant",
        default=False,
        help="Put each image into the account of its owner, into a container of its own, called "
        "<swift_store_container>_<key>. The user needs the role of reseller administrators, ResellerAdmin in "
        "Keystone. Images without an owner, and an index of the others, go into swift_store_container. What "
        "was written with another value than now isn't found, but what has no owner.",
    ),
    cfg.IntOpt(
        "swift_store_large_object_size",
        default=5 * 1024,
        min=1,
        help="MiB up to which an image of known size is one segment.",
    ),
    cfg.IntOpt(
        "swift_store_large_object_chunk_size",
        default=200,
        min=1,
        help="MiB of a segment; larger where a manifest would have too many of them.",
    ),
    cfg.StrOpt(
        "swift_store_temp_url_key",
        secret=True,
        help="The key for temporary URLs of the containers or the account. Without it there are none.",
    ),
    cfg.BoolOpt(
        "swift_store_temp_url_key_create",
        default=False,
        help="Put swift_store_temp_url_key on containers that have none.",
    ),
)

OPTIONS = (*LOGIN, *ENDPOINT, *LAYOUT)

# What the command-line clients of OpenStack and of Swift read, so that a program needs no secret in a URI.
ENVIRONMENT = {
    "swift_store_auth_address": ("OS_AUTH_URL", "ST_AUTH"),
    "swift_store_key": ("OS_PASSWORD", "ST_KEY"),
    "swift_store_application_credential_id": ("OS_APPLICATION_CREDENTIAL_ID",),
    "swift_store_application_credential_secret": ("OS_APPLICATION_CREDENTIAL_SECRET",),
    "swift_store_region": ("OS_REGION_NAME",),
    "swift_store_cacert": ("OS_CACERT",),
    "swift_store_user_domain_name": ("OS_USER_DOMAIN_NAME",),
    "swift_store_user_domain_id": ("OS_USER_DOMAIN_ID",),
    "swift_store_project_domain_name": ("OS_PROJECT_DOMAIN_NAME",),
    "swift_store_project_domain_id": ("OS_PROJECT_DOMAIN_ID",),
}


def from_uri(uri: str, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Turn ``swift://container?user=project:name&…`` and the environment into settings.

    The query has any option but secret ones, without ``swift_store_``.
    Raises ConfigError.
    """
    parts = urlsplit(uri)
    if not parts.netloc or "@" in parts.netloc or ":" in parts.netloc or parts.path not in ("", "/"):
        raise ConfigError(
            "a Swift store is written swift://container?auth_address=…&user=…; its key comes from the "
            "settings or the environment (OS_PASSWORD, ST_KEY)"
        )
    settings: dict[str, Any] = {"swift_store_container": parts.netloc}
    known = {opt.name: opt for opt in OPTIONS}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        option = known.get(PREFIX + name)
        if option is None:
            raise ConfigError(f"a Swift store has no option {PREFIX}{name}")
        if option.secret:
            raise ConfigError(f"{option.name} is a secret, which doesn't belong into a URI")
        try:
            settings[option.dest] = option.type(text)
        except ValueError as error:
            raise ConfigError(f"{option.name}: {error}") from error
    for dest, names in ENVIRONMENT.items():
        found = [environment[name] for name in names if environment.get(name)]
        if found:
            settings.setdefault(dest, found[0])
    user = environment.get("OS_USERNAME")
    if user:
        project = environment.get("OS_PROJECT_NAME")
        settings.setdefault("swift_store_user", f"{project}:{user}" if project else user)
    elif environment.get("ST_USER"):
        settings.setdefault("swift_store_user", environment["ST_USER"])
    return settings
