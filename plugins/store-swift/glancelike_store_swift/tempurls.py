"""Temporary URLs: signed with a key that the container or the account has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from swiftclient.utils import generate_temp_url

from glancelike.errors import ConfigError
from glancelike_store_swift.objects import Cluster, Headers, Objects

_NAMES = ("Temp-Url-Key", "Temp-Url-Key-2")
_DIGESTS = ("sha256", "sha512", "sha1")


class TempUrlKey:
    """The key that signs, and where the cluster has it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._key: str | None = settings["swift_store_temp_url_key"]
        self._create: bool = settings["swift_store_temp_url_key_create"]
        self._digest = _DIGESTS[0]

    def choose(self, cluster: Cluster) -> None:
        """Choose a digest that the cluster takes; raise ConfigError where it has no temporary URLs."""
        if self._key is None or not cluster.told:
            return
        if "tempurl" not in cluster.features:
            raise ConfigError("swift_store_temp_url_key is set, but the cluster has no temporary URLs")
        usable = [digest for digest in _DIGESTS if digest in cluster.digests]
        if not usable:
            raise ConfigError("the cluster takes no digest for temporary URLs that is known here")
        self._digest = usable[0]

    @property
    def headers(self) -> dict[str, str]:
        """Return what puts the key on a container."""
        return {} if self._key is None else {"X-Container-Meta-Temp-URL-Key": self._key}

    def check(self, objects: Objects, container: str, headers: Headers) -> None:
        """See to it that the container, or the account, has the key; raise ConfigError."""
        if self._key is None:
            return
        known = [headers.get(f"X-Container-Meta-{name}") for name in _NAMES]
        if self._key in known:
            return
        if self._create and not any(known):
            objects.post_container(container, self.headers)
            return
        account = objects.head_account()
        if account is None:
            return  # it may be the account's key, which this user may not see
        if self._key not in [account.get(f"X-Account-Meta-{name}") for name in _NAMES]:
            raise ConfigError(
                f"swift_store_temp_url_key isn't the key of the container {container!r}, nor of the account; "
                f"set swift_store_temp_url_key_create to put it on containers that have none"
            )

    def sign(self, objects: Objects, path: str, method: str, expires: int) -> str:
        """Return a URL for one method on one object."""
        url = urlsplit(objects.url)
        path = f"{url.path}/{path}"
        signed: str = generate_temp_url(path, expires, self._key, method, digest=self._digest)
        return f"{url.scheme}://{url.netloc}{quote(path)}{signed.removeprefix(path)}"
