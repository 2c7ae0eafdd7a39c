"""The guard: what it refuses, counts, translates and hides."""

from __future__ import annotations

import errno
import io
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg

from glancelike.errors import (
    BlobNotFound,
    ConfigError,
    GlancelikeError,
    InvalidInput,
    InvalidKey,
    InvalidRange,
    SizeMismatch,
    StoreDenied,
    StoreError,
    StoreFault,
    StoreFull,
    StoreUnavailable,
    Unsupported,
)
from glancelike.stores.base import BlobInfo, Cap, PartInfo, Source, Store
from glancelike.stores.guard import Guard
from glancelike.stores.memory import MemoryStore

PASSWORD = "s3cr3t-w0rd"


class Everything(MemoryStore):
    """The memory store with every capability, and a secret."""

    capabilities = MemoryStore.capabilities | Cap.PRESIGN | Cap.LOCAL
    options = (cfg.StrOpt("everything_password", default=PASSWORD, secret=True),)

    def presign(self, key: str, method: str, expires: int) -> str:
        return f"https://peer/{key}?{method}&{expires}"

    def local_path(self, key: str) -> Path:
        return Path("/nowhere") / key


class Nothing(Store):
    """A driver with no capability at all, which must not be asked for any."""

    def stat(self, key: str) -> BlobInfo:
        return BlobInfo(key, 3)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return iter([b"abc"])


class Scripted(Everything):
    """Does what a test says instead of its own ``write``, ``stat`` or ``read``."""

    def __init__(self, **script: Callable[..., Any]) -> None:
        super().__init__({})
        self.script = script

    def __getattribute__(self, name: str) -> Any:
        script = object.__getattribute__(self, "__dict__").get("script", {})
        return script.get(name) or object.__getattribute__(self, name)


def guarded(driver: Store) -> Guard:
    return Guard(driver, store_id="fast")


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


CALLS: dict[str, Callable[[Guard, str], Any]] = {
    "stat": lambda guard, key: guard.stat(key),
    "read": lambda guard, key: guard.read(key),
    "write": lambda guard, key: guard.write(key, io.BytesIO(b"x"), size=1),
    "delete": lambda guard, key: guard.delete(key),
    "copy": lambda guard, key: guard.copy(key, "target"),
    "copy to": lambda guard, key: guard.copy("source", key),
    "presign": lambda guard, key: guard.presign(key, "GET", 60),
    "local_path": lambda guard, key: guard.local_path(key),
    "begin": lambda guard, key: guard.begin(key),
    "put_part": lambda guard, key: guard.put_part(key, "id", 1, io.BytesIO(b"x"), size=1),
    "parts": lambda guard, key: guard.parts(key, "id"),
    "complete": lambda guard, key: guard.complete(key, "id"),
    "abort": lambda guard, key: guard.abort(key, "id"),
}


# Keys and capabilities


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "key", ["", "..", "../a", "/a", "a/", "a//b", "a\n", "a b", "ä", "-a", "a/.b", "a\0"]
)
def test_bad_key(call: Callable[[Guard, str], Any], key: str) -> None:
    with pytest.raises(InvalidKey) as caught:
        call(guarded(Everything({})), key)
    assert (caught.value.store, caught.value.key) == ("fast", key)


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("a" * 255, True),
        ("a" * 256, False),
        ("a" * 255 + "/" + "b" * 255, True),
        ("a" * 255 + "/" + "b" * 254 + "/c", True),
        ("a" * 255 + "/" + "b" * 255 + "/c", False),
        ("0.-_", True),
        ("a/0", True),
        ("a..b", True),
    ],
)
def test_length_of_keys(key: str, good: bool) -> None:
    with pytest.raises(BlobNotFound if good else InvalidKey):
        guarded(MemoryStore({})).stat(key)


@settings(deadline=None)
@given(st.text(max_size=40) | st.text(alphabet="ab./-_0\n", max_size=9))
def test_no_key_leaves_a_directory(key: str) -> None:
    try:
        guarded(MemoryStore({})).stat(key)
    except InvalidKey:
        return
    except BlobNotFound:
        assert ".." not in key.split("/")
        assert not key.startswith("/")
        assert key.isascii()
        assert key.isprintable()


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a-._"])
def test_good_prefix(prefix: str) -> None:
    assert list(guarded(MemoryStore({})).list(prefix)) == []


@pytest.mark.parametrize("prefix", ["/", "../", "a//", ".tmp", "a/..", "a" * 513])
def test_bad_prefix(prefix: str) -> None:
    with pytest.raises(InvalidKey):
        guarded(MemoryStore({})).list(prefix)


UNSUPPORTED: dict[str, Callable[[Guard], Any]] = {
    **{
        name: lambda guard, call=call: call(guard, "key")  # type: ignore[misc]
        for name, call in CALLS.items()
        if name not in ("stat", "read")
    },
    "offset": lambda guard: guard.read("key", offset=1),
    "length": lambda guard: guard.read("key", length=3),
    "no length": lambda guard: guard.read("key", length=0),
    "list": lambda guard: guard.list(),
    "usage": lambda guard: guard.usage(),
}


@pytest.mark.parametrize("call", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_undeclared_capability(call: Callable[[Guard], Any]) -> None:
    with pytest.raises(Unsupported) as caught:
        call(guarded(Nothing({})))
    assert caught.value.store == "fast"


def test_unknown_size_is_refused_before_a_byte_moves() -> None:
    class Sized(MemoryStore):
        capabilities = Cap.WRITE

    source = io.BytesIO(b"untouched")
    with pytest.raises(Unsupported):
        guarded(Sized({})).write("key", source, size=None)
    assert source.tell() == 0


def test_undeclared_ways_of_reading_are_enough() -> None:
    assert b"".join(guarded(Nothing({})).read("key")) == b"abc"


@pytest.mark.parametrize(
    ("method", "expires", "error"),
    [("POST", 60, Unsupported), ("get", 60, Unsupported), ("GET", 0, InvalidInput)],
)
def test_presign_arguments(method: str, expires: int, error: type[GlancelikeError]) -> None:
    with pytest.raises(error):
        guarded(Everything({})).presign("key", method, expires)


@pytest.mark.parametrize("number", [-1, 0, 10_001])
def test_part_numbers(number: int) -> None:
    with pytest.raises(InvalidRange):
        guarded(MemoryStore({})).put_part("key", "id", number, io.BytesIO(b""), size=0)


# Sizes


@settings(deadline=None)
@given(
    data=st.binary(max_size=300),
    declared=st.none() | st.integers(-1, 300),
    step=st.integers(1, 300),
    chunk=st.integers(1, 300),
)
def test_sizes(data: bytes, declared: int | None, step: int, chunk: int) -> None:
    """Whatever the blocks, a source is stored whole or refused as a whole."""

    class Stepwise:
        at = 0

        def read(self, size: int, /) -> bytes:
            block = data[self.at : self.at + min(size, step)]
            self.at += len(block)
            return block

    def write(key: str, source: Source, *, size: int | None) -> BlobInfo:
        return MemoryStore.write(store, key, Chunked(source), size=size)

    class Chunked:
        def __init__(self, source: Source) -> None:
            self.source = source

        def read(self, size: int, /) -> bytes:
            return self.source.read(min(size, chunk))

    store = Scripted(write=write)
    guard = guarded(store)
    if declared in (None, len(data)):
        assert guard.write("key", Stepwise(), size=declared).size == len(data)
        assert b"".join(guard.read("key")) == data
    else:
        with pytest.raises(SizeMismatch) as caught:
            guard.write("key", Stepwise(), size=declared)
        assert (caught.value.store, caught.value.key) == ("fast", "key")
        with pytest.raises(BlobNotFound):
            guard.stat("key")


def test_driver_that_stops_at_the_declared_size_learns_of_more() -> None:
    def write(key: str, source: Source, *, size: int) -> BlobInfo:
        got = b""
        while len(got) < size:
            got += source.read(size - len(got))
        return store._publish(key, got)

    store = Scripted(write=write)
    with pytest.raises(SizeMismatch, match="more than the declared 4 bytes"):
        guarded(store).write("key", io.BytesIO(b"12345"), size=4)
    guarded(store).write("key", io.BytesIO(b"1234"), size=4)


FAULTY_WRITES: dict[str, Callable[[Scripted, str, Source], Any]] = {
    "stops early": lambda store, key, source: store._publish(key, source.read(3)),
    "reads nothing": lambda store, key, source: store._publish(key, b""),
    "reads all at once": lambda store, key, source: store._publish(key, source.read(-1)),
    "miscounts": lambda store, key, source: BlobInfo(key, store._publish(key, _all(source)).size + 1),
    "other key": lambda store, key, source: (store._publish(key, _all(source)), BlobInfo("other", 6))[1],
    "returns nothing": lambda store, key, source: (store._publish(key, _all(source)), None)[1],
}


def _all(source: Source) -> bytes:
    return b"".join(iter(lambda: source.read(2), b""))


@pytest.mark.parametrize("size", [6, None])
@pytest.mark.parametrize("fault", FAULTY_WRITES.values(), ids=FAULTY_WRITES)
def test_faulty_write_keeps_nothing(fault: Callable[[Scripted, str, Source], Any], size: int | None) -> None:
    store = Scripted(write=lambda key, source, *, size: fault(store, key, source))
    with pytest.raises(StoreFault) as caught:
        guarded(store).write("key", io.BytesIO(b"sixsix"), size=size)
    assert (caught.value.store, caught.value.key) == ("fast", "key")
    with pytest.raises(BlobNotFound):
        guarded(store).stat("key")


def test_faulty_part() -> None:
    store = Scripted(
        put_part=lambda key, upload, number, source, *, size: PartInfo(number, len(_all(source)) - 1)
    )
    with pytest.raises(StoreFault):
        guarded(store).put_part("key", "id", 1, io.BytesIO(b"sixsix"), size=6)


# The source's own errors


class Interrupted(BaseException):
    pass


SOURCE_ERRORS = [
    ValueError("bad"),
    OSError(errno.ENOSPC, "full"),
    Interrupted(),
    BlobNotFound("x", store="other"),
]


def _swallowing(store: Scripted, key: str, source: Source) -> BlobInfo:
    try:
        source.read(1)
    except BaseException:
        return store._publish(key, b"")
    raise AssertionError


def _wrapping(store: Scripted, key: str, source: Source) -> BlobInfo:
    try:
        source.read(1)
    except BaseException as error:
        raise StoreUnavailable("away") from error
    raise AssertionError


@pytest.mark.parametrize("error", SOURCE_ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("driver", [_swallowing, _wrapping, lambda store, key, source: _all(source)])
@pytest.mark.parametrize("size", [0, 5, None])
def test_source_error_is_untouched(
    error: BaseException, driver: Callable[..., Any], size: int | None
) -> None:
    class Failing:
        read = staticmethod(raising(error))

    before = (error.args, dict(vars(error)), error.__cause__)
    store = Scripted(write=lambda key, source, *, size: driver(store, key, source))
    with pytest.raises(type(error)) as caught:
        guarded(store).write("key", Failing(), size=size)
    assert caught.value is error
    assert (error.args, vars(error), error.__cause__) == before
    assert list(store.list()) == []


@pytest.mark.parametrize("block", [None, "text", b"too long for the two bytes asked for"])
def test_source_that_breaks_its_own_contract(block: Any) -> None:
    """Taking None, a non-blocking source's "not yet", for the end would cut the blob."""

    class Odd:
        def read(self, size: int, /) -> Any:
            return block

    with pytest.raises(TypeError, match="Odd.read"):
        guarded(MemoryStore({})).write("key", Odd(), size=2)


# The driver's errors


def os_error(number: int) -> OSError:
    return OSError(number, "said the system")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (os_error(errno.ENOSPC), StoreFull),
        (os_error(errno.EDQUOT), StoreFull),
        (os_error(errno.EFBIG), StoreFull),
        (os_error(errno.EACCES), StoreDenied),
        (os_error(errno.EPERM), StoreDenied),
        (os_error(errno.EROFS), StoreDenied),
        (os_error(errno.ECONNREFUSED), StoreUnavailable),
        (os_error(errno.ETIMEDOUT), StoreUnavailable),
        (os_error(errno.EHOSTUNREACH), StoreUnavailable),
        (TimeoutError("slow"), StoreUnavailable),
        (os_error(errno.EIO), StoreFault),
        (os_error(errno.ENOENT), StoreFault),
        (KeyError("key"), StoreFault),
        (NotImplementedError(), StoreFault),
        (InvalidInput("not a driver's business"), StoreFault),
        (StopIteration(), StoreFault),
        (BlobNotFound("gone"), BlobNotFound),
    ],
)
@pytest.mark.parametrize("method", ["stat", "read", "write"])
def test_errors_are_translated(error: Exception, kind: type[StoreError], method: str) -> None:
    guard = guarded(Scripted(**{method: raising(error)}))
    with pytest.raises(kind) as caught:
        CALLS[method](guard, "key")
    assert type(caught.value) is kind
    assert (caught.value.store, caught.value.key) == ("fast", "key")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_call_is_translated(call: Callable[[Guard, str], Any]) -> None:
    broken = {name: raising(RuntimeError("broken")) for name in CALLS}
    with pytest.raises(StoreFault, match="RuntimeError: broken"):
        call(guarded(Scripted(**broken)), "key")


@pytest.mark.parametrize("method", ["open", "close", "usage"])
def test_calls_without_a_key(method: str) -> None:
    with pytest.raises(StoreFault, match="broken") as caught:
        getattr(guarded(Scripted(**{method: raising(RuntimeError("broken"))})), method)()
    assert (caught.value.store, caught.value.key) == ("fast", None)


def test_config_error_passes() -> None:
    error = ConfigError("option")
    with pytest.raises(ConfigError) as caught:
        guarded(Scripted(open=raising(error))).open()
    assert caught.value is error


def test_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        guarded(Scripted(stat=raising(KeyboardInterrupt()))).stat("key")


def test_listing_is_checked() -> None:
    infos = [BlobInfo("a", 1), BlobInfo("no key!", 1), BlobInfo(".tmp", 1)]
    listed = guarded(Scripted(list=lambda prefix: iter(infos))).list()
    assert [info.key for info in listed] == ["a"]
    with pytest.raises(StoreFault, match="doesn't start with"):
        list(guarded(Scripted(list=lambda prefix: iter(infos))).list("b"))

    def broken(prefix: str) -> Iterator[BlobInfo]:
        yield infos[0]
        raise ConnectionError("away")

    found = guarded(Scripted(list=broken)).list()
    assert next(found).key == "a"
    with pytest.raises(StoreUnavailable):
        next(found)


# Secrets


@pytest.mark.parametrize(
    ("said", "hidden"),
    [
        ("http://me:pass@peer/x failed", "http://***@peer/x failed"),
        ("http://me:p@ss@peer/x failed", "http://***@peer/x failed"),
        ("http://peer/x@y failed", "http://peer/x@y failed"),
        (f"token {PASSWORD} is wrong", "token *** is wrong"),
    ],
)
@pytest.mark.parametrize("kind", [RuntimeError, StoreUnavailable])
def test_secrets_are_hidden(said: str, hidden: str, kind: type[Exception]) -> None:
    with pytest.raises(StoreError) as caught:
        guarded(Scripted(stat=raising(kind(said)))).stat("key")
    shown = "".join(traceback.format_exception(caught.value))
    assert hidden in str(caught.value)
    assert said == hidden or said not in shown
    assert PASSWORD not in shown


def test_secret_in_the_cause_is_hidden() -> None:
    def stat(key: str) -> BlobInfo:
        try:
            raise ConnectionError(f"http://me:{PASSWORD}@peer")
        except ConnectionError as error:
            raise StoreUnavailable("away") from error

    with pytest.raises(StoreUnavailable) as caught:
        guarded(Scripted(stat=stat)).stat("key")
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_harmless_cause_is_kept() -> None:
    cause = os_error(errno.EIO)
    with pytest.raises(StoreFault) as caught:
        guarded(Scripted(stat=raising(cause))).stat("key")
    assert caught.value.__cause__ is cause


def test_repr_is_harmless() -> None:
    assert repr(guarded(Everything({}))) == "<Guard of store 'fast': Everything>"


# Reading


class Blocks:
    def __init__(self, *blocks: bytes | BaseException) -> None:
        self.blocks = list(blocks)
        self.closed = 0

    def __iter__(self) -> Blocks:
        return self

    def __next__(self) -> bytes:
        if not self.blocks:
            raise StopIteration
        block = self.blocks.pop(0)
        if isinstance(block, BaseException):
            raise block
        return block

    def close(self) -> None:
        self.closed += 1


def reading(blocks: Blocks, size: int) -> Guard:
    return guarded(Scripted(read=lambda key, **_: blocks, stat=lambda key: BlobInfo(key, size)))


@pytest.mark.parametrize(
    ("offset", "length", "got", "size", "good"),
    [
        (0, None, 10, 10, True),
        (0, None, 9, 10, False),
        (0, None, 11, 10, False),
        (0, None, 0, 0, True),
        (4, None, 6, 10, True),
        (4, None, 5, 10, False),
        (4, 3, 3, 10, True),
        (4, 3, 2, 10, False),
        (4, 3, 4, 10, False),
        (4, 30, 6, 10, True),
        (4, 30, 5, 10, False),
        (0, 5, 0, 0, True),
    ],
)
def test_reads_are_counted(offset: int, length: int | None, got: int, size: int, good: bool) -> None:
    blocks = Blocks(*[b"x"] * got)
    reader = reading(blocks, size).read("key", offset=offset, length=length)
    if good:
        assert b"".join(reader) == b"x" * got
    else:
        with pytest.raises(StoreFault):
            list(reader)
    assert blocks.closed == 1
    assert list(reader) == []


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (0, -1), (-5, 5)])
def test_negative_ranges(offset: int, length: int | None) -> None:
    with pytest.raises(InvalidRange, match="negative"):
        reading(Blocks(), 10).read("key", offset=offset, length=length)


def test_empty_range_needs_no_driver() -> None:
    guard = guarded(Scripted(read=raising(AssertionError("asked")), stat=lambda key: BlobInfo(key, 10)))
    assert list(guard.read("key", offset=9, length=0)) == []
    with pytest.raises(InvalidRange):
        guard.read("key", offset=10, length=0)
    with pytest.raises(BlobNotFound):
        guarded(MemoryStore({})).read("key", length=0)


def test_empty_blocks_are_left_out() -> None:
    assert list(reading(Blocks(b"", b"a", b"", b"b", b""), 2).read("key")) == [b"a", b"b"]


def test_error_midway_closes() -> None:
    blocks = Blocks(b"a", ConnectionError("away"))
    reader = reading(blocks, 2).read("key")
    assert next(reader) == b"a"
    with pytest.raises(StoreUnavailable) as caught:
        next(reader)
    assert (caught.value.store, caught.value.key) == ("fast", "key")
    assert blocks.closed == 1


def test_interrupt_midway_closes() -> None:
    blocks = Blocks(Interrupted())
    with pytest.raises(Interrupted):
        next(reading(blocks, 2).read("key"))
    assert blocks.closed == 1


def test_with_statement_closes_once() -> None:
    blocks = Blocks(b"a", b"b")
    with reading(blocks, 2).read("key") as reader:
        next(reader)
    reader.close()
    assert blocks.closed == 1


def test_blob_deleted_meanwhile_can_still_be_read() -> None:
    store = MemoryStore({})
    guard = guarded(store)
    guard.write("key", io.BytesIO(b"abc"), size=3)
    reader = guard.read("key")
    guard.delete("key")
    assert b"".join(reader) == b"abc"


@pytest.mark.parametrize("info", [BlobInfo("other", 1), BlobInfo("key", -1), None, ("key", 1)])
def test_descriptions_are_checked(info: Any) -> None:
    for method in ("stat", "complete"):
        with pytest.raises(StoreFault, match="describes"):
            CALLS[method](guarded(Scripted(**{method: lambda *_: info})), "key")
