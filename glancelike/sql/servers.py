"""What PostgreSQL, MySQL and MariaDB are told at each connection, and how long they are waited for.

A server that hangs must not take its clients with it. It watches its own
statements and locks; but one that is stopped, or behind a network that
drops packets, watches nothing, so that the client has a limit as well, a
little later than the server's. TCP can't do that: a stopped process's
kernel goes on to acknowledge what it is sent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping
from enum import Enum
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine

# An engine's option that says how its transactions begin.
KIND = "transaction"
# Seconds that the client waits beyond the server's own limit.
GRACE = 2.0


class Kind(Enum):
    """What a transaction is for."""

    READS = "reads"  # several statements that see one snapshot
    WRITES = "writes"
    LOOKS = "looks"  # one statement, which is a transaction by itself


def arguments(url: URL, settings: Mapping[str, Any], *, bounded: bool) -> dict[str, Any]:
    """Return what the driver is given to connect with."""
    told = {"connect_timeout": settings["connect_timeout"]}
    if bounded and url.get_driver_name() == "pymysql":
        told |= dict.fromkeys(("read_timeout", "write_timeout"), settings["statement_timeout"] + GRACE)
    return told


def prepare(engine: Engine, settings: Mapping[str, Any], *, bounded: bool) -> None:
    """Set up each connection and each transaction of an engine whose drivers begin none by themselves."""
    if engine.dialect.driver == "psycopg" and bounded:
        _bound_psycopg(engine, settings["statement_timeout"] + GRACE)
    elif engine.dialect.driver == "pymysql":
        _spare_pymysql(engine)
    mine = _postgresql if engine.dialect.name == "postgresql" else _mysql
    statements = mine(settings, bounded=bounded)

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for each in statements:
            cursor.execute(each)
        cursor.close()

    # All statements of a read see one snapshot. A writer's don't: a
    # compare-and-set that lost must find no row, not fail to serialize.
    begins: dict[Kind, tuple[str, ...]]
    if engine.dialect.name == "postgresql":
        begins = {
            Kind.READS: ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",),
            Kind.WRITES: ("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",),
        }
    else:
        # The session's own level is REPEATABLE READ.
        begins = {
            Kind.READS: ("START TRANSACTION READ ONLY",),
            Kind.WRITES: ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION READ WRITE"),
        }

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        for each in begins.get(connection.get_execution_options().get(KIND, Kind.READS), ()):
            connection.exec_driver_sql(each)


def _postgresql(settings: Mapping[str, Any], *, bounded: bool) -> tuple[str, ...]:
    told = {"lock_timeout": settings["lock_timeout"]}
    if bounded:
        told["statement_timeout"] = settings["statement_timeout"]
        # No transaction waits for anything but the database: one that is idle has lost its client.
        told["idle_in_transaction_session_timeout"] = settings["statement_timeout"]
    return ("; ".join(f"SET {name} = {math.ceil(seconds * 1000)}" for name, seconds in told.items()),)


def _mysql(settings: Mapping[str, Any], *, bounded: bool) -> tuple[str, ...]:
    # What doesn't fit is refused, whatever the server's own mode.
    told = ["sql_mode = 'TRADITIONAL'", f"innodb_lock_wait_timeout = {math.ceil(settings['lock_timeout'])}"]
    if settings["mysql_wsrep_sync_wait"] is not None:
        told.append(f"wsrep_sync_wait = {settings['mysql_wsrep_sync_wait']}")
    statement = f"SET SESSION {', SESSION '.join(told)}"
    if bounded:
        seconds = settings["statement_timeout"]
        # A comment to MySQL, which has no such settings.
        statement += (
            f" /*M!100300 , SESSION max_statement_time = {seconds},"
            f" SESSION idle_transaction_timeout = {math.ceil(seconds)} */"
        )
    return statement, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"


def _spare_pymysql(engine: Engine) -> None:
    import ssl

    import pymysql
    from pymysql.constants.SERVER_STATUS import SERVER_STATUS_IN_TRANS

    class Spare(pymysql.connections.Connection):  # type: ignore[misc]
        """A connection that asks for no ROLLBACK where there is no transaction.

        And that doesn't read all the system's certificates where nothing was said about TLS: PyMySQL then
        takes it where the server has it, and verifies nobody.
        """

        def rollback(self) -> None:
            if self.server_status & SERVER_STATUS_IN_TRANS:
                super().rollback()

        def _create_ssl_ctx(self, told: Any) -> ssl.SSLContext:
            return super()._create_ssl_ctx(told) if told else unverified

    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return Spare(*args, **kwargs)


def _bound_psycopg(engine: Engine, seconds: float) -> None:
    import psycopg

    class Bounded(psycopg.Connection[Any]):
        """A connection that closes when the server is silent for too long."""

        def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
            try:
                return super().wait(_within(gen, seconds), *args, **kwargs)
            except TimeoutError as error:
                self.close()
                raise psycopg.OperationalError(f"no answer within {seconds:g} seconds") from error

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return Bounded.connect(*args, **kwargs)


def _within(gen: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    """Pass on what psycopg waits for; raise TimeoutError when that takes too long.

    psycopg asks its generators again, with a false value, several times a
    second while there is nothing to read.
    """
    until = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > until:
                gen.close()
                raise TimeoutError
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value
