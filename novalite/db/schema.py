"""The schema's revisions: upgrade the database, or say what is wrong with it.

alembic is loaded by an upgrade that has something to do, not by every start.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.db.engine import Engine
from novalite.errors import DatabaseSchema

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"  # alembic's own name for it


def revisions() -> list[str]:
    """List the revisions that this code knows, oldest first: a module each."""
    return sorted(path.name[1:5] for path in (MIGRATIONS / "versions").glob("r[0-9][0-9][0-9][0-9]_*.py"))


def head() -> str:
    """Tell the revision that this code needs."""
    return revisions()[-1]


def _current(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
    return revision


def current(engine: Engine) -> str | None:
    """Tell the database's revision; None when it has no schema yet."""
    if not engine.exists():
        return None  # looking must not make the file
    with engine.read() as connection:
        return _current(connection)


def upgrade(engine: Engine) -> None:
    """Bring the schema to what this code needs; harmless when it's there.

    It is one transaction where the database can do that (SQLite and
    PostgreSQL), so a second process upgrading at the same time waits, and
    a crash leaves the old schema. Raises DatabaseSchema when the database
    was upgraded by newer code.
    """
    engine.make_place()
    with engine.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(0x6E6F7661)))
        found = _current(connection)
        _refuse_newer(found)
        if found != head():
            _run(connection)


def check(engine: Engine) -> None:
    """Raise DatabaseSchema, naming both revisions, unless the schema fits."""
    found, needed = current(engine), head()
    if found == needed:
        return
    _refuse_newer(found)
    raise DatabaseSchema(
        f"database {engine} is at revision {found or 'none'}, this code needs {needed}: "
        f"run novalite db upgrade"
    )


def _refuse_newer(found: str | None) -> None:
    if found is not None and found not in revisions():
        raise DatabaseSchema(
            f"the database is at revision {found}, which this code (at {head()}) doesn't know: "
            f"it was upgraded by newer code"
        )


def _run(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    # A "%" in the path would be read as an interpolation.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
