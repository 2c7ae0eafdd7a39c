"""What the parts of the store conformance kit share."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from glancelike.errors import BlobNotFound, StoreError
from glancelike.stores.base import BlobInfo, Cap, Store
from glancelike.stores.guard import Guard
from glancelike.testing.sources import WatchedSource

MIB = 1 << 20
AnyStore = Store | Guard
Blame = int | Cap


def clause(of: Blame, said: str) -> str:
    """Say which clause of the contract, or which capability, is broken."""
    return f"clause {of}: {said}" if isinstance(of, int) else f"capability {of.name}: {said}"


@contextmanager
def refusal(of: Blame, kind: type[BaseException], what: str) -> Iterator[None]:
    """Fail unless the body raises just this kind of error."""
    try:
        yield
    except kind:
        return
    except Exception as error:
        pytest.fail(clause(of, f"{what} must raise {kind.__name__}, it raised {error!r}"))
    pytest.fail(clause(of, f"{what} must raise {kind.__name__}, it raised nothing"))


def close(blocks: Iterator[bytes]) -> None:
    """Close a driver's iterator."""
    closing = getattr(blocks, "close", None)
    assert callable(closing), clause(5, f"the iterator {blocks!r} has no close()")
    closing()


class Task:
    """A function running in a thread of its own; ``result`` waits for it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._value: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:
            self.error = error

    def result(self, timeout: float) -> Any:
        """Return what the function returned, or raise what it raised."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"no answer in {timeout} seconds")
        if self.error is not None:
            raise self.error
        return self._value


class StoreKit:
    """Hooks and fixtures; the tests are in the classes that build on it.

    An author must define ``make_store``. ``self.tmp_path`` is an empty
    directory of each test's own.
    """

    spawnable = False  # blobs survive the process: kill -9, restart and memory are tested
    flat_size = 256 * MIB  # how much the test of clause 6 writes
    many_keys = 10_000  # how many blobs the test of long lists writes
    patience = 30.0  # seconds after which something hangs
    variants = ("bare", "guarded")  # the driver itself, and behind the guard that a service puts before it

    tmp_path: Path
    driver: Store
    below: Store | None
    needed: set[Cap]  # what the running test is about

    def make_store(self) -> Store:
        """Return a driver that isn't open yet."""
        pytest.fail(f"{type(self).__name__} must define make_store()")

    def reopen_store(self) -> Store:
        """Return another driver on the same data, not open yet."""
        return type(self.driver)(dict(self.driver.settings))

    def make_below(self) -> Store | None:
        """Return the store that the driver stacks on, not open yet; None for one that doesn't."""
        return None

    def make_peer(self) -> Store | None:
        """Return another store whose blobs ``copy`` can take, not open yet; None if there is none."""
        return None

    def backend(self) -> str:
        """Name what the blobs were kept in, with its version, for the page on what was proved."""
        return ""

    def name_key(self, name: str) -> str:
        """Return the key that a name stands for, itself unless the store's keys are URLs."""
        return name

    def seed(self, key: str, data: bytes) -> None:
        """Put a blob into the store; a store that can't WRITE overrides this."""
        self.driver.write(key, WatchedSource(data), size=len(data))

    @pytest.fixture
    def driver_fixture(self, tmp_path: Path) -> Iterator[Store]:
        self.tmp_path = tmp_path
        self.needed: set[Cap] = set()
        self._keys: list[str] = []
        self._uploads: list[tuple[str, str]] = []
        self.below = self.make_below()
        if self.below is not None:
            self.below.open()
        self.driver = driver = self.opened(self.make_store())
        yield driver
        driver = self.driver  # a test may have reopened it
        for key, upload in self._uploads:
            driver.abort(key, upload)
        if Cap.DELETE in driver.capabilities:
            for key in self._keys:
                with suppress(StoreError):
                    driver.delete(key)
        driver.close()
        if self.below is not None:
            self.below.close()

    def opened(self, driver: Store) -> Store:
        """Put a driver on the store it stacks on, if any, and open it."""
        if self.below is not None:
            driver.below = Guard(self.below, store_id="below")
        driver.open()
        return driver

    def reopened(self) -> Store:
        """Close the driver and open another one on the same data."""
        self.driver.close()
        self.driver = self.opened(self.reopen_store())
        return self.driver

    @pytest.fixture(name="bare")
    def bare_fixture(self, driver_fixture: Store) -> Store:
        """Give the driver itself."""
        return driver_fixture

    @pytest.fixture(name="guard")
    def guard_fixture(self, driver_fixture: Store) -> Guard:
        """Give the driver behind a guard."""
        return Guard(driver_fixture, store_id="kit")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test of a store on each variant."""
        if "store" in metafunc.fixturenames:
            metafunc.parametrize("store", self.variants, indirect=True)

    @pytest.fixture(name="store")
    def store_fixture(self, request: pytest.FixtureRequest, driver_fixture: Store) -> AnyStore:
        """Give the driver itself, or behind a guard."""
        return driver_fixture if request.param == "bare" else Guard(driver_fixture, store_id="kit")

    def needs(self, *caps: Cap) -> None:
        """Skip the test of what the driver doesn't declare."""
        self.needed |= set(caps)
        for cap in caps:
            if cap not in self.driver.capabilities:
                pytest.skip(f"{cap.name} isn't declared")

    def key(self, name: str = "blob") -> str:
        """Make up a key that nobody else uses; it is deleted afterwards."""
        return self.own(self.name_key(f"kit-{uuid.uuid4().hex}-{name}"))

    def own(self, key: str) -> str:
        """Have a key deleted after the test."""
        self._keys.append(key)
        return key

    def seeded(self, data: bytes, name: str = "blob") -> str:
        """Store a blob and return its key."""
        key = self.key(name)
        self.seed(key, data)
        return key

    def begun(self, store: AnyStore, key: str) -> str:
        """Begin an upload that is aborted after the test."""
        upload = store.begin(key)
        self._uploads.append((key, upload))
        return upload

    def put(self, store: AnyStore, source: WatchedSource, size: int | None) -> str:
        """Write under a new key, check what the driver did, return the key."""
        key = self.key()
        try:
            info = store.write(key, source, size=size)
        finally:
            assert not source.faults, clause(6, "; ".join(source.faults))
        assert isinstance(info, BlobInfo), clause(1, f"write() returned {info!r}")
        assert info.key == key, clause(1, f"write() to {key!r} returned {info!r}")
        assert info.size == source.at, clause(1, f"write() of {source.at} bytes returned {info!r}")
        return key

    def content(self, store: AnyStore, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read it all, or a span of it."""
        blocks = store.read(key, offset=offset, length=length)
        try:
            return b"".join(blocks)
        finally:
            close(blocks)

    def _raises(self, call: Callable[[], Any], error: BaseException) -> None:
        """Fail unless a call raises just the error that its source raised."""
        raised: BaseException | None = None
        try:
            call()
        except BaseException as caught:
            raised = caught
        assert raised is error, clause(2, f"the source raised {error!r}, from the store came {raised!r}")
        # It is a parameter, which outlives the test: so would all that was in the frames it came through.
        error.__traceback__ = error.__context__ = None

    def check_content(
        self,
        store: AnyStore,
        key: str,
        expected: bytes,
        of: Blame,
        said: str,
        offset: int = 0,
        length: int | None = None,
    ) -> None:
        """Fail unless the blob, or the span of it, is as expected."""
        try:
            got = self.content(store, key, offset, length)
        except Exception as error:
            pytest.fail(clause(of, f"{said}: reading raised {error!r}"))
        assert got == expected, clause(of, f"{said}: {len(got)} bytes came, {len(expected)} were expected")

    def check_absent(self, store: AnyStore, key: str, of: Blame, when: str) -> None:
        """Fail when anything of a key can be seen."""
        with refusal(of, BlobNotFound, f"stat() {when}"):
            store.stat(key)
        with refusal(of, BlobNotFound, f"read() {when}"):
            store.read(key)
        if Cap.LOCAL in self.driver.capabilities:
            with refusal(of, BlobNotFound, f"local_path() {when}"):
                store.local_path(key)
        if Cap.LIST in self.driver.capabilities:
            listed = [info.key for info in store.list(key)]
            assert key not in listed, clause(of, f"list() shows the key {when}")
            everything = [info.key for info in store.list()]
            assert not [k for k in everything if key in k], clause(of, f"list() shows a partial blob {when}")
