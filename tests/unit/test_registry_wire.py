"""Calls of a registry over the wire: the table, the values, the errors, releases apart."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from glancelike import errors
from glancelike.errors import GlancelikeError, RegistryUnavailable, SchemaNewer, SchemaOutdated
from glancelike.model import (
    Amounts,
    CachedImage,
    Filter,
    Image,
    Member,
    Namespace,
    NamespaceQuery,
    Op,
    Query,
    Task,
    TaskQuery,
    TaskType,
    Upload,
    UploadState,
)
from glancelike.registry import wire
from glancelike.registry.base import ADMIN, Registry
from glancelike.registry.calls import CALLS
from glancelike.registry.memory import MemoryRegistry
from glancelike.registry.sql import SqlRegistry
from glancelike.testing.registry_kit import TEXTS, full_image
from tests.registry_servers import App, remote, served

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
LATE = datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)


# The table


def test_the_table_is_the_contract() -> None:
    public = {
        name for name in dir(Registry) if not name.startswith("_") and callable(getattr(Registry, name))
    }
    # What has to do with the schema is done where the database is.
    local = {
        *("open", "close", "further_options", "settings_from_uri"),
        *("upgrade", "upgrade_by", "next_step", "adopt"),
    }
    assert set(CALLS) == public - local
    assert set(CALLS) == {*Registry.__abstractmethods__, "schema_version"}


def test_what_is_no_call_is_not_served() -> None:
    with served(MemoryRegistry()) as url:
        link = remote(url)._link
        for name in ("upgrade", "open", "close", "settings", "_images", "__class__", "purge/", "GET"):
            with pytest.raises(RegistryUnavailable, match="404"):
                link.send(f"/{name}", wire.MSGPACK, b"\x80", repeat=False)


UPLOAD = Upload("u", "i", "s", "s", "k", 1)
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "acquire_lease": ("l", "me", 60),
    "add_member": (Member("i", "p"),),
    "cached_nodes": ("i",),
    "create": (Image("j"),),
    "create_namespace": (Namespace("n"),),
    "create_task": (Task("t", TaskType.IMPORT),),
    "create_upload": (UPLOAD,),
    "delete": ("i",),
    "delete_cached": ("node", ["i"]),
    "delete_expired_tasks": (),
    "delete_member": ("i", "p"),
    "delete_namespace": ("n",),
    "delete_task": ("t",),
    "delete_upload": ("u",),
    "expired_uploads": (10,),
    "extend_reservations": (["r"], 60),
    "get": ("i", ADMIN),
    "get_member": ("i", "p"),
    "get_namespace": ("n", ADMIN),
    "get_task": ("t",),
    "get_upload": ("u",),
    "leased": (["l"],),
    "list": (Query(), ADMIN),
    "list_members": ("i",),
    "list_namespaces": (NamespaceQuery(), ADMIN),
    "list_tasks": (TaskQuery(),),
    "locations_of": (["i"],),
    "purge": (NOW,),
    "put_cached": (CachedImage("node", "i", 1),),
    "release_lease": ("l", "me"),
    "release_reservation": ("r",),
    "renew_lease": ("l", "me", 60),
    "reserve": ("r", "p", Amounts(images=1), {}, 60),
    "resource_types": (),
    "runnable_tasks": (10,),
    "schema_version": (),
    "update": (Image("i"),),
    "update_member": (Member("i", "p"),),
    "update_namespace": ("n", Namespace("n")),
    "update_task": (Task("t", TaskType.IMPORT),),
    "update_upload": (UPLOAD,),
    "uploads_in": (UploadState.OPEN, 10),
    "uploads_of": (["i"],),
    "usage": ("p",),
}


def test_what_reads_changes_nothing(tmp_path: Path) -> None:
    """While somebody else writes, SQLite lets all read and nobody write."""
    settings = {"connection": f"sqlite:///{tmp_path}/images.db", "sqlite_busy_timeout": 0.05}
    registry = SqlRegistry(settings)
    registry.upgrade()
    registry.open()
    assert set(ARGUMENTS) == set(CALLS), "the table must know every call"
    with closing(registry), closing(sqlite3.connect(tmp_path / "images.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for name, call in CALLS.items():
            needs = {"expect": 1} if "expect" in call.signature.parameters else {}
            error: Exception | None = None
            try:
                getattr(registry, name)(*ARGUMENTS[name], **needs)
            except GlancelikeError as caught:
                error = caught
            assert call.reads is not isinstance(error, RegistryUnavailable), f"{name}: {error!r}"


# Values


@pytest.mark.parametrize("text", [*TEXTS, "nul\0", "\ud800", "a\udfff", ""])
def test_any_text_arrives(text: str) -> None:
    sent = replace(full_image(text), name=text, tags=frozenset({text}), properties={text: text})
    assert wire.decode(*wire.encode(sent), Image) == sent


@pytest.mark.parametrize(
    "value", [0, -1, 2**63 - 1, 2**64, -(2**70), True, "x", NOW, LATE, ("a", "b"), (1, 2), (NOW, LATE), None]
)
def test_any_filter_arrives(value: object) -> None:
    sent = Query(filters=(Filter("size", Op.IN, value),), marker="x")
    arrived = wire.decode(*wire.encode(sent), Query)
    assert arrived == sent
    assert type(arrived.filters[0].value) is type(value)


def test_containers_arrive_as_they_were() -> None:
    arrived = wire.decode(*wire.encode(full_image()), Image)
    assert arrived == full_image()
    for field in ("status", "visibility", "tags", "locations", "created_at"):
        assert type(getattr(arrived, field)) is type(getattr(full_image(), field)), field


@pytest.mark.parametrize("value", [object(), {"\ud800": b"bytes"}, {"a": {"b": {2**70: object()}}}])
def test_what_no_wire_carries_is_never_kept(value: object) -> None:
    with served(MemoryRegistry()) as url, pytest.raises(errors.InvalidInput):
        remote(url).create_task(Task("t", TaskType.IMPORT, input={"a": value}))


def test_numbers_beyond_64_bits_come_back() -> None:
    with served(MemoryRegistry()) as url:
        registry = remote(url)
        registry.create_task(Task("t", TaskType.IMPORT, input={"a": 2**70}))
        assert registry.get_task("t").input == {"a": 2**70}


# Errors


def tree(kind: type[GlancelikeError]) -> Iterable[type[GlancelikeError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from tree(each)


KINDS = [kind for kind in tree(GlancelikeError) if kind.__module__ == errors.__name__]


class Raising(MemoryRegistry):
    """A registry all of whose reads of an image raise one error."""

    error: Exception

    def get(self, *_: object) -> Image:
        raise self.error


def test_each_error_has_a_code_of_its_own() -> None:
    assert {kind.code: kind for kind in KINDS} == dict(wire.KINDS)
    assert len(wire.KINDS) == len(KINDS)


@pytest.fixture(scope="module")
def raising() -> Iterable[tuple[Raising, Registry]]:
    backend = Raising()
    with served(backend) as url:
        yield backend, remote(url)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_arrives_as_itself(
    raising: tuple[Raising, Registry], kind: type[GlancelikeError]
) -> None:
    backend, registry = raising
    for message in ("", "image 'é🦊\x00' not found\nsecond line", "lone \ud800"):
        backend.error = kind(message)
        if isinstance(backend.error, errors.StoreError):
            backend.error.store, backend.error.key = "fast", "a/key"
        with pytest.raises(GlancelikeError) as caught:
            registry.get("i", ADMIN)
        assert type(caught.value) is kind
        # In ASCII: what a lone surrogate is in can't be reported by one process to another.
        assert ascii(str(caught.value)).replace("\\\\u", "\\u") == ascii(str(backend.error))
        assert vars(caught.value) == vars(backend.error)
        assert caught.value.retryable is kind.retryable


def test_an_error_that_nobody_here_knows_arrives_as_its_nearest_kin() -> None:
    failure = wire.Failure(("quota-of-the-next-release", "quota-exceeded", "limit-exceeded", "error"), "why")
    assert type(wire.error_of(failure)) is errors.QuotaExceeded
    assert str(wire.error_of(failure)) == "why"
    assert type(wire.error_of(wire.Failure(("x",), "why"))) is errors.RegistryError


def test_a_bug_of_the_server_is_told_without_its_insides(raising: tuple[Raising, Registry]) -> None:
    backend, registry = raising
    backend.error = ZeroDivisionError("inside information")
    with pytest.raises(errors.RegistryError, match="500.*request id") as caught:
        registry.get("i", ADMIN)
    assert "inside" not in str(caught.value)


# Releases apart


class Skewed:
    """An application and its callers, each of which takes the other for another release."""

    def __init__(self, app: App, hello: int = wire.PROTOCOL) -> None:
        self.app = app
        self.hello = hello

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
        changed = other_release(body)
        environ = {**environ, "wsgi.input": io.BytesIO(changed), "CONTENT_LENGTH": str(len(changed))}
        told: list[Any] = []
        said = b"".join(self.app(environ, lambda *args: told.extend(args)))
        said = other_release(said)
        if environ["PATH_INFO"] == wire.ROOT:
            said = msgspec.msgpack.encode({"protocol": self.hello, "news": True})
        status, headers = told[0], told[1]
        start(status, [(k, v) for k, v in headers if k.lower() != "content-length"])
        return [said]


def other_release(body: bytes) -> bytes:
    """Add a field that nobody knows to each object, and leave out what is at its default."""

    def change(value: Any) -> Any:
        if isinstance(value, list):
            return [change(each) for each in value]
        if not isinstance(value, dict) or "os" in value:
            return value
        optional = {"staged": None, "hidden": False, "protected": False, "settles": None, "pending": False}
        kept = {k: change(v) for k, v in value.items() if k not in optional or optional[k] != v}
        return {**kept, "added_in_the_next_release": {"a": [1]}}

    try:
        return msgspec.msgpack.encode(change(msgspec.msgpack.decode(body)))
    except msgspec.DecodeError:
        return body


def test_a_release_apart_all_works() -> None:
    with served(MemoryRegistry(), around=Skewed) as url:
        registry = remote(url)
        made = Image("i", owner="me", properties={"os": "x"}, created_at=NOW, updated_at=NOW)
        assert registry.create(made) == made
        assert registry.get("i", ADMIN) == made
        assert registry.list(Query(), ADMIN).images == (made,)
        updated = registry.update(replace(made, name="new"), expect=1)
        assert (updated.name, updated.version) == ("new", 2)
        with pytest.raises(errors.StaleImage):
            registry.update(made, expect=1)


@pytest.mark.parametrize(("theirs", "kind"), [(-1, SchemaOutdated), (3, SchemaNewer)])
def test_too_far_apart_is_refused_at_open(theirs: int, kind: type[GlancelikeError]) -> None:
    with (
        served(MemoryRegistry(), around=lambda app: Skewed(app, theirs)) as url,
        pytest.raises(kind, match=f"{url} speaks protocol {theirs}, this code 1: upgrade"),
    ):
        remote(url)


@pytest.mark.parametrize(("theirs", "works"), [(-1, False), (0, True), (1, True), (2, True), (3, False)])
def test_a_server_refuses_callers_that_are_too_far(theirs: int, works: bool) -> None:
    with served(MemoryRegistry()) as url:
        registry = remote(url)
        registry._link._headers[wire.PROTOCOL_HEADER] = str(theirs)
        if works:
            assert registry.usage("p") == Amounts()
            return
        with pytest.raises(RegistryUnavailable, match=f"426.*protocol 1, the caller {theirs}"):
            registry.usage("p")


def test_a_method_that_the_server_lacks_names_it_as_older() -> None:
    def older(app: App) -> App:
        def wrapped(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            if environ["PATH_INFO"] == f"{wire.ROOT}/usage":
                environ["PATH_INFO"] = f"{wire.ROOT}/usage_of_tomorrow"
            return app(environ, start)

        return wrapped

    with served(MemoryRegistry(), around=older) as url:
        registry = remote(url)
        with pytest.raises(RegistryUnavailable, match="older: it has no 'usage_of_tomorrow'"):
            registry.usage("p")
