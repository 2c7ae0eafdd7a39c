"""Notifications: what a listener gets, and what happens when there is none."""

from __future__ import annotations

import http.client
import logging
import re
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from glancelike import config, notifications
from glancelike.errors import ConfigError, FormatMismatch
from glancelike.model import Caller, Change, ChangeOp, MemberStatus
from glancelike.notifications import QUEUED, MessagingNotifier, Silence, notifier_of
from glancelike.policy import Policy
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService, ImportRequest, Settings
from glancelike.stores.memory import MemoryStore
from glancelike.vfs import MountTable
from tests.server_fixtures import Server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oslo_messaging as messaging

URL = "kombu+memory://localhost/notifications?heartbeat_timeout_threshold=0"
ALICE = Caller.administrator("p-alice")
RAW = {"disk_format": "raw", "container_format": "bare"}


class Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        block, self._data = self._data[:size], self._data[size:]
        return block


class Listener:
    """A real listener, as Ceilometer's is, in threads of its own."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str, Any]] = []
        self._came = threading.Condition()
        options = notifications._library_options()
        transport = messaging.get_notification_transport(notifications.conf_of(options, {}), url=URL)
        target = messaging.Target(topic="notifications", exchange="glance")
        self._server = messaging.get_notification_listener(transport, [target], [self], executor="threading")
        # One at a time: their order is looked at.
        self._server.start(override_pool_size=1)
        self._transport = transport

    def info(self, context: Any, publisher: str, event: str, payload: Any, metadata: Any) -> None:
        self._add("info", publisher, event, payload)

    def error(self, context: Any, publisher: str, event: str, payload: Any, metadata: Any) -> None:
        self._add("error", publisher, event, payload)

    def _add(self, *event: Any) -> None:
        with self._came:
            self.events.append(event)
            self._came.notify_all()

    def wait(self, last: str) -> list[tuple[str, str, str, Any]]:
        """Return all events once ``last`` has come."""
        with self._came:
            assert self._came.wait_for(lambda: any(each[2] == last for each in self.events), 30), self.events
            return list(self.events)

    def stop(self) -> None:
        self._server.stop()
        self._server.wait()
        self._transport.cleanup()


def load(tmp_path: Path, text: str) -> config.Config:
    file = tmp_path / "glancelike.conf"
    file.write_text(f"[DEFAULT]\nstate_path = {tmp_path}\nenabled_backends = ram:memory\n{text}")
    return config.load(["--config-file", str(file)])


MEMORY = f"[oslo_messaging_notifications]\ndriver = messagingv2\ntransport_url = {URL}\n"


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.stop()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ImageService]:
    made = ImageService(
        MemoryRegistry({}),
        MountTable({"memory": MemoryStore({})}, staging=MemoryStore({})),
        Policy(),
        Settings(),
        notifier=notifier_of(load(tmp_path, MEMORY).notifications),
    )
    with made:
        yield made


def test_notifications_of_an_image_life(listener: Listener, service: ImageService) -> None:
    listener.events.clear()
    image = service.create_image(ALICE, {**RAW, "name": "one", "visibility": "shared", "os": "any"})
    service.update_image(ALICE, image.id, [Change(ChangeOp.REPLACE, ("name",), "two")])
    service.upload(ALICE, image.id, Bytes(b"0123456789"))
    service.add_tag(ALICE, image.id, "t")
    service.remove_tag(ALICE, image.id, "t")
    service.add_member(ALICE, image.id, "p-bob")
    service.set_member_status(ALICE, image.id, "p-bob", MemberStatus.ACCEPTED)
    service.remove_member(ALICE, image.id, "p-bob")
    download = service.read(ALICE, image.id)
    download.report(sum(len(block) for block in download.chunks()))
    service.delete_image(ALICE, image.id)

    events = listener.wait("image.delete")
    assert [event for _, _, event, _ in events] == [
        "image.create",
        "image.update",
        "image.prepare",
        "image.upload",
        "image.activate",
        "image.update",
        "image.update",
        "image.member.create",
        "image.member.update",
        "image.member.delete",
        "image.send",
        "image.delete",
    ]
    assert {(level, publisher) for level, publisher, _, _ in events} == {
        ("info", f"image.{socket.gethostname()}")
    }
    told = [payload for *_, payload in events]
    assert (told[0]["status"], told[0]["name"], told[0]["properties"]) == ("queued", "one", {"os": "any"})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told[0]["created_at"])
    assert told[1]["name"] == "two"
    assert (told[2]["status"], told[2]["backend"]) == ("saving", "memory")
    assert (told[4]["status"], told[4]["size"], told[4]["os_hash_algo"]) == ("active", 10, "sha256")
    assert told[8]["status"] == "accepted"
    assert told[9]["deleted"]
    assert told[10] == {
        "bytes_sent": 10,
        "image_id": image.id,
        "owner_id": "p-alice",
        "receiver_tenant_id": "p-alice",
        "receiver_user_id": "admin",
    }
    assert told[11]["deleted"]
    assert told[11]["deleted_at"]
    assert (told[11]["status"], told[11]["id"]) == ("deleted", image.id)
    assert not any("location" in name for payload in told for name in payload)


def test_notifications_of_failures(listener: Listener, service: ImageService) -> None:
    listener.events.clear()
    image = service.create_image(ALICE, {**RAW, "disk_format": "qcow2"})
    with pytest.raises(FormatMismatch):
        service.upload(ALICE, image.id, Bytes(b"\0" * 4096))
    listener.wait("image.upload")
    events = listener.wait("image.prepare")
    # Each priority is a queue of its own.
    assert sorted((event, level) for level, _, event, _ in events) == [
        ("image.create", "info"),
        ("image.prepare", "info"),
        ("image.upload", "error"),
    ]
    assert image.id in next(payload for level, _, _, payload in events if level == "error")
    listener.events.clear()
    service.add_tag(ALICE, image.id, "t")
    assert listener.wait("image.update")


def test_notifications_of_an_import(listener: Listener, service: ImageService) -> None:
    listener.events.clear()
    image = service.create_image(ALICE, RAW)
    service.stage(ALICE, image.id, Bytes(b"0123456789"))
    service.import_image(ALICE, image.id, ImportRequest("glance-direct"))
    service.run_tasks()
    events = listener.wait("task.success")
    assert [event for _, _, event, _ in events if event != "image.update"] == [
        "image.create",
        "task.create",
        "task.processing",
        "image.prepare",
        "image.upload",
        "image.activate",
        "task.success",
    ]
    uploaded = next(payload for _, _, event, payload in events if event == "image.upload")
    assert (uploaded["os_glance_importing_to_stores"], uploaded["os_glance_failed_import"]) == ([], [])


def test_notifications_that_are_disabled(tmp_path: Path, listener: Listener) -> None:
    listener.events.clear()
    text = f"disabled_notifications = image.member, image.send\ndefault_publisher_id = me\n{MEMORY}"
    notifier = notifier_of(load(tmp_path, text).notifications)
    notifier.open()
    for event in ("image.member.create", "image.send", "image.sendmail", "image.delete"):
        notifier.emit(event, {})
    notifier.close()
    assert [each[1:3] for each in listener.wait("image.delete")] == [
        ("me", "image.sendmail"),
        ("me", "image.delete"),
    ]


def test_notifications_while_the_broker_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"rabbit://guest:secret@127.0.0.1:{nobody.getsockname()[1]}//"
        text = f"[oslo_messaging_notifications]\ndriver = messagingv2\ntransport_url = {url}\n"
        notifier = notifier_of(load(tmp_path, text).notifications)
        notifier.open()
        with caplog.at_level(logging.WARNING, notifications.LOG.name):
            # The thread may have taken one out, to try it for ever.
            for _ in range(QUEUED + 3):
                notifier.emit("image.create", {"id": "x"})
            notifier.close()
    said = [record.getMessage() for record in caplog.records if record.name == notifications.LOG.name]
    assert len(said) == 2
    assert "dropped so far" in said[0]
    assert "are lost" in said[1]
    assert "secret" not in "".join(said)


def test_notifications_wait_for_a_slow_listener(tmp_path: Path, listener: Listener) -> None:
    listener.events.clear()
    notifier = notifier_of(load(tmp_path, MEMORY).notifications)
    notifier.open()
    for number in range(200):
        notifier.emit("image.update", {"number": number})
    notifier.emit("image.delete", {})
    notifier.close()
    events = listener.wait("image.delete")
    assert [payload["number"] for *_, payload in events[:-1]] == list(range(200))


def test_notifications_none_by_default(tmp_path: Path) -> None:
    assert isinstance(notifier_of(load(tmp_path, "").notifications), Silence)
    noop = "[oslo_messaging_notifications]\ndriver = noop\n"
    assert isinstance(notifier_of(load(tmp_path, noop).notifications), Silence)


def test_notifications_take_the_options_of_oslo_messaging(tmp_path: Path) -> None:
    text = (
        "transport_url = rabbit://there\ncontrol_exchange = mine\n"
        "[oslo_messaging_notifications]\ndriver = messagingv2\ndriver = log\n"
        "[oslo_messaging_rabbit]\nssl = true\n"
    )
    loaded = load(tmp_path, text)
    assert loaded.notifications["oslo_messaging_notifications"]["driver"] == ["messagingv2", "log"]
    assert loaded.notifications["oslo_messaging_rabbit"]["ssl"] is True
    assert loaded.notifications["DEFAULT"]["control_exchange"] == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("driver = messagingv3\n", "there is no 'messagingv3'"),
        ("driver = log\n[oslo_messaging_rabbit]\nnonsense = 1\n", "unknown option nonsense"),
        ("[oslo_messaging_rabbit]\nssl = true\n", r"nothing reads the section \[oslo_messaging_rabbit\]"),
        ("driver = messagingv2\ntransport_url = nosuch://guest:secret@host\n", "nosuch"),
    ],
)
def test_notifications_configuration_that_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        notifier_of(load(tmp_path, f"[oslo_messaging_notifications]\n{text}").notifications).open()
    assert "secret" not in str(caught.value)


# In a real server: what has really been sent


@pytest.fixture
def server(run_server: Callable[..., Server]) -> Server:
    return run_server(extra="[oslo_messaging_notifications]\ndriver = log\n")


def sends(server: Server, count: int) -> list[tuple[str, int]]:
    """Return level and number of bytes of each image.send in the log, once there are ``count``."""
    deadline = time.monotonic() + 90
    while True:
        log = server.log.read_text()
        found = re.findall(
            r"(INFO|ERROR) oslo.messaging.notification.image.send .*\"bytes_sent\": (\d+)", log
        )
        if len(found) >= count or time.monotonic() > deadline:
            return [(level, int(number)) for level, number in found]
        time.sleep(0.05)


@pytest.mark.parametrize("store", ["disk", "ram"])
def test_notifications_say_what_was_sent(server: Server, store: str) -> None:
    import requests

    size = 64 << 20
    image = requests.post(f"{server.url}/v2/images", json=RAW, timeout=30).json()
    file = f"{server.url}{image['file']}"
    octets = {"Content-Type": "application/octet-stream", "X-Image-Meta-Store": store}
    assert requests.put(file, data=b"\0" * size, headers=octets, timeout=60).status_code == 204
    assert len(requests.get(file, timeout=60).content) == size
    assert sends(server, 1) == [("INFO", size)]
    part = requests.get(file, headers={"Range": "bytes=100-1099"}, timeout=60)
    assert len(part.content) == 1000
    assert sends(server, 2)[1] == ("INFO", 1000)
    requests.head(file, timeout=60)

    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    client.request("GET", image["file"])
    client.getresponse().read(1000)
    client.close()
    level, sent = sends(server, 3)[2]
    assert level == "ERROR"
    assert 0 <= sent < size
    assert "notification.image.create" in server.log.read_text()


def test_notifications_open_twice_and_close_twice(tmp_path: Path) -> None:
    notifier = notifier_of(load(tmp_path, MEMORY).notifications)
    assert isinstance(notifier, MessagingNotifier)
    notifier.open()
    thread = notifier._thread
    notifier.open()
    assert notifier._thread is thread
    notifier.close()
    notifier.close()


def test_notifications_leave_the_global_configuration_alone() -> None:
    assert "oslo_messaging_notifications" not in cfg.CONF
