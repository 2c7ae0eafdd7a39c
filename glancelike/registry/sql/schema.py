"""The schema's revision: what it is, which code fits it, how to get further.

The database says itself which code may work with it, since code that is
older than a revision can't know what that one took away.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from glancelike.errors import RegistryError, SchemaNewer, SchemaOutdated
from glancelike.registry.base import Step
from glancelike.registry.sql import migrations
from glancelike.registry.sql.database import ERRORS
from glancelike.registry.sql.migrations import VERSION_TABLE, described, needed, oldest_after, revisions
from glancelike.registry.sql.tables import compatibility, metadata
from glancelike.sql import upgrading
from glancelike.sql.engine import of_kind
from glancelike.sql.servers import Kind

LOCK = upgrading.Lock("glancelike db upgrade", 0x676C616E6365)
BATCH = 1000  # rows moved in one transaction

_VERSION = upgrading.version_table(VERSION_TABLE)


def current(connection: Connection) -> str | None:
    """Return the database's revision; None when there are no tables."""
    return upgrading.current(connection, VERSION_TABLE)


def check(connection: Connection, where: str) -> None:
    """Raise SchemaOutdated or SchemaNewer unless this code fits the schema."""
    revision = current(connection)
    if revision is None:
        raise SchemaOutdated(f"{where} has no tables yet: run `glancelike db upgrade`")
    _check_not_too_new(connection, revision, where)
    if revision in revisions() and revision < needed():
        raise SchemaOutdated(
            f"{where} is at revision {revision}, this code needs {needed()}: run `glancelike db upgrade`"
        )


def _check_not_too_new(connection: Connection, revision: str, where: str) -> None:
    known = revisions()
    oldest = _oldest_code(connection)
    if revision not in known and (oldest is None or revision < known[-1]):
        raise SchemaNewer(
            f"{where} is at revision {revision}, this code knows up to {known[-1]}: "
            f"it was upgraded by another version, run that"
        )
    if oldest is not None and oldest > known[-1]:
        raise SchemaNewer(
            f"{where} is at revision {revision} and needs code of {oldest} at least, this code knows up to "
            f"{known[-1]}: it was upgraded by a newer version, run that"
        )


def _oldest_code(connection: Connection) -> str | None:
    """Return what the database says, None where it is too old to say anything."""
    if not sa.inspect(connection).has_table(compatibility.name):
        return None
    oldest: str | None = connection.scalar(sa.select(compatibility.c.oldest))
    return oldest


def next_step(connection: Connection, where: str) -> Step | None:
    """Return what an upgrade would do next; raise SchemaNewer."""
    revision = _next_revision(connection, where)
    if revision is None:
        return None
    if revision not in migrations.CONTRACTING:
        return Step.EXPAND
    left = _function(revision, "left")
    return Step.MIGRATE if left is not None and left(connection) else Step.CONTRACT


def _next_revision(connection: Connection, where: str) -> str | None:
    revision = current(connection)
    if revision is not None:
        _check_not_too_new(connection, revision, where)
    return next((each for each in revisions() if revision is None or each > revision), None)


class Upgrade:
    """Upgrades one database; ``patience`` seconds to wait for another's transaction.

    Every revision and every batch of rows is a transaction, under a lock:
    any number of upgrades may run at once, and one that was killed is gone
    on with by the next.
    """

    def __init__(self, engine: Engine, where: str, patience: float) -> None:
        self._reader, self._writer = engine, of_kind(engine, Kind.WRITES)
        self._where = where
        self._patience = patience
        if engine.dialect.name == "sqlite":
            upgrading.use_wal(engine, where, patience, ERRORS)

    def finish(self) -> None:
        """Do all that is to be done."""
        if self._writer.dialect.name == "sqlite":
            self._make()
        while (step := self._next_step()) is not None:
            self.run(step)

    def _make(self) -> None:
        """Make all tables of an empty database at once, in one transaction.

        So nobody waits for alembic and eight revisions before the first image. Tests
        compare SQLite's tables with what the revisions leave, to the letter; those of
        other databases they don't, so there the revisions are run.
        """
        with self._writer.connect() as connection, connection.begin():
            if sa.inspect(connection).get_table_names():
                return
            revision = described()
            metadata.create_all(connection, checkfirst=False)
            connection.execute(sa.insert(compatibility), {"oldest": oldest_after(revision)})
            _VERSION.create(connection)
            connection.execute(sa.insert(_VERSION), {"version_num": revision})

    def run(self, step: Step) -> int:
        """Do one step; return how many revisions it ran or rows it moved.

        Raises SchemaOutdated when another step comes first, SchemaNewer.
        """
        following = self._next_step()
        if step is Step.MIGRATE:
            if following is Step.EXPAND:
                raise self._comes_first(Step.EXPAND)
            return self._repeated(self._migrate)
        if step is Step.CONTRACT and following not in (Step.CONTRACT, None):
            raise self._comes_first(following)
        return self._repeated(lambda connection: self._advance(connection, step))

    def _comes_first(self, step: Step) -> SchemaOutdated:
        return SchemaOutdated(f"{self._where}: run `glancelike db {step}` first")

    def _next_step(self) -> Step | None:
        with self._reader.connect() as connection:
            return next_step(connection, self._where)

    def _repeated(self, work: Callable[[Connection], int]) -> int:
        """Do a piece of work, each in a transaction, until one finds nothing to do."""
        total = 0
        while True:
            with (
                self._writer.connect() as connection,
                upgrading.locked(connection, LOCK, self._where, self._patience, ERRORS),
                connection.begin(),
            ):
                upgrading.be_patient(connection, self._patience)
                done = work(connection)
            if not done:
                return total
            total += done

    def _advance(self, connection: Connection, step: Step) -> int:
        """Run the next revision, if that is this step's."""
        # Asked again: another upgrade may have been faster.
        if next_step(connection, self._where) is not step:
            return 0
        revision = _next_revision(connection, self._where)
        assert revision is not None  # noqa: S101 - there is a next step
        if _oldest_code(connection) is not None:
            # First: where a change of the schema is no part of the transaction, and is cut
            # short, older code must be shut out already.
            connection.execute(sa.update(compatibility).values(oldest=oldest_after(revision)))
        upgrading.run(connection, _config(), revision)
        return 1

    def _migrate(self, connection: Connection) -> int:
        """Move some rows; return how many."""
        if next_step(connection, self._where) is not Step.MIGRATE:
            return 0
        revision = _next_revision(connection, self._where)
        migrate = _function(revision or "", "migrate")
        moved = migrate(connection, BATCH) if migrate is not None else 0
        if not moved:
            raise RegistryError(f"{self._where}: revision {revision} has rows left that it can't migrate")
        return moved


def _function(revision: str, name: str) -> Callable[..., int] | None:
    """Return a function of a revision's module, None where it has none."""
    from alembic.script import ScriptDirectory

    module = ScriptDirectory.from_config(_config()).get_revision(revision).module
    return getattr(module, name, None)


def _config() -> Any:
    return upgrading.config(Path(migrations.__file__).parent, migrations.DIRECTORIES)
