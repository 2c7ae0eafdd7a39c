"""The proxy: a client with a token comes by websocket and is put through to a guest's terminal.

A token is in the URL, so the URL is never logged, and a token that was seen
is of no use: the first who comes with it has used it up. Pages of other sites
than the operator names are refused before their token is looked at, and
nothing is ever redirected.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from novalite.api.serial.line import Line
from novalite.config import ConsoleSettings
from novalite.errors import Forbidden, NovaliteError, Unavailable

LOG = logging.getLogger(__name__)
# The library logs requests, URLs and all, when it is told to debug.
_QUIET = logging.getLogger(f"{__name__}.library")
_QUIET.setLevel(logging.WARNING)

_MESSAGE_BYTES = 1 << 16
# A client that neither takes what the guest says nor answers is gone after at most twice this.
_PING_SECONDS = 10
_HANDSHAKE_SECONDS = 10
_BINARY = Subprotocol("binary")
_ENDED, _TAKEN_OVER, _FAILED = 1000, 1008, 1011  # RFC 6455, 7.4.1
_SCHEMES = {"ws": ("http", "https"), "wss": ("https",)}


class Client(ServerConnection):
    """A connection; ``server_id`` is the server whose console it was let in to."""

    server_id = ""


class SerialProxy:
    """Serves the consoles of one host's guests."""

    def __init__(
        self,
        settings: ConsoleSettings,
        *,
        redeem: Callable[[str], str],
        open_serial: Callable[[str], int],
    ) -> None:
        """``redeem`` uses a token up and returns its server; ``open_serial`` is the virt driver's."""
        self._settings = settings
        self._redeem = redeem
        self._open_serial = open_serial
        base = urlsplit(settings.base_url or "")
        self._schemes = _SCHEMES.get(base.scheme, ())
        self._origins = {*settings.allowed_origins, (base.hostname or "").lower()} - {""}
        self._sessions: dict[str, asyncio.Event] = {}  # set when another client comes

    async def start(self) -> Server:
        """Listen; raise OSError."""
        return await serve(
            self._talk,
            self._settings.listen,
            self._settings.listen_port,
            process_request=self._admit,
            select_subprotocol=_subprotocol,
            create_connection=Client,
            compression=None,
            max_size=_MESSAGE_BYTES,
            open_timeout=_HANDSHAKE_SECONDS,
            ping_interval=_PING_SECONDS,
            ping_timeout=_PING_SECONDS,
            logger=_QUIET,
            server_header=None,
        )

    async def _admit(self, client: ServerConnection, request: Request) -> Response | None:
        """Let a client in, or answer why not. Its token is looked at last."""
        url = urlsplit(request.path)
        if url.path == "/healthcheck" and not url.netloc:
            return client.respond(HTTPStatus.OK, "OK\n")
        if url.path != "/" or url.netloc:
            return client.respond(HTTPStatus.NOT_FOUND, "There is nothing here.\n")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return client.respond(HTTPStatus.UPGRADE_REQUIRED, "Consoles are for websockets.\n")
        if not self._may_come_from(request.headers):
            LOG.warning("a page of another site was refused a console: %r", request.headers.get("Origin"))
            return client.respond(HTTPStatus.FORBIDDEN, "Pages of this site may not open consoles.\n")
        tokens = parse_qs(url.query).get("token", [])
        if len(tokens) != 1:
            return client.respond(HTTPStatus.FORBIDDEN, "A console needs a token.\n")
        try:
            cast("Client", client).server_id = await asyncio.to_thread(self._redeem, tokens[0])
        except Forbidden as error:
            LOG.warning("%s was refused a console: %s", client.remote_address[0], error)
            return client.respond(HTTPStatus.FORBIDDEN, f"{error}\n")
        except Unavailable as error:
            LOG.warning("tokens can't be looked up: %s", error)
            return client.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Try again later.\n")
        return None

    def _may_come_from(self, headers: Headers) -> bool:
        """Tell whether a web page may open consoles; what is no browser names none."""
        origins = headers.get_all("Origin")
        if not origins:
            return True
        try:
            told = urlsplit(origins[0])
            host = (told.hostname or "").lower()
        except ValueError:
            return False
        return len(origins) == 1 and told.scheme in self._schemes and host in self._origins

    async def _talk(self, connection: ServerConnection) -> None:
        """Put a client through until either end is closed, or another client comes."""
        client = cast("Client", connection)
        server_id = client.server_id
        taken = asyncio.Event()
        if (before := self._sessions.get(server_id)) is not None:
            before.set()
        self._sessions[server_id] = taken
        try:
            code, why = await self._session(client, taken)
        finally:
            if self._sessions.get(server_id) is taken:
                del self._sessions[server_id]
        await client.close(code, why)

    async def _session(self, client: Client, taken: asyncio.Event) -> tuple[int, str]:
        """Return how it ended: a code for the client, and a reason."""
        peer = client.remote_address[0]
        try:
            descriptor = await asyncio.to_thread(self._open_serial, client.server_id)
        except NovaliteError as error:
            LOG.warning("no console of server %s: %s", client.server_id, error)
            return _FAILED, "the server has no console now"
        LOG.info("server %s: console of %s", client.server_id, peer)
        with Line(descriptor) as line:
            ways = [_to_client(client, line), _to_guest(client, line), client.wait_closed(), taken.wait()]
            tasks = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
        LOG.info("server %s: end of the console of %s", client.server_id, peer)
        if taken.is_set():
            return _TAKEN_OVER, "the console was opened elsewhere"
        return _ENDED, "the guest has ended"


async def _to_client(client: Client, line: Line) -> None:
    with contextlib.suppress(ConnectionClosed):
        while data := await line.read():
            await client.send(data)


async def _to_guest(client: Client, line: Line) -> None:
    with contextlib.suppress(ConnectionClosed, OSError):
        async for message in client:
            await line.write(message.encode() if isinstance(message, str) else message)


def _subprotocol(_client: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Choose noVNC's and websockify's name for plain bytes, where a client knows it."""
    return _BINARY if _BINARY in offered else None
