"""``auth_strategy = keystone``: tokens of OpenStack's Identity service.

keystonemiddleware does the work: it asks Keystone, caches answers, checks
service tokens, token bindings and the access rules of application
credentials. It is a WSGI middleware; here it gets an environment of its
own that holds the token and nothing else that a caller could choose, so no
header from outside can pass for one that it sets.

Its settings are those of the section ``[keystone_authtoken]``, as in other
services. ``delay_auth_decision`` is taken and changes nothing: what needs
no caller isn't asked for a token, and everything else needs one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import falcon
from oslo_config import cfg

from glancelike.errors import ConfigError, PluginError
from glancelike.keystone_tokens import options_of
from glancelike.model import Caller, Credentials
from glancelike.web.auth.base import Auth
from glancelike.web.auth.memory import Memory
from glancelike.web.options import conf_of

log = logging.getLogger(__name__)

GROUP = "keystone_authtoken"
TOKEN, SERVICE_TOKEN = "HTTP_X_AUTH_TOKEN", "HTTP_X_SERVICE_TOKEN"
# Swift's old name for the header is taken by every OpenStack service.
OLD_TOKEN = "HTTP_X_STORAGE_TOKEN"  # noqa: S105 - a name
WELL_FORMED = re.compile(r"[\x21-\x7e]+")

# What access rules and token bindings are checked against.
FACTS = (
    *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_NAME", "SERVER_PORT"),
    *("SERVER_PROTOCOL", "wsgi.url_scheme", "AUTH_TYPE", "REMOTE_USER"),
)
CACHE = "app.token_cache"
CACHED_TOKENS = 2048  # some 10 KiB each, with a large catalog
CALLERS, CALLERS_SECONDS = 2048, 10.0
ANSWER_SECONDS = 10  # a Keystone that says nothing for so long is away


class KeystoneAuth(Auth):
    """Validate tokens against Keystone, once in ``token_cache_time`` seconds.

    A token is looked at when a request starts: a long upload doesn't fail
    at its end because its token has run out meanwhile. Roles count on a
    project; those on a domain give no rights here.
    """

    group = GROUP
    options = (
        cfg.StrOpt(
            "auth_type",
            default="password",
            deprecated_name="auth_plugin",
            help="How this server proves itself to Keystone: a plugin of keystoneauth. The section "
            "takes that plugin's options and those of keystonemiddleware, which "
            "`oslo-config-generator --namespace keystonemiddleware.auth_token` lists.",
        ),
    )

    @classmethod
    def further_options(cls, settings: Mapping[str, Any]) -> tuple[cfg.Opt, ...]:
        """Return the options of keystonemiddleware and of the chosen auth plugin.

        Raises PluginError when a library is missing, ConfigError for an
        ``auth_type`` that isn't installed.
        """
        # One is in ``options``; the others would take settings from elsewhere.
        but = {"auth_type", "auth_section", "cache"}
        middleware = [opt for opt in _middleware_options() if opt.dest not in but]
        cfg.set_defaults(middleware, http_connect_timeout=ANSWER_SECONDS)
        return (*middleware, *options_of(settings["auth_type"], GROUP))

    def open(self) -> None:
        """Check the settings; raise ConfigError. Keystone needn't be there yet."""
        from keystoneauth1.exceptions import ClientException
        from keystonemiddleware.auth_token import AuthProtocol
        from keystonemiddleware.exceptions import ConfigurationError

        for name in ("cafile", "certfile", "keyfile"):
            path = self.settings.get(name)
            if path and not Path(path).is_file():
                raise ConfigError(f"[{GROUP}] {name}: {path} is no readable file")
        # Below WARNING it tells what Keystone said of a token, which may name it.
        logging.getLogger("keystonemiddleware").setLevel(logging.WARNING)
        uri = self.settings["www_authenticate_uri"] or self.settings.get("auth_url")
        self._challenge = f'Keystone uri="{uri}"'
        settings = {**self.settings, "www_authenticate_uri": uri, "delay_auth_decision": False}
        if not settings["memcached_servers"]:
            settings["cache"] = CACHE
        self._cache: Memory[str, bytes] = Memory(CACHED_TOKENS)
        self._callers: Memory[str, Caller] = Memory(CALLERS)
        self._unreachable = ClientException
        options = [*_middleware_options(), *options_of(settings["auth_type"], GROUP)]
        conf = conf_of({GROUP: options}, {GROUP: settings})
        try:
            self._middleware = AuthProtocol(_passed, {"oslo_config_config": conf})
        except (ClientException, ConfigurationError) as error:
            raise ConfigError(f"[{GROUP}]: {error}") from error

    def authenticate(self, req: falcon.Request) -> Caller:
        token = (req.env.get(TOKEN) or req.env.get(OLD_TOKEN) or "").strip()
        service_token = req.env.get(SERVICE_TOKEN, "").strip()
        known = None if service_token else self._callers.get(token)
        if known is not None:
            return replace(known, request_id=req.env.get("app.request_id"))
        passed = None
        if WELL_FORMED.fullmatch(token):
            # A service's token that isn't good for that counts for nothing; the user's still may.
            if WELL_FORMED.fullmatch(service_token):
                passed = self._ask(req, {TOKEN: token, SERVICE_TOKEN: service_token})
            passed = passed or self._ask(req, {TOKEN: token})
        if passed is None:
            raise falcon.HTTPUnauthorized(
                description="This service needs a valid token in the header X-Auth-Token.",
                challenges=[self._challenge],
            )
        caller = _caller(passed, token, req.env.get("app.request_id"))
        if not passed.has_service_token:
            self._remember(token, passed.user, caller)
        return caller

    def _remember(self, token: str, user: Any, caller: Caller) -> None:
        """Know a caller for a moment: keystonemiddleware takes half a millisecond for each request.

        Not where it has to look at the request itself, and never longer
        than the token is good for.
        """
        if user.bind or user.application_credential_access_rules is not None:
            return
        left = (user.expires - datetime.now(UTC)).total_seconds()
        self._callers.set(token, caller, min(CALLERS_SECONDS, self.settings["token_cache_time"], left))

    def _ask(self, req: falcon.Request, tokens: Mapping[str, str]) -> Any:
        """Return whom the tokens stand for, None when they are refused; raise 503."""
        env: dict[str, Any] = {name: req.env[name] for name in FACTS if name in req.env}
        env |= {**tokens, CACHE: self._cache}
        status: list[str] = []
        try:
            self._middleware(env, lambda said, *_: status.append(said))
        except self._unreachable as error:
            log.error("Keystone can't be asked: %s: %s", type(error).__name__, error)  # noqa: TRY400
            raise _away() from error
        if status == ["200 OK"]:
            return env["keystone.token_auth"]
        if not status[0].startswith("401"):
            raise _away()
        return None


def _caller(passed: Any, token: str, request_id: str | None) -> Caller:
    """Make the caller of what keystonemiddleware found out (``keystone.token_auth``)."""
    user = passed.user
    system = "all" if user.system_scoped else None
    roles = _roles(user) if user.project_id or system else frozenset()
    return Caller(
        user.user_id,
        user.project_id,
        roles,
        admin="admin" in roles and system is None,
        request_id=request_id,
        service_roles=_roles(passed.service) if passed.has_service_token else frozenset(),
        system_scope=system,
        credentials=Credentials(
            token, tuple(user.service_catalog.catalog) if user.has_service_catalog() else ()
        ),
    )


def _roles(access: Any) -> frozenset[str]:
    # Names of roles are compared regardless of case, in Keystone as well.
    return frozenset(name.lower() for name in access.role_names)


def _passed(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Be the application behind the middleware: whoever comes here has passed."""
    start_response("200 OK", [])
    return []


def _away() -> falcon.HTTPServiceUnavailable:
    return falcon.HTTPServiceUnavailable(
        description="The Identity service can't be reached; try again later."
    )


def _middleware_options() -> list[cfg.Opt]:
    """Return keystonemiddleware's options; raise PluginError when it isn't installed."""
    try:
        from keystonemiddleware.opts import list_auth_token_opts
    except ImportError as error:
        raise PluginError(f"auth_strategy keystone: {error}; pip install glancelike[keystone]") from error
    return [opt for _group, opts in list_auth_token_opts() for opt in opts]
