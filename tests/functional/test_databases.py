"""The SQL registry on real servers: deadlocks, lost connections, servers that hang."""

from __future__ import annotations

import io
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from glancelike.embedded import open_service
from glancelike.errors import OutcomeUnknown, RegistryError, RegistryUnavailable
from glancelike.model import Amounts, Caller, Image, Status
from glancelike.registry.base import ADMIN
from glancelike.registry.sql import SqlRegistry
from glancelike.registry.sql.migrations import VERSION_TABLE
from glancelike.registry.sql.tables import metadata
from glancelike.stores.file import FileStore
from glancelike.testing.registry_child import Child, together
from tests.cutting_proxy import cutting
from tests.database_servers import DatabaseServer, PostgresServer
from tests.schemas import schema_of
from tests.waiting import wait_for

ONE = Image("a", owner="p")
ALONE = Caller(project="p", user="u", roles=frozenset({"member", "reader"}))


@pytest.fixture
def url(database_server: DatabaseServer) -> Iterator[str]:
    """Make an empty database, without tables."""
    name = f"t{uuid.uuid4().hex[:12]}"
    yield database_server.make_database(name)
    database_server.drop_database(name)


Open = Callable[..., SqlRegistry]


@pytest.fixture
def open_registry(url: str) -> Iterator[Open]:
    """Return a function that opens a registry on a database with tables."""
    SqlRegistry({"connection": url}).upgrade()
    opened: list[SqlRegistry] = []

    def make(connection: str = url, **settings: Any) -> SqlRegistry:
        registry = SqlRegistry({"connection": connection, **settings})
        registry.open()
        opened.append(registry)
        return registry

    yield make
    for each in opened:
        each.close()


class Other:
    """A transaction of somebody else's, in the way of the registry's."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url, poolclass=sa.NullPool)
        self._connection = self._engine.connect()
        self.do = self._connection.exec_driver_sql

    def close(self) -> None:
        self._connection.close()


@contextmanager
def in_thread(call: Callable[[], object]) -> Iterator[list[object]]:
    """Call in a thread meanwhile; at the end the list has its result or error."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield results
    thread.join(60)
    assert results, "hangs"


def blocked(server: DatabaseServer, url: str) -> list[int]:
    """Return the sessions that wait for a lock in a database."""
    database = sa.make_url(url).database
    if isinstance(server, PostgresServer):
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = "
    else:
        time.sleep(0.15)  # who asks more often than each 0.1 s is shown what was there at first, for ever
        waiting = (
            "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx t"
            " JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
            " WHERE trx_state = 'LOCK WAIT' AND db = "
        )
    return [row[0] for row in server.execute(f"{waiting}'{database}'")]


def end_sessions(server: DatabaseServer, url: str, sessions: list[int] | None = None) -> None:
    """End connections of the database from the server's side, all by default."""
    database = sa.make_url(url).database
    if isinstance(server, PostgresServer):
        mine = f"datname = '{database}'" if sessions is None else f"pid IN ({str(sessions)[1:-1]})"
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
        return
    if sessions is None:
        listed = server.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{database}'")
        sessions = [row[0] for row in listed]
    for session in sessions:
        server.execute(f"KILL {session}")


# The schema


def test_processes_make_what_the_code_uses(database_server: DatabaseServer, url: str) -> None:
    """Several upgrade an empty database at once; then it is to the letter what the tables say."""
    children = [Child() for _ in range(3)]
    try:
        registry = SqlRegistry({"connection": url, "lock_timeout": 60.0})
        assert together(children, registry, "upgrade", [()] * 3) == ["done"] * 3
    finally:
        for child in children:
            child.stop()
    name = f"m{uuid.uuid4().hex[:12]}"
    made = database_server.make_database(name)
    try:
        engine = sa.create_engine(made, poolclass=sa.NullPool)
        metadata.create_all(engine)
        assert schema_of(url, but=VERSION_TABLE) == schema_of(made)
    finally:
        database_server.drop_database(name)


def test_the_name_mariadb(database_server: DatabaseServer, open_registry: Open, url: str) -> None:
    """Both names of SQLAlchemy for MariaDB are the same thing."""
    if isinstance(database_server, PostgresServer):
        pytest.skip("has one name only")
    registry = open_registry(url.replace("mysql+", "mariadb+"), mysql_wsrep_sync_wait=1)
    assert registry.create(ONE) == open_registry().get("a", ADMIN)
    with registry._reading() as connection:
        assert connection.exec_driver_sql("SELECT @@wsrep_sync_wait, @@sql_mode").one()[0] == 1


def test_reads_only_read(open_registry: Open) -> None:
    """A read's transaction can't write, and leaves no trace in the next one of its connection."""
    registry = open_registry(max_pool_size=1, max_overflow=0)
    with pytest.raises(RegistryError), registry._reading() as connection:
        connection.exec_driver_sql("DELETE FROM images")
    assert registry.create(ONE).version == 1
    assert registry.leased(["x"]) == frozenset()
    assert registry.update(ONE, expect=1).version == 2


# Conflicts


def test_the_victim_of_a_deadlock_is_tried_again(
    database_server: DatabaseServer, open_registry: Open, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registry = open_registry()
    registry.reserve("r", "p", Amounts(images=1), {}, 600)
    with closing(Other(url)) as other:
        if isinstance(database_server, PostgresServer):
            other.do("SET deadlock_timeout = '60s'")  # it is ours that finds the deadlock, and ends
        else:
            rows = ", ".join(f"('{n}', 'h', '2026-01-01')" for n in range(50))
            other.do(f"INSERT INTO leases VALUES {rows}")  # who has written less is the victim
        other.do("SELECT * FROM quota_reservations FOR UPDATE")
        with in_thread(lambda: registry.create(ONE, settles="r")) as results:
            wait_for("ours waits", lambda: bool(blocked(database_server, url)))
            with in_thread(lambda: other.do(INSERT)):
                wait_for("it is tried again", lambda: "create is tried again" in caplog.text)
            other.close()
        assert results == [registry.get("a", ADMIN)]
    assert registry.usage("p") == Amounts(images=1)


INSERT = (
    "INSERT INTO images (id, version, shelf, status, visibility, protected, min_disk, min_ram, created_at,"
    " updated_at) VALUES ('a', 1, 0, 'queued', 'private', false, 0, 0, '2026-01-01', '2026-01-01')"
)


def test_a_lock_is_waited_for_only_so_long(
    open_registry: Open, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registry = open_registry(lock_timeout=1.0)
    hasty = open_registry(lock_timeout=1.0, db_max_retries=0)
    registry.create(ONE)
    with closing(Other(url)) as other:
        other.do("SELECT * FROM images FOR UPDATE")
        with pytest.raises(RegistryUnavailable):
            hasty.update(replace(ONE, name="new"), expect=1)
        with in_thread(lambda: registry.update(replace(ONE, name="new"), expect=1)) as results:
            wait_for("it is tried again", lambda: "update is tried again" in caplog.text)
            other.close()
    assert results == [registry.get("a", ADMIN)]
    assert registry.get("a", ADMIN).version == 2


# Lost connections


def test_idle_connections_that_were_ended(
    database_server: DatabaseServer, open_registry: Open, url: str
) -> None:
    registry = open_registry()
    registry.create(ONE)
    for turn in (1, 2):
        end_sessions(database_server, url)
        assert registry.get("a", ADMIN).version == turn
        end_sessions(database_server, url)
        assert registry.update(ONE, expect=turn).version == turn + 1


def test_a_connection_lost_between_two_statements(
    database_server: DatabaseServer, open_registry: Open, url: str
) -> None:
    """What it has written by then is gone, and written once in the end."""
    registry = open_registry()
    registry.reserve("r", "p", Amounts(images=1), {}, 600)
    with closing(Other(url)) as other:
        other.do("SELECT * FROM quota_reservations FOR UPDATE")
        with in_thread(lambda: registry.create(ONE, settles="r")) as results:
            wait_for("ours waits", lambda: bool(blocked(database_server, url)))
            first = blocked(database_server, url)
            end_sessions(database_server, url, first)
            wait_for("it is tried again", lambda: not {*blocked(database_server, url)} <= {*first})
            other.close()
    assert results == [registry.get("a", ADMIN)]
    assert registry.usage("p") == Amounts(images=1)


@pytest.mark.parametrize("answered", [True, False])
def test_a_connection_lost_during_commit(
    database_server: DatabaseServer, open_registry: Open, url: str, answered: bool
) -> None:
    """It isn't known whether it is done, so it isn't done again."""
    with cutting(database_server.port) as proxy:
        registry = open_registry(url.replace(f":{database_server.port}/", f":{proxy.port}/"))
        registry.create(ONE)
        passed = proxy.commits
        proxy.cut(b"UPDATE images", answered=answered)
        with pytest.raises(OutcomeUnknown):
            registry.update(replace(ONE, name="new"), expect=1)
        assert (proxy.cuts, proxy.commits - passed) == (1, int(answered))
        found = registry.get("a", ADMIN)
        assert (found.name, found.version) == (("new", 2) if answered else (None, 1))


@pytest.mark.parametrize("answered", [True, False])
def test_an_upload_whose_last_commit_is_lost(
    database_server: DatabaseServer, url: str, tmp_path: Path, answered: bool
) -> None:
    """An active image has its data, whatever the uploader was told; an orphan is found by gc."""
    with cutting(database_server.port) as proxy:
        registry = SqlRegistry({"connection": url.replace(f":{database_server.port}/", f":{proxy.port}/")})
        store = FileStore({"filesystem_store_datadir": str(tmp_path)})

        class Source(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if not (data := super().read(size)):
                    proxy.cut(b"UPDATE images", answered=answered)
                return data

        with open_service(registry, stores={"disk": store}) as service:
            made = service.create_image(ALONE, {"disk_format": "raw", "container_format": "bare"})
            with pytest.raises(OutcomeUnknown):
                service.upload(ALONE, made.id, Source(b"data" * 1000))
            assert proxy.cuts == 1
            found = service.show_image(ALONE, made.id)
            assert found.status is (Status.ACTIVE if answered else Status.QUEUED)
            if answered:
                assert b"".join(service.read(ALONE, made.id).chunks()) == b"data" * 1000
            found_by_gc = list(service.gc(grace_seconds=0.0))
            assert len(found_by_gc) == (0 if answered else 1)
            kept = [path for path in tmp_path.rglob("*") if path.is_file()]
            assert len(kept) == int(answered)


# Servers that hang


def test_a_server_that_hangs(database_server: DatabaseServer, open_registry: Open) -> None:
    """Nobody waits for ever, with a connection or without one yet."""
    settings = {"statement_timeout": 0.5, "connect_timeout": 2}
    registry = open_registry(**settings)
    registry.create(ONE)
    fresh = SqlRegistry({**registry.settings})
    with database_server.paused():
        for call in (
            lambda: registry.get("a", ADMIN),
            lambda: registry.acquire_lease("l", "h", 60),
            fresh.open,
            fresh.schema_version,
        ):
            with in_thread(call) as results:
                pass
            assert isinstance(results[0], RegistryUnavailable), results
    assert registry.get("a", ADMIN).version == 1
    assert registry.acquire_lease("l", "h", 60)


def test_a_statement_that_takes_too_long(database_server: DatabaseServer, open_registry: Open) -> None:
    """The server itself gives it up, and the connection is as good as before."""
    registry = open_registry(statement_timeout=0.5, max_pool_size=1, max_overflow=0)
    sleep = "pg_sleep(60)" if isinstance(database_server, PostgresServer) else "sleep(60)"

    def run(statement: str) -> object:
        with registry._writing() as connection:
            used.append(connection.connection.dbapi_connection)
            return connection.exec_driver_sql(statement).scalar()

    used: list[object] = []
    with pytest.raises(RegistryUnavailable):
        run(f"SELECT {sleep} FROM (SELECT 1) AS t")
    assert run("SELECT 1") == 1
    assert used[0] is used[1]
