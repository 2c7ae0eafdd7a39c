"""The schema's revisions: upgrade the database, or say what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from novalite.db.engine import Engine
from novalite.errors import DatabaseSchema

MIGRATIONS = Path(__file__).parent / "migrations"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    # A "%" in the path would be read as an interpolation.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """Tell the revision that this code needs."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


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
        _refuse_newer(_current(connection))
        command.upgrade(_config(connection), "head")


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
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise DatabaseSchema(
            f"the database is at revision {found}, which this code (at {head()}) doesn't know: "
            f"it was upgraded by newer code"
        )
