"""Collecting while others write: nothing that is relied on goes, and nothing else stays."""

from __future__ import annotations

import io
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from chunks_below import HookedStore, directory, names, stacked, sweep_all
from chunks_child import content
from glancelike_store_chunks import ChunkStore
from glancelike_store_chunks.chunks import unpacked
from glancelike_store_chunks.collector import Collector
from glancelike_store_chunks.lower import Lower
from glancelike_store_chunks.manifest import Manifest
from glancelike_store_chunks.sessions import Session

from glancelike.errors import BlobNotFound, StoreUnavailable
from glancelike.model import utcnow
from glancelike.testing.sources import EndlessSource, WatchedSource, payload

DATA = payload(100_000)
SECONDS = 12.0


@pytest.fixture
def below(tmp_path: Path) -> Iterator[HookedStore]:
    store = directory(tmp_path / "below")
    yield store
    store.close()


def put(store: ChunkStore, key: str, data: bytes = DATA) -> None:
    store.write(key, io.BytesIO(data), size=len(data))


def get(store: ChunkStore, key: str) -> bytes:
    return b"".join(store.read(key))


def collect(store: ChunkStore) -> int:
    """Collect all that may be, and take no session for dead."""
    return Collector(Lower(store.below)).collect(utcnow() + timedelta(minutes=1))


def listed(store: ChunkStore) -> set[str]:
    """Return the names of the chunks that manifests list."""
    lower = Lower(store.below)
    manifests = [Manifest(lower, name) for name in names(store.below.driver, "blobs/")]  # type: ignore[arg-type]
    return {unpacked(packed).name for manifest in manifests for packed in manifest.packed()}


def clean(store: ChunkStore, below: HookedStore) -> None:
    """Fail unless there is just what manifests list."""
    assert names(below, "chunks/") == listed(store)
    assert not names(below, "sessions/") | names(below, "uploads/")


def during_write(store: ChunkStore, key: str, do: Callable[[], object], data: bytes = DATA) -> None:
    """Do something when a writer has stored all but the end of its chunks."""
    done: list[object] = []

    def hook(at: int) -> None:
        if at >= len(data) - 10_000 and not done:
            done.append(do())

    store.write(key, WatchedSource(data, steps=[5000], hook=hook), size=len(data))
    assert done


def test_what_a_writer_found_stays_until_it_is_done(below: HookedStore) -> None:
    store = stacked(below, chunk_store_threads=1)
    put(store, "old")

    def lose() -> None:
        # All of it was there when the writer looked; now nothing but the writer needs it.
        store.delete("old")
        assert collect(store) == 0
        assert collect(stacked(below)) == 0

    during_write(store, "new", lose)
    assert get(store, "new") == DATA
    assert sweep_all(store) == 0
    assert get(store, "new") == DATA
    # Condemned once is condemned for ever: a later writer stores its own.
    first = names(below, "chunks/")
    put(store, "later")
    assert names(below, "chunks/") > first
    store.delete("new")
    sweep_all(store)
    assert not names(below, "chunks/") & listed(store) & first
    assert get(store, "later") == DATA
    clean(store, below)


def test_a_writer_announces_itself_before_it_looks(below: HookedStore, tmp_path: Path) -> None:
    store = stacked(below)
    put(store, "old")
    watched = directory(tmp_path / "below")
    other = Session(Lower(store.below))

    def condemn(call: str, key: str) -> None:
        if (call, key[:9]) == ("write", "sessions/") and names(below, "blobs/old"):
            # Condemned, but not gone: there is another writer to wait for. This one isn't there yet.
            store.delete("old")
            assert collect(store) == 0

    def end() -> None:
        other.__exit__(None, None, None)
        assert collect(store) > 5

    watched.hook = condemn
    during_write(stacked(watched, chunk_store_threads=1), "new", end)
    watched.close()
    assert get(store, "new") == DATA
    sweep_all(store)
    clean(store, below)


@pytest.mark.parametrize("turn", [1, 2])
def test_a_collector_looks_through_manifests_after_the_sessions_have_ended(
    below: HookedStore, tmp_path: Path, turn: int
) -> None:
    store = stacked(below, chunk_store_threads=1)
    put(store, "old")
    found, go_on = Event(), Event()

    def hold() -> None:
        store.delete("old")
        assert collect(store) == 0
        found.set()
        go_on.wait(60)

    late = Thread(target=during_write, args=(store, "new", hold), daemon=True)
    late.start()
    assert found.wait(60)
    watched = directory(tmp_path / "below")
    looks = []

    def finish(call: str, key: str) -> None:
        if (call, key) == ("list", "sessions/"):
            looks.append(key)
            if len(looks) == turn:
                go_on.set()
                late.join(60)

    collecting = stacked(watched)
    watched.hook = finish
    collect(collecting)
    assert len(looks) >= turn
    watched.close()
    assert get(store, "new") == DATA
    sweep_all(store)
    clean(store, below)


def test_a_copy_of_what_goes_meanwhile_fails(below: HookedStore, tmp_path: Path) -> None:
    store = stacked(below)
    put(store, "old")
    watched = directory(tmp_path / "below")

    def lose(call: str, key: str) -> None:
        if call == "write" and key.startswith("sessions/"):
            store.delete("old")
            assert collect(store) > 5

    watched.hook = lose
    with pytest.raises(BlobNotFound):
        stacked(watched).copy("old", "copy")
    watched.close()
    with pytest.raises(BlobNotFound):
        store.stat("copy")
    clean(store, below)


def test_a_copy_does_not_inherit_what_is_condemned(below: HookedStore) -> None:
    store = stacked(below, chunk_store_threads=1)
    put(store, "old")

    def condemn() -> None:
        store.delete("old")
        collect(store)

    during_write(store, "new", condemn)
    assert names(below, "condemned/")
    store.copy("new", "copy")
    upload = store.begin("joined")
    store.put_part("joined", upload, 1, io.BytesIO(DATA), size=len(DATA))
    store.complete("joined", upload)
    store.delete("new")
    sweep_all(store)
    assert get(store, "copy") == get(store, "joined") == DATA
    clean(store, below)


def test_an_upload_keeps_its_parts(below: HookedStore) -> None:
    store = stacked(below)
    upload = store.begin("key")
    store.put_part("key", upload, 1, io.BytesIO(DATA), size=len(DATA))
    assert collect(store) == 0
    store.complete("key", upload)
    collect(store)
    assert get(store, "key") == DATA
    clean(store, below)


def test_a_collector_that_was_asleep_deletes_nothing_new(below: HookedStore, tmp_path: Path) -> None:
    store = stacked(below)
    put(store, "old")
    store.delete("old")
    sleeper = directory(tmp_path / "below")
    woken: list[int] = []

    def sleep(call: str, key: str) -> None:
        if call == "delete" and key.startswith("chunks/") and not woken:
            # It has made up its mind. Meanwhile another one collects, and the same bytes are written again.
            woken.append(collect(store))
            put(store, "new")

    sleeper.hook = sleep
    collect(stacked(sleeper))
    assert woken[0] > 5
    assert get(store, "new") == DATA
    sweep_all(store)
    assert get(store, "new") == DATA
    clean(store, below)
    sleeper.close()


def test_what_stays_listed_stays_condemned(below: HookedStore, tmp_path: Path) -> None:
    store = stacked(below, chunk_store_threads=1)
    put(store, "old")
    put(store, "other", payload(50_000, seed=3))

    def condemn() -> None:
        store.delete("old")
        store.delete("other")
        collect(store)

    during_write(store, "new", condemn)
    # The round waits for nobody any more; some of its chunks are listed, by "new", and some aren't.
    sleeper = directory(tmp_path / "below")
    found, go_on = Event(), Event()

    def hold() -> None:
        found.set()
        go_on.wait(60)

    late = Thread(target=during_write, args=(store, "late", hold), daemon=True)

    def sleep(call: str, key: str) -> None:
        if call == "list" and key == "uploads/" and not found.is_set():
            # It's about to look through the manifests, and the round that it has in its hands is ended.
            assert collect(store) > 5
            store.delete("new")
            late.start()
            assert found.wait(60)

    sleeper.hook = sleep
    try:
        collect(stacked(sleeper))
    finally:
        go_on.set()
    late.join(60)
    assert get(store, "late") == DATA
    sweep_all(store)
    clean(store, below)
    sleeper.close()


@pytest.mark.parametrize("call", ["write", "list", "read", "delete"])
@pytest.mark.parametrize(
    "prefix", ["condemned/", "waiting/", "sessions/", "generations/", "chunks/", "blobs/"]
)
def test_a_write_between_any_two_steps_of_a_collector(
    below: HookedStore, tmp_path: Path, call: str, prefix: str
) -> None:
    store = stacked(below)
    put(store, "old")
    put(store, "kept", payload(50_000, seed=2))
    store.delete("old")
    watched = directory(tmp_path / "below")
    turns: list[str] = []

    def step(called: str, key: str) -> None:
        if called == call and key.startswith(prefix) and len(turns) < 4:
            turns.append(key)
            put(store, f"new-{len(turns)}")
            if len(turns) == 2:
                store.copy("new-1", "copied")
                store.delete("new-1")

    watched.hook = step
    collect(stacked(watched))
    watched.close()
    for key in names(below, "blobs/"):
        key = key.removeprefix("blobs/")
        assert get(store, key) == (payload(50_000, seed=2) if key == "kept" else DATA)
    sweep_all(store)
    clean(store, below)


@pytest.mark.parametrize("call", ["write", "delete"])
@pytest.mark.parametrize("prefix", ["condemned/", "waiting/", "generations/", "chunks/"])
def test_a_collector_that_dies_leaves_work_not_damage(
    below: HookedStore, tmp_path: Path, call: str, prefix: str
) -> None:
    store = stacked(below)
    put(store, "old")
    store.delete("old")

    class Died(BaseException):
        pass

    def die(called: str, key: str) -> None:
        if called == call and key.startswith(prefix):
            raise Died

    dying = directory(tmp_path / "below")
    dying.hook = die
    try:
        collect(stacked(dying))
    except Died:
        put(store, "new")
        assert get(store, "new") == DATA
    dying.close()
    sweep_all(store)
    clean(store, below)
    assert not names(below, "waiting/") | names(below, "condemned/")


def test_a_writer_taken_for_dead_fails(below: HookedStore) -> None:
    store = stacked(below, chunk_store_threads=1)
    put(store, "old")

    def lose() -> None:
        store.delete("old")
        sweep_all(store)

    with pytest.raises(StoreUnavailable, match="for too long"):
        during_write(store, "new", lose)
    with pytest.raises(BlobNotFound):
        store.stat("new")
    sweep_all(store)
    clean(store, below)


@pytest.mark.parametrize("role", ["write", "part"])
def test_kill_9_leaves_nothing_after_a_sweep(below: HookedStore, tmp_path: Path, role: str) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom chunks_below import directory, stacked\n"
        "from glancelike.testing.store_child import stall_halfway\n"
        "store = stacked(directory(Path(sys.argv[1])))\n"
        "if sys.argv[2] == 'write':\n"
        "    store.write('key', stall_halfway(4 << 20), size=4 << 20)\n"
        "upload = store.begin('key')\n"
        "store.put_part('key', upload, 1, stall_halfway(4 << 20), size=4 << 20)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "below"), role],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        child.kill()
    store = stacked(below)
    assert len(names(below, "chunks/")) > 100
    assert store.sweep(utcnow() - timedelta(days=1)) == 0
    assert len(names(below, "chunks/")) > 100
    assert sweep_all(store) > 100
    assert names(below, "") == names(below, "generations/")
    store.write("key", EndlessSource(1 << 20), size=1 << 20)


def test_generations_and_rounds_do_not_pile_up(below: HookedStore) -> None:
    store = stacked(below)
    for number in range(6):
        put(store, f"key-{number}")
        store.delete(f"key-{number}")
        sweep_all(store)
    assert len(names(below, "")) == 1


class Crowd:
    """Processes of ``chunks_child``, some of which are killed and started anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._count = 0

    def start(self, role: str) -> None:
        self._count += 1
        name = f"{role}{self._count}"
        script = Path(__file__).with_name("chunks_child.py")
        child = subprocess.Popen(
            [
                sys.executable,
                str(script),
                role,
                str(self._path / "below"),
                name,
                str(self._path / f"{name}.log"),
            ],
            stdin=subprocess.PIPE,  # it ends when this one does
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        self._running.append((role, child))

    def kill(self, number: int, below: HookedStore) -> str:
        """Kill one; end the session of a writer, who can't come back."""
        role, child = self._running.pop(number)
        assert child.poll() is None, f"a {role} died by itself: {(child.communicate()[1] or b'').decode()}"
        child.send_signal(signal.SIGKILL)
        child.communicate()
        for name in names(below, "sessions/"):
            try:
                if int(b"".join(below.read(name)).split()[2]) == child.pid:
                    below.delete(name)
            except BlobNotFound:
                continue
        return role

    def run(self, below: HookedStore, seconds: float) -> None:
        """Let them work, and kill one now and then, collectors among them."""
        begun = time.monotonic()
        try:
            while (spent := time.monotonic() - begun) < seconds or (spent < 100 and not self.busy()):
                time.sleep(2)
                self.start(self.kill(random.randrange(len(self._running)), below))
            while self._running:
                self.kill(0, below)
        finally:
            for _role, child in self._running:
                child.kill()
                child.communicate()

    def busy(self) -> bool:
        """Tell whether everybody has done something, on a machine that may be slow."""
        counted = Counter(deed for deed, what in self.deeds() if what != "0")
        return min(counted[deed] for deed in ("written", "deleting", "read", "collected")) > 20

    def deeds(self) -> Iterator[tuple[str, str]]:
        for log in self._path.glob("*.log*"):
            for line in log.read_text().splitlines():
                deed, _, what = line.partition(" ")
                yield deed, what


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_writers_deleters_and_collectors_at_once(below: HookedStore, tmp_path: Path) -> None:
    crowd = Crowd(tmp_path)
    for role in ("writer", "writer", "deleter", "collector", "collector", "reader"):
        crowd.start(role)
    crowd.run(below, SECONDS)
    deeds = list(crowd.deeds())
    assert not [what for deed, what in deeds if deed == "wrong"]
    assert crowd.busy()
    store = stacked(below)
    deleted = {what for deed, what in deeds if deed == "deleting"}
    for key in {what for deed, what in deeds if deed == "written"} - deleted:
        assert get(store, key) == content(key)
    for info in store.list():
        assert get(store, info.key) == content(info.key)
    # Two quiet ones: what was condemned and is listed by what the first drops goes in the second.
    sweep_all(store)
    sweep_all(store)
    clean(store, below)


def test_threads_of_one_driver(below: HookedStore) -> None:
    store = stacked(below, "fixed", chunk_store_threads=2)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(6):
                key = f"{turn % 3}_{number}-{turn}"
                put(store, key, content(key))
                assert get(store, key) == content(key)
                if turn % 2:
                    store.delete(key)
                collect(store)
        except BaseException as error:
            errors.append(error)

    threads = [Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for info in store.list():
        assert get(store, info.key) == content(info.key)
    sweep_all(store)
    clean(store, below)
