"""What the parts of the registry conformance kit share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from glancelike.model import Image, Location, Member, MemberStatus, Query, Status, Viewer, Visibility
from glancelike.registry.base import ADMIN, Registry
from glancelike.testing.registry_child import Child

T = TypeVar("T")

MINE = "project-of-mine"
OTHER = "project-of-others"
START = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
EVERYTHING = Query(visibility="all", hidden=None, limit=1000)

# Texts that careless databases change or confuse.
TEXTS = (
    "plain",
    " blanks around ",
    "emoji 🦊👩‍🔬🏳️‍🌈",
    "עברית العربية",
    "combining e\u0301 Z\u0351\u036b\u0343",
    "日本語 한국어",
    "quote ' \" ` \\ % _ ; --",
    "line\nbreak\ttab\x1f\x7f",
    "\u202eoverride\u202c\ufeff",
    "\U0010fffd",
    "null",
    "0",
)
# Pairs that are different texts, whatever a collation thinks.
LOOKALIKES = (
    ("name", "Name"),
    ("resume", "résumé"),
    ("é", "e\u0301"),
    ("end", "end "),
    ("straße", "strasse"),
    ("ı", "i"),
    ("Å", "\u212b"),
    ("1", "01"),
    ("🦊", "🐺"),
    ("a\u200bb", "ab"),
)


class RegistryKit:
    """Hooks and fixtures; the tests are in the classes that build on it.

    An author must define ``make_registry``. ``self.tmp_path`` is an empty
    directory of each test's own.
    """

    processes = False  # other processes can open the same registry by its class and settings
    patience = 15.0  # seconds within which a registry that is away must have said so

    tmp_path: Path

    def make_registry(self) -> Registry:
        """Return an empty registry that is neither upgraded nor open yet."""
        pytest.fail(f"{type(self).__name__} must define make_registry()")

    def outage(self, registry: Registry) -> AbstractContextManager[object] | None:
        """Return a context in which the registry can't be written to, if there can be one."""
        return None

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path

    @pytest.fixture
    def registry(self, _directory: None) -> Iterator[Registry]:
        registry = self.make_registry()
        registry.upgrade()
        registry.open()
        yield registry
        registry.close()

    @pytest.fixture(scope="class")
    @classmethod
    def children(cls) -> Iterator[Sequence[Child]]:
        """Start a few processes that do to a registry what they are told."""
        if not cls.processes:
            pytest.skip("no other process can open this registry")
        children = [Child() for _ in range(4)]
        yield children
        for child in children:
            child.stop()


def image(id_: str, **values: Any) -> Image:
    """Make an image of this project's."""
    return Image(id_, **{"owner": MINE, **values})


def full_image(id_: str = "full") -> Image:
    """Make an image in which every field differs from its default."""
    return Image(
        id_,
        status=Status.ACTIVE,
        name="Everything",
        owner=OTHER,
        visibility=Visibility.COMMUNITY,
        protected=True,
        hidden=True,
        disk_format="qcow2",
        container_format="bare",
        min_disk=1,
        min_ram=2,
        size=3,
        virtual_size=4,
        checksum="0" * 32,
        hash_algo="sha512",
        hash_value="1" * 128,
        tags=frozenset({"a", "b"}),
        properties={"os_distro": "debian", "empty": ""},
        locations=(Location("fast", "key-2", {"zone": "b"}), Location("slow", "key-1")),
        created_at=START,
        updated_at=START + timedelta(microseconds=1),
    )


def fill(registry: Registry, count: int, **values: Any) -> list[Image]:
    """Create images a second apart, the oldest first."""
    return [
        registry.create(image(f"image-{number:04}", created_at=START + timedelta(seconds=number), **values))
        for number in range(count)
    ]


def share(registry: Registry, image_id: str, project: str, status: MemberStatus) -> None:
    """Share an image and let the member answer."""
    registry.add_member(Member(image_id, project))
    registry.update_member(Member(image_id, project, status))


def ids(registry: Registry, query: Query = EVERYTHING, viewer: Viewer = ADMIN) -> list[str]:
    """List everything the query finds, in pages of its limit."""
    found: list[str] = []
    marker = query.marker
    for _ in range(2000):
        page = registry.list(replace(query, marker=marker), viewer)
        assert len(page.images) <= query.limit, "a page holds more images than its limit"
        found += [image.id for image in page.images]
        if page.next_marker is None:
            return found
        assert page.images, "an empty page can't have a next one"
        assert page.next_marker == page.images[-1].id, "the marker must be the page's last image"
        marker = page.next_marker
    pytest.fail("clause 3: the listing doesn't end")


@contextmanager
def refusal(kind: type[BaseException], what: str, naming: str = "") -> Iterator[None]:
    """Fail unless the body raises this kind of error, naming something."""
    try:
        yield
    except kind as error:
        if naming not in str(error):
            pytest.fail(f"{what}: the error must name {naming!r}, it says {str(error)!r}")
        return
    except Exception as error:
        pytest.fail(f"{what} must raise {kind.__name__}, it raised {error!r}")
    pytest.fail(f"{what} must raise {kind.__name__}, it raised nothing")


def race(calls: Sequence[Callable[[], T]], seconds: float = 60.0) -> list[T | Exception]:
    """Call all at the same moment, each in its thread; return results and errors."""
    barrier = threading.Barrier(len(calls))
    results: list[Any] = [TimeoutError("hangs")] * len(calls)

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = calls[number]()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    return results


def short_terms() -> Iterator[float]:
    """Yield a term in seconds for what is to run out, and wait it out after the block.

    The block has to do within the term what is to be done before its end. On
    a machine that stands still for so long it can't, and then has a longer
    one: what the last block found counts.
    """
    for seconds in (0.3, 3.0, 30.0):
        began = time.monotonic()
        yield seconds
        left = began + seconds - time.monotonic()
        if left > 0:
            time.sleep(left + 0.1)
            return
    pytest.fail("this machine is too slow to see anything run out")


def kinds(results: Sequence[object]) -> list[str]:
    """Name the errors among results by class; what is no error is 'done'."""
    return sorted(type(r).__name__ if isinstance(r, Exception) else "done" for r in results)
