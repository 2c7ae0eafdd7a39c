"""Tokens of a service's own, from Keystone, for requests that nobody else's token comes with.

keystoneauth is loaded with the first use: who needs no token needn't have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from glancelike.errors import ConfigError, PluginError, Unreachable

ANSWER_SECONDS = 10.0  # a Keystone that says nothing for so long is away


def options_of(auth_type: str, section: str) -> list[cfg.Opt]:
    """Return the options of a plugin of keystoneauth, which stand in ``section``.

    Raises ConfigError when there is no such plugin, PluginError without the library.
    """
    return list(_loading().get_auth_plugin_conf_options(_loader(auth_type, section)))


class KeystoneTokens:
    """Gives tokens, and another when one is refused or about to run out; thread-safe.

    ``settings`` are values of ``options_of``. ``verify`` is whether Keystone's
    certificate is looked at, or the file of those to trust.
    """

    def __init__(
        self, auth_type: str, settings: Mapping[str, Any], *, section: str, verify: bool | str = True
    ) -> None:
        """Check the settings; raise ConfigError. Keystone isn't asked yet."""
        loader = _loader(auth_type, section)
        from keystoneauth1.exceptions import ClientException
        from keystoneauth1.session import Session

        self._failing = ClientException
        told = {name: value for name, value in settings.items() if value is not None}
        try:
            plugin = loader.load_from_options(**told)
        except (ClientException, TypeError) as error:
            raise ConfigError(f"[{section}] auth_type {auth_type}: {error}") from error
        self._session = Session(plugin, verify=verify, timeout=ANSWER_SECONDS)

    def token(self) -> str:
        """Return a token that is good for a while; raise Unreachable when Keystone gives none."""
        try:
            token = self._session.get_token()
        except self._failing as error:
            raise Unreachable(f"Keystone gives this service no token: {error}") from error
        if not token:
            raise Unreachable("Keystone gives this service no token")
        return str(token)

    def refused(self, token: str) -> None:
        """Take note that a token isn't good any more, whatever its end; the next is another."""
        if self.token() == token:  # else somebody has noted it already
            self._session.invalidate()


def _loader(auth_type: str, section: str) -> Any:
    loading = _loading()
    from keystoneauth1.exceptions import NoMatchingPlugin

    try:
        return loading.get_plugin_loader(auth_type)
    except NoMatchingPlugin as error:
        raise ConfigError(f"[{section}] auth_type: {error}") from error


def _loading() -> Any:
    try:
        from keystoneauth1 import loading
    except ImportError as error:
        raise PluginError(f"auth_type: {error}; pip install glancelike[keystone]") from error
    return loading
