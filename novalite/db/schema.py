"""The schema's revisions: upgrade the database, or say what is wrong with it.

alembic is loaded by an upgrade that has something to do, not by every start.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import Connection

from glancelike.sql import upgrading
from glancelike.sql.engine import of_kind
from glancelike.sql.servers import Kind
from novalite.db.engine import ERRORS, Engine
from novalite.errors import DatabaseSchema

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"  # alembic's own name for it
LOCK = upgrading.Lock("novalite db upgrade", 0x6E6F7661)


def revisions() -> list[str]:
    """List the revisions that this code knows, oldest first: a module each."""
    return sorted(path.name[1:5] for path in (MIGRATIONS / "versions").glob("r[0-9][0-9][0-9][0-9]_*.py"))


def head() -> str:
    """Tell the revision that this code needs."""
    return revisions()[-1]


def current(engine: Engine) -> str | None:
    """Tell the database's revision; None when it has no schema yet."""
    if engine.absent():
        return None  # looking must not make the file
    with engine.passing() as passing, passing.connect() as connection:
        return upgrading.current(connection, VERSION_TABLE)


def upgrade(engine: Engine) -> None:
    """Bring the schema to what this code needs; harmless when it's there.

    One process upgrades at a time, the others wait. It is one transaction
    where the database can do that (SQLite and PostgreSQL); elsewhere one
    that was cut short is gone on with by the next. Raises DatabaseSchema
    when the database was upgraded by newer code.
    """
    engine.make_place()
    with engine.passing(bounded=False) as passing:
        patience = upgrading.patience(passing, engine.settings)
        if passing.dialect.name == "sqlite":
            upgrading.use_wal(passing, engine.where, patience, ERRORS)
        writer = of_kind(passing, Kind.WRITES)
        with (
            writer.connect() as connection,
            upgrading.locked(connection, LOCK, engine.where, patience, ERRORS),
            connection.begin(),
        ):
            upgrading.be_patient(connection, patience)
            found = upgrading.current(connection, VERSION_TABLE)
            _refuse_newer(found)
            if found != head():
                upgrading.run(connection, upgrading.config(MIGRATIONS, [MIGRATIONS / "versions"]), "head")


def check(connection: Connection, engine: Engine) -> None:
    """Raise DatabaseSchema, naming both revisions, unless the schema fits."""
    found = upgrading.current(connection, VERSION_TABLE)
    if found != head():
        _refuse_newer(found)
        raise outdated(engine, found)


def outdated(engine: Engine, found: str | None) -> DatabaseSchema:
    """Make the error that says what to run."""
    return DatabaseSchema(
        f"database {engine.where} is at revision {found or 'none'}, this code needs {head()}: "
        f"run novalite db upgrade"
    )


def _refuse_newer(found: str | None) -> None:
    if found is not None and found not in revisions():
        raise DatabaseSchema(
            f"the database is at revision {found}, which this code (at {head()}) doesn't know: "
            f"it was upgraded by newer code"
        )
