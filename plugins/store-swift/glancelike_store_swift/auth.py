"""Logging in: tokens and the storage URL, from v1 authentication or from Keystone."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
from keystoneauth1 import exceptions as keystone
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from swiftclient.client import http_connection

from glancelike.errors import ConfigError, StoreDenied, StoreUnavailable
from glancelike_store_swift.failures import failure

SPARE = 30.0  # seconds before its end at which a token is replaced
SHORTEST = 2.0  # seconds; a token that ends sooner is waited out


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """A storage URL with its account, and a token; it never shows the token."""

    url: str
    token: str

    def to(self, account: str) -> Access:
        """Return the way to another account of the cluster."""
        return Access(f"{self.url.rpartition('/')[0]}/{account}", self.token)


class Auth(ABC):
    """Hand out one token to all threads, and get a new one before it expires or when it is refused."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._access: Access | None = None
        self._until = 0.0

    def access(self) -> Access:
        """Return how to reach the account; log in when nobody has.

        Raises ConfigError, StoreDenied, StoreUnavailable.
        """
        with self._lock:
            if self._access is None or time.monotonic() > self._until:
                self._access = self._log_in()
            return self._access

    def renew(self, refused: Access) -> None:
        """Have the next ``access`` log in anew, unless somebody else has done so already."""
        with self._lock:
            if self._access is refused:
                self._access = None

    def _log_in(self) -> Access:
        url, token, life = self._token()
        # An upload can't be repeated with a new token, so it never starts with an old one.
        self._until = time.monotonic() + (float("inf") if life is None else life - min(SPARE, life / 2))
        url = (self._settings["swift_store_endpoint"] or url).rstrip("/")
        if not url.startswith(("http://", "https://")) or url.count("/") < 4:
            raise ConfigError(f"the storage URL has no account: {url.rpartition('@')[2]}")
        return Access(url, token)

    @abstractmethod
    def _token(self) -> tuple[str, str, float | None]:
        """Log in; return the storage URL, a token and how many seconds it lives, None if nobody says."""


class V1Auth(Auth):
    """Log in by user and key, as TempAuth and others have it."""

    def _token(self) -> tuple[str, str, float | None]:
        url, token, life = self._ask()
        if life is not None and life < SHORTEST:
            # TempAuth gives the same token until its end, and tells whole seconds.
            time.sleep(life + 1)
            url, token, life = self._ask()
        return url, token, life

    def _ask(self) -> tuple[str, str, float | None]:
        address = self._settings["swift_store_auth_address"]
        parsed, connection = http_connection(
            address,
            cacert=self._settings["swift_store_cacert"],
            insecure=self._settings["swift_store_auth_insecure"],
            timeout=self._settings["swift_store_timeout"],
        )
        headers = {
            "X-Auth-User": self._settings["swift_store_user"],
            "X-Auth-Key": self._settings["swift_store_key"],
            "X-Auth-New-Token": "true",  # not one that is about to expire; some know it
        }
        try:
            answer = connection.request("GET", parsed.path, headers=headers)
            answer.close()
        except (requests.RequestException, OSError) as error:
            # The cause may hold the request with its key.
            said = f"no answer from swift_store_auth_address: {type(error).__name__}"
            raise StoreUnavailable(said) from None
        finally:
            connection.close()
        if answer.status_code in (401, 403):
            raise StoreDenied("swift_store_user and swift_store_key were refused")
        url, token = answer.headers.get("X-Storage-Url"), answer.headers.get("X-Auth-Token")
        if answer.status_code >= 400:
            raise failure(answer.status_code, "the login at swift_store_auth_address")
        if not url or not token:
            raise ConfigError("swift_store_auth_address doesn't answer as v1 authentication does")
        life = answer.headers.get("X-Auth-Token-Expires", "")
        return url, token, float(life) if life.isdigit() else None


class KeystoneAuth(Auth):
    """Log in to Keystone, by password or by application credential."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._login = self._plugin()
        self._session = Session(
            self._login,
            verify=False if settings["swift_store_auth_insecure"] else settings["swift_store_cacert"] or True,
            timeout=settings["swift_store_timeout"],
        )

    def _plugin(self) -> v3.Password | v3.ApplicationCredential:
        settings = self._settings
        address = settings["swift_store_auth_address"]
        if settings["swift_store_application_credential_id"]:
            return v3.ApplicationCredential(
                address,
                application_credential_id=settings["swift_store_application_credential_id"],
                application_credential_secret=settings["swift_store_application_credential_secret"],
            )
        project, _, user = settings["swift_store_user"].rpartition(":")
        if not project:
            raise ConfigError("swift_store_user must be project:user for Keystone")
        scope = {"username": user, "project_name": project}
        for whose in ("user", "project"):
            by_id = settings[f"swift_store_{whose}_domain_id"]
            kind = f"{whose}_domain_{'id' if by_id else 'name'}"
            scope[kind] = by_id or settings[f"swift_store_{whose}_domain_name"]
        return v3.Password(address, password=settings["swift_store_key"], **scope)

    def _token(self) -> tuple[str, str, float | None]:
        settings = self._settings
        try:
            # What Keystone gave before was refused, or this is the first time.
            self._session.invalidate()
            ticket = self._login.get_access(self._session)
            url = self._session.get_endpoint(
                service_type=settings["swift_store_service_type"],
                interface=settings["swift_store_endpoint_type"],
                region_name=settings["swift_store_region"],
            )
        except (keystone.Unauthorized, keystone.Forbidden):
            raise StoreDenied("Keystone refused the login") from None
        except (keystone.ConnectionError, keystone.HttpServerError, keystone.DiscoveryFailure) as error:
            said = f"no answer from swift_store_auth_address: {type(error).__name__}"
            raise StoreUnavailable(said) from None
        except keystone.ClientException as error:
            raise ConfigError(f"Keystone at swift_store_auth_address: {type(error).__name__}") from None
        if not (url or settings["swift_store_endpoint"]):
            kind, region = settings["swift_store_service_type"], settings["swift_store_region"] or "any"
            raise ConfigError(f"Keystone's catalog has no endpoint of {kind} in region {region}")
        life = (ticket.expires - datetime.now(UTC)).total_seconds() if ticket.expires else None
        # One that has ended by our clock says that a clock is wrong.
        return url or "", ticket.auth_token or "", life if life and life > 0 else None


def make_auth(settings: Mapping[str, Any]) -> Auth:
    """Choose the way to log in; raise ConfigError for what is missing."""
    keystone_version = settings["swift_store_auth_version"] == "3"
    by_credential = keystone_version and settings["swift_store_application_credential_id"]
    needed = ["swift_store_auth_address"]
    needed += (
        ["swift_store_application_credential_secret"]
        if by_credential
        else ["swift_store_user", "swift_store_key"]
    )
    for name in needed:
        if not settings[name]:
            raise ConfigError(f"{name} isn't set: a Swift store can't log in")
    return KeystoneAuth(settings) if keystone_version else V1Auth(settings)
