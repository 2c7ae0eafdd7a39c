"""Notifications: tell other services what has happened to images.

Events and payloads are Glance's, so that what listens to it (Ceilometer,
search, billing) needs no change:
https://docs.openstack.org/glance/latest/admin/notifications.html

A request never waits for the broker. Events go through a bounded queue to
one thread, which keeps their order; while the broker is away the queue
fills, and what doesn't fit is dropped and counted in the log. They are
news, not a record: a process that is killed takes its queue with it.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from oslo_config import cfg

from glancelike import plugins
from glancelike.errors import ConfigError, PluginError
from glancelike.model import Image, Member, Visibility, utcnow
from glancelike.web.options import DEFAULT, Values, conf_of

LOG = logging.getLogger(__name__)

GROUP = "oslo_messaging_notifications"
NAMESPACE = "oslo.messaging.notify.drivers"
QUEUED = 1000  # events that may wait for the broker
FLUSH_SECONDS = 3.0  # how long the end of a process waits for it
COMPLAIN_SECONDS = 60.0
FOR_EVER = 10**9  # attempts: oslo.messaging gives up a connection at once when told -1

OPTIONS: Mapping[str, Sequence[cfg.Opt]] = {
    DEFAULT: (
        cfg.StrOpt(
            "default_publisher_id",
            help="Publisher of the notifications; 'image.' and the host's name by default.",
        ),
        cfg.ListOpt(
            "disabled_notifications",
            default=[],
            help="Events not to send: their names (image.create), or the beginning of them up to a dot "
            "(image.member, metadef_tag).",
        ),
    ),
    GROUP: (
        cfg.MultiStrOpt(
            "driver",
            default=[],
            help="How notifications are sent: messagingv2, messaging, routing, log or noop; more than one "
            "may be given. None by default. With it, the options of oslo.messaging are taken: "
            "transport_url and control_exchange here in [DEFAULT], [oslo_messaging_rabbit] and "
            "[oslo_messaging_kafka].",
        ),
        cfg.StrOpt("transport_url", secret=True, help="URL of the message broker; [DEFAULT] by default."),
        cfg.ListOpt("topics", default=["notifications"], help="Topics of the notifications."),
        cfg.IntOpt("retry", default=-1, help="Most attempts to send one again; -1: no limit."),
    ),
}
OUT_OF_DEFAULT = frozenset({"transport_url", "control_exchange"})


class Notifier(Protocol):
    """Where events go.

    ``emit`` returns at once and never raises; ``payload`` must not change
    afterwards. ``open`` raises ConfigError or PluginError; it is called
    after the server has forked.
    """

    def open(self) -> None: ...

    def close(self) -> None: ...

    def emit(self, event: str, payload: Any, *, error: bool = False) -> None: ...


class Silence:
    """A Notifier that sends nothing."""

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def emit(self, event: str, payload: Any, *, error: bool = False) -> None:
        """Do nothing."""


def further_options(values: Values) -> dict[str, list[cfg.Opt]]:
    """Return oslo.messaging's options, where a driver is configured.

    Raises PluginError when it isn't installed, ConfigError for a driver that
    it hasn't.
    """
    if not _drivers(values):
        return {}
    options = _library_options()
    known = plugins.available(NAMESPACE)
    for name in _drivers(values):
        if name not in known:
            raise ConfigError(f"[{GROUP}] driver: there is no {name!r}, only {', '.join(known)}")
    options[DEFAULT] = [opt for opt in options[DEFAULT] if opt.dest in OUT_OF_DEFAULT]
    del options[GROUP]
    return options


def notifier_of(values: Values) -> Notifier:
    """Make the notifier that the configuration describes, not yet opened."""
    return MessagingNotifier(values) if _drivers(values) else Silence()


def _drivers(values: Values) -> list[str]:
    return [name for name in values[GROUP]["driver"] if name and name != "noop"]


@dataclass(frozen=True, slots=True)
class _Event:
    name: str
    payload: Any
    error: bool


class MessagingNotifier:
    """Sends by oslo.messaging, from a thread of its own."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._publisher = values[DEFAULT]["default_publisher_id"] or f"image.{socket.gethostname()}"
        self._disabled = tuple(values[DEFAULT]["disabled_notifications"])
        self._queue: queue.Queue[_Event | None] = queue.Queue(QUEUED)
        self._thread: threading.Thread | None = None
        self._transport: Any = None
        self._dropped = 0
        self._complained = float("-inf")

    def open(self) -> None:
        """Make the transport, which connects with the first event, and start the thread."""
        if self._thread is not None:
            return
        messaging = _messaging()
        conf = conf_of(_library_options(), self._values)
        if conf.control_exchange == "openstack":
            # Its default; Glance's events are where Glance's listeners look.
            conf.set_override("control_exchange", "glance")
        try:
            self._transport = messaging.get_notification_transport(conf)
            sender = messaging.Notifier(
                self._transport,
                publisher_id=self._publisher,
                retry=FOR_EVER if conf[GROUP].retry < 0 else None,
            )
        except (
            messaging.InvalidTransportURL,
            messaging.DriverLoadFailure,
            ValueError,
            RuntimeError,
        ) as error:
            url = self._values[GROUP]["transport_url"] or self._values[DEFAULT].get("transport_url") or ""
            said = str(error).replace(url, "the URL") if url else str(error)  # it has a password
            raise ConfigError(f"[{GROUP}]: {said}") from error
        self._thread = threading.Thread(target=self._run, args=(sender,), name="notifier", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what waits, within FLUSH_SECONDS; safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        deadline = time.monotonic() + FLUSH_SECONDS
        try:
            self._queue.put(None, timeout=FLUSH_SECONDS)
            thread.join(max(0.0, deadline - time.monotonic()))
        except queue.Full:
            pass
        if thread.is_alive():
            LOG.warning("the broker is away: %d notifications are lost", self._queue.qsize())
        else:
            self._transport.cleanup()

    def emit(self, event: str, payload: Any, *, error: bool = False) -> None:
        """Put an event into the queue; drop it when the queue is full."""
        if any(event == name or event.startswith(f"{name}.") for name in self._disabled):
            return
        try:
            self._queue.put_nowait(_Event(event, payload, error))
        except queue.Full:
            self._dropped += 1
            if time.monotonic() - self._complained >= COMPLAIN_SECONDS:
                self._complained = time.monotonic()
                LOG.warning("the broker is away or slow: %d notifications dropped so far", self._dropped)

    def _run(self, sender: Any) -> None:
        while (event := self._queue.get()) is not None:
            try:
                (sender.error if event.error else sender.info)({}, event.name, event.payload)
            except Exception:
                # The thread has to live on, whatever a driver raises.
                LOG.exception("notification %s could not be sent", event.name)


# Payloads: Glance's, and never what could hold a secret: locations, a task's input.


def image_payload(image: Image, **further: Any) -> dict[str, Any]:
    """Return what is told of an image."""
    return {
        "id": image.id,
        "name": image.name,
        "status": str(image.status),
        "created_at": isotime(image.created_at),
        "updated_at": isotime(image.updated_at),
        "min_disk": image.min_disk,
        "min_ram": image.min_ram,
        "protected": image.protected,
        "checksum": image.checksum,
        "os_hash_algo": image.hash_algo,
        "os_hash_value": image.hash_value,
        "owner": image.owner,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "is_public": image.visibility is Visibility.PUBLIC,
        "visibility": str(image.visibility),
        "properties": dict(image.properties),
        "tags": sorted(image.tags),
        "deleted": False,
        "deleted_at": None,
        **further,
    }


def transfer_payload(image: Image, store: str | None = None) -> dict[str, Any]:
    """Return what is told of an image whose data is on its way, to ``store``."""
    lists = {
        name: [each for each in image.properties.get(name, "").split(",") if each]
        for name in ("os_glance_importing_to_stores", "os_glance_failed_import")
    }
    return image_payload(image, **lists, **({"backend": store} if store else {}))


def member_payload(member: Member, **further: Any) -> dict[str, Any]:
    """Return what is told of a member."""
    return {
        "image_id": member.image_id,
        "member_id": member.project,
        "status": str(member.status),
        "created_at": isotime(member.created_at),
        "updated_at": isotime(member.updated_at),
        "deleted": False,
        "deleted_at": None,
        **further,
    }


def gone() -> dict[str, Any]:
    """Return what a payload says in addition when its subject was deleted just now."""
    return {"deleted": True, "deleted_at": isotime(utcnow())}


def isotime(when: datetime) -> str:
    """Write a time as the Image API does."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _messaging() -> Any:
    """Import oslo.messaging; raise PluginError without it."""
    try:
        with warnings.catch_warnings():
            # It imports eventlet, which warns that it is going away, and then doesn't use it.
            warnings.simplefilter("ignore")
            import oslo_messaging
    except ImportError as error:
        raise PluginError(f"[{GROUP}] driver: {error}; pip install glancelike[notifications]") from error
    return oslo_messaging


def _library_options() -> dict[str, list[cfg.Opt]]:
    _messaging()
    from oslo_messaging import opts
    from oslo_messaging._metrics import client as metrics
    from oslo_messaging._tracing import client as tracing

    options: dict[str, list[cfg.Opt]] = {}
    for group, listed in opts.list_opts():
        options[group or DEFAULT] = list(listed)
    # The library looks for these two in whatever ConfigOpts it is given, but
    # registers them with the global one only.
    options["oslo_messaging_tracing"] = list(tracing.oslo_messaging_tracing)
    options["oslo_messaging_metrics"] = list(metrics.oslo_messaging_metrics)
    return options
