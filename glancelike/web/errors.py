"""One way from any exception to an HTTP answer.

A service gives a table (error class to status, the most specific class
wins) and a renderer that writes the body in the form its clients expect.
What a 5xx says in detail goes to the log only: the caller gets the request
id to ask with.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import falcon

log = logging.getLogger(__name__)

Render = Callable[[falcon.Request, falcon.Response, int, str], None]

RETRY_AFTER = "5"  # seconds, told with every 503
PHRASES = {460: "Checksum Mismatch"}  # those that HTTP itself doesn't know
PLAIN = {
    404: "The resource could not be found.",
    503: "A backend of the service is away; try again later.",
}


@dataclass(frozen=True)
class ErrorTable:
    """Statuses by error class; ``base`` is the root of the error tree."""

    base: type[Exception]
    statuses: Mapping[type[Exception], int]

    def status_of(self, error: type[Exception]) -> int:
        """Return the status of the most specific class in the table, else 500."""
        return next((self.statuses[cls] for cls in error.__mro__ if cls in self.statuses), 500)


def install(app: falcon.App[Any, Any], table: ErrorTable, render: Render) -> None:
    """Answer every exception that leaves a resource of ``app``."""

    def known(req: falcon.Request, resp: falcon.Response, error: Exception, params: object) -> None:
        status = table.status_of(type(error))
        message = str(error)
        if status >= 500:
            trace = error if status == 500 else None
            told = (req.method, req.path, request_id(req), type(error).__name__, error)
            log.error("%s %s (%s): %s: %s", *told, exc_info=trace)
            message = failure(req, status)
        answer(req, resp, status, message)

    def http_error(
        req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: object
    ) -> None:
        for name, value in dict(error.headers or {}).items():
            resp.set_header(name, value)
        status = falcon.http_status_to_code(error.status)
        answer(req, resp, status, error.description or plain(req, status))

    def unknown(req: falcon.Request, resp: falcon.Response, error: Exception, params: object) -> None:
        told = (req.method, req.path, request_id(req), type(error).__name__)
        log.error("%s %s (%s): unexpected %s", *told, exc_info=error)
        answer(req, resp, 500, failure(req, 500))

    def answer(req: falcon.Request, resp: falcon.Response, status: int, message: str) -> None:
        resp.status = status
        resp.stream = None
        if status == 503:
            resp.set_header("Retry-After", RETRY_AFTER)
        if status not in (204, 304):
            render(req, resp, status, message)

    app.add_error_handler(Exception, unknown)
    app.add_error_handler(falcon.HTTPError, http_error)
    app.add_error_handler(table.base, known)


def plain(req: falcon.Request, status: int) -> str:
    """Say what a status means to the caller of ``req``."""
    if status == 405:
        return f"The method {req.method} is not allowed for this resource."
    return PLAIN.get(status) or http.HTTPStatus(status).description or phrase(status)


def failure(req: falcon.Request, status: int) -> str:
    """Say that the server failed, with the request id to look for in its log."""
    said = PLAIN.get(status, "The server failed to do this.")
    return f"{said} (request id {request_id(req)})"


def request_id(req: falcon.Request) -> str:
    """Return the id that the request's answer and log lines carry."""
    return str(req.env.get("app.request_id", "unknown"))


def phrase(status: int) -> str:
    """Return the reason phrase, such as ``Not Found``."""
    return PHRASES.get(status) or http.HTTPStatus(status).phrase
