"""Messages between the processes.

A message only says "look at this server": it carries an id, and whoever
gets it reads the database for what is to be done. So it may be lost, come
twice or come late without harm, and nobody waits for the broker to take
one. The exception is a question, such as for a console log, whose asker
waits for the answer and gets QueueDown without one.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from novalite import inprocess, transport
from novalite.errors import NovaliteError, QueueDown
from novalite.transport import NO_OPTIONS, Options, messaging

LOG = logging.getLogger(__name__)
_VERSION = "1.0"
_EXCHANGE = "novalite"  # another service on the same broker has its own
_START_SECONDS = 2.0
_STOP_SECONDS = 2.0
_RETRY_SECONDS = 2.0
_FLUSH_SECONDS = 1.0
_COMPLAIN_SECONDS = 60.0
_GRACE_SECONDS = 1.0
_ASKING = 32  # questions that may wait for the broker
_WAITING = 1000  # messages that may wait for the broker


class Bus:
    """Sends messages and serves those sent here; thread-safe after ``open``.

    ``transport_url`` is oslo.messaging's, ``options`` are its own. The path
    of a ``kombu+inprocess`` URL keeps several clouds in one process apart.
    """

    def __init__(
        self, transport_url: str, options: Options = NO_OPTIONS, *, response_timeout: float = 30.0
    ) -> None:
        self._url = transport_url
        self._options = options
        self._timeout = response_timeout
        self._transport: Any = None
        self._consumers: list[_Consumer] = []
        self._outbox = _Outbox()
        self._asking = _Asking()
        in_memory = transport_url.startswith(inprocess.URL)
        path = transport_url.partition("://")[2].partition("/")[2] if in_memory else ""
        self._prefix = f"novalite.{path}." if path else "novalite."

    def open(self) -> None:
        """Make the transport; raise ConfigError for a URL or options that can't be."""
        self._transport = transport.make(self._url, self._options)
        self._outbox.open()

    def close(self) -> None:
        """Stop serving and close; gives up on a broker that doesn't answer."""
        self._outbox.close()
        consumers, self._consumers = self._consumers, []
        threads = [threading.Thread(target=consumer.stop, daemon=True) for consumer in consumers]
        for thread in threads:
            thread.start()
        until = time.monotonic() + _STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if self._transport is not None:
            made, self._transport = self._transport, None
            ending = threading.Thread(target=made.cleanup, daemon=True)
            ending.start()
            ending.join(max(0.0, until - time.monotonic()))

    @property
    def unsent(self) -> int:
        """How many messages weren't sent, and, once it is closed, won't be."""
        return self._outbox.unsent

    # Sending

    def schedule(self, server_id: str) -> None:
        """Tell some scheduler to place a server."""
        self._cast(
            self._target("scheduler"),
            "schedule",
            server_id=server_id,
        )

    def drive(self, host: str, server_id: str) -> None:
        """Tell a host's compute manager to see to a server."""
        self._cast(self._compute(host), "drive", server_id=server_id)

    def precache(self, host: str, image_id: str) -> None:
        """Tell a host to fetch an image before a server needs it."""
        self._cast(self._compute(host), "precache", image_id=image_id)

    def console_output(self, host: str, server_id: str, tail_bytes: int) -> str:
        """Ask a server's host for the end of its console log.

        Raises what the host raises, and QueueDown when it doesn't answer.
        """
        return str(self._ask(host, "console_output", server_id=server_id, tail_bytes=tail_bytes))

    def diagnostics(self, host: str, server_id: str) -> dict[str, Any]:
        """Ask a server's host for the guest's counters (``Diagnostics.plain``); raises as above."""
        return dict(self._ask(host, "diagnostics", server_id=server_id))

    def _ask(self, host: str, question: str, **arguments: Any) -> Any:
        client = self._client(self._compute(host))
        try:
            return self._asking.ask(
                lambda: client.call({}, question, **arguments), self._timeout + _GRACE_SECONDS
            )
        except (messaging.MessagingTimeout, TimeoutError) as error:
            raise QueueDown(f"host {host} didn't answer within {self._timeout:g} s") from error
        except NovaliteError:
            raise
        except Exception as error:
            # The library lets the errors of all that it is built on through.
            raise QueueDown(f"host {host} can't be asked: {error}") from error

    # Serving

    def serve_scheduler(self, name: str, schedule: Callable[[str], None]) -> None:
        """Have ``schedule`` called with the ids of servers to place.

        All schedulers share one queue: each message goes to one of them.
        """

        class Endpoint:
            target = messaging.Target(version=_VERSION)

            def schedule(self, _context: Any, server_id: str) -> None:
                schedule(server_id)

        self._serve(self._target("scheduler", name), Endpoint())

    def serve_compute(
        self,
        host: str,
        drive: Callable[[str], None],
        console_output: Callable[[str, int], str],
        diagnostics: Callable[[str], dict[str, Any]],
        precache: Callable[[str], None],
    ) -> None:
        """Have these called for what is sent to this host."""

        class Endpoint:
            target = messaging.Target(version=_VERSION)

            def drive(self, _context: Any, server_id: str) -> None:
                drive(server_id)

            @messaging.expected_exceptions(NovaliteError)  # type: ignore[untyped-decorator]
            def console_output(self, _context: Any, server_id: str, tail_bytes: int) -> str:
                return console_output(server_id, tail_bytes)

            @messaging.expected_exceptions(NovaliteError)  # type: ignore[untyped-decorator]
            def diagnostics(self, _context: Any, server_id: str) -> dict[str, Any]:
                return diagnostics(server_id)

            def precache(self, _context: Any, image_id: str) -> None:
                precache(image_id)

        self._serve(self._compute(host), Endpoint())

    def _compute(self, host: str) -> Any:
        return self._target("compute", host)

    def _target(self, topic: str, server: str | None = None) -> Any:
        return messaging.Target(exchange=_EXCHANGE, topic=self._prefix + topic, server=server)

    def _client(self, target: Any) -> Any:
        if self._transport is None:
            raise QueueDown("the message queue isn't open")
        return messaging.get_rpc_client(
            self._transport, target(version=_VERSION), timeout=self._timeout, retry=1
        )

    def _cast(self, target: Any, method: str, **arguments: str) -> None:
        client = self._client(target)
        self._outbox.put(lambda: client.cast({}, method, **arguments))

    def _serve(self, target: Any, endpoint: Any) -> None:
        consumer = _Consumer(lambda: messaging.get_rpc_server(self._transport, target, [endpoint]))
        self._consumers.append(consumer)
        if not consumer.start(_START_SECONDS):
            LOG.warning("the message queue isn't there yet; going on without it")


class _Asking:
    """Asks on threads of their own: with the broker away the library waits for ever."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(_ASKING)

    def ask(self, question: Callable[[], Any], seconds: float) -> Any:
        """Return the answer; raise what the question raises, and TimeoutError."""
        if not self._free.acquire(blocking=False):
            raise QueueDown("too many questions wait for an answer")
        answer: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

        def run() -> None:
            try:
                answer.put((question(), None))
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked
                answer.put((None, error))
            finally:
                self._free.release()

        threading.Thread(target=run, name="bus-question", daemon=True).start()
        try:
            found, error = answer.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError from None
        if error is not None:
            raise error
        return found


class _Outbox:
    """Sends on a thread of its own, in order; what is too much is dropped."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._closing = False
        self._lost = 0
        self._under_way = 0
        self._complained = float("-inf")

    def open(self) -> None:
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="bus-outbox", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what waits, for a moment; the rest is lost."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        until = time.monotonic() + _FLUSH_SECONDS
        with suppress(queue.Full):
            self._queue.put(None, timeout=_FLUSH_SECONDS)
            thread.join(max(0.0, until - time.monotonic()))
        self._closing = True

    @property
    def unsent(self) -> int:
        return self._lost + self._under_way + sum(each is not None for each in list(self._queue.queue))

    def put(self, send: Callable[[], None]) -> None:
        try:
            self._queue.put_nowait(send)
        except queue.Full:
            self._lose("too many messages wait")

    def _run(self) -> None:
        while not self._closing and (send := self._queue.get()) is not None:
            self._under_way = 1
            try:
                send()
            except Exception as error:  # noqa: BLE001 - the library lets all errors through
                self._lose(str(error))
            self._under_way = 0

    def _lose(self, why: str) -> None:
        self._lost += 1
        if time.monotonic() - self._complained >= _COMPLAIN_SECONDS:
            self._complained = time.monotonic()
            LOG.warning(
                "%d messages were not sent (%s): whom they were for finds the work in the database",
                self._lost,
                why,
            )


class _Consumer:
    """A server of messages that starts as soon as there is a broker, and stops."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._server: Any = None
        self._started = threading.Event()
        self._stopping = threading.Event()

    def start(self, seconds: float) -> bool:
        """Start; tell whether it has within the time. If not it goes on trying."""
        threading.Thread(target=self._run, name="bus-consumer", daemon=True).start()
        return self._started.wait(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            server = self._make()
            try:
                # Waits for as long as the broker is away.
                server.start()
            except Exception as error:  # noqa: BLE001 - the library lets all errors through
                LOG.warning("the message queue can't be used: %s", error)
                self._stopping.wait(_RETRY_SECONDS)
            else:
                self._server = server
                self._started.set()
                return

    def stop(self) -> None:
        """Take no more messages, and wait for those at work."""
        self._stopping.set()
        if self._started.is_set():
            self._server.stop()
            self._server.wait()
