"""Messages between the processes; the one module that knows oslo.messaging.

A message only says "look at this server": it carries an id, and whoever
gets it reads the database for what is to be done. So it may be lost, come
twice or come late without harm. The exception is a question, such as for a
console log, whose asker waits for the answer and gets QueueDown without one.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any

from oslo_config import cfg

from novalite import inprocess
from novalite.errors import ConfigError, NovaliteError, QueueDown

# It imports eventlet, and doesn't use it. Half of that would be a resolver of names.
os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")
with warnings.catch_warnings():
    # eventlet warns that it is going away.
    warnings.simplefilter("ignore")
    import oslo_messaging as messaging
    from oslo_messaging._metrics import client as metrics
    from oslo_messaging._tracing import client as tracing

LOG = logging.getLogger(__name__)
# It warns that queues in memory are experimental, each time one is made.
logging.getLogger("oslo.messaging._drivers.impl_rabbit").addFilter(
    lambda record: "experimental feature" not in str(record.msg)
)
_VERSION = "1.0"
_START_SECONDS = 5.0
_STOP_SECONDS = 4.0


class Bus:
    """Sends messages and serves those sent here; thread-safe after ``open``.

    ``transport_url`` is oslo.messaging's. The path of a ``kombu+inprocess``
    URL keeps several clouds in one process apart.
    """

    def __init__(self, transport_url: str, *, response_timeout: float = 30.0) -> None:
        self._url = transport_url
        self._timeout = response_timeout
        self._transport: Any = None
        self._servers: list[Any] = []
        self._in_memory = transport_url.startswith(inprocess.URL)
        path = transport_url.partition("://")[2].partition("/")[2] if self._in_memory else ""
        self._prefix = f"novalite.{path}." if path else "novalite."

    def open(self) -> None:
        """Make the transport; raise ConfigError for a URL that can't be one."""
        conf = cfg.ConfigOpts()
        conf(args=[], project="novalite", default_config_files=[], default_config_dirs=[])
        # The library looks for these two in whatever ConfigOpts it is given,
        # but registers them with the global one only.
        conf.register_opts(tracing.oslo_messaging_tracing, group="oslo_messaging_tracing")
        conf.register_opts(metrics.oslo_messaging_metrics, group="oslo_messaging_metrics")
        if "://" not in self._url:
            raise ConfigError(f"transport_url {self._url!r} isn't a URL")
        url = "kombu+inprocess://localhost/?heartbeat_timeout_threshold=0" if self._in_memory else self._url
        try:
            self._transport = messaging.get_rpc_transport(
                conf, url=url, allowed_remote_exmods=["novalite.errors"]
            )
        except (messaging.InvalidTransportURL, messaging.DriverLoadFailure, ValueError) as error:
            told = str(error).replace(self._url, "the URL")  # it has a password
            raise ConfigError(f"transport_url: {told}") from error

    def close(self) -> None:
        """Stop serving and close; gives up on a broker that doesn't answer."""
        servers, self._servers = self._servers, []
        threads = [threading.Thread(target=_stop, args=(server,), daemon=True) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_STOP_SECONDS)
        if self._transport is not None:
            transport, self._transport = self._transport, None
            _within(_STOP_SECONDS, transport.cleanup)

    # Sending

    def schedule(self, server_id: str) -> None:
        """Tell some scheduler to place a server."""
        self._cast(messaging.Target(topic=self._prefix + "scheduler"), "schedule", server_id=server_id)

    def drive(self, host: str, server_id: str) -> None:
        """Tell a host's compute manager to see to a server."""
        self._cast(self._compute(host), "drive", server_id=server_id)

    def console_output(self, host: str, server_id: str, tail_bytes: int) -> str:
        """Ask a server's host for the end of its console log.

        Raises what the host raises, and QueueDown when it doesn't answer.
        """
        client = self._client(self._compute(host))
        try:
            return str(client.call({}, "console_output", server_id=server_id, tail_bytes=tail_bytes))
        except messaging.MessagingTimeout as error:
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

        self._serve(messaging.Target(topic=self._prefix + "scheduler", server=name), Endpoint())

    def serve_compute(
        self, host: str, drive: Callable[[str], None], console_output: Callable[[str, int], str]
    ) -> None:
        """Have the two called for what is sent to this host."""

        class Endpoint:
            target = messaging.Target(version=_VERSION)

            def drive(self, _context: Any, server_id: str) -> None:
                drive(server_id)

            @messaging.expected_exceptions(NovaliteError)  # type: ignore[untyped-decorator]
            def console_output(self, _context: Any, server_id: str, tail_bytes: int) -> str:
                return console_output(server_id, tail_bytes)

        self._serve(self._compute(host), Endpoint())

    def _compute(self, host: str) -> Any:
        return messaging.Target(topic=self._prefix + "compute", server=host)

    def _client(self, target: Any) -> Any:
        if self._transport is None:
            raise QueueDown("the message queue isn't open")
        return messaging.get_rpc_client(
            self._transport, target(version=_VERSION), timeout=self._timeout, retry=1
        )

    def _cast(self, target: Any, method: str, **arguments: str) -> None:
        try:
            self._client(target).cast({}, method, **arguments)
        except NovaliteError:
            raise
        except Exception as error:
            raise QueueDown(f"the message queue doesn't take {method}: {error}") from error

    def _serve(self, target: Any, endpoint: Any) -> None:
        server = messaging.get_rpc_server(self._transport, target, [endpoint])
        self._servers.append(server)
        # With the broker away this would block the start for as long; the
        # work goes on all the same, driven by the database.
        if not _within(_START_SECONDS, server.start):
            LOG.warning("the message queue isn't there yet; going on without it")


def _stop(server: Any) -> None:
    server.stop()
    server.wait()


def _within(seconds: float, call: Callable[[], None]) -> bool:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
