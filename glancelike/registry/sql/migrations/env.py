"""Run by alembic; ``schema`` hands over a connection inside a transaction."""

from __future__ import annotations

from alembic import context

from glancelike.registry.sql.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    # The caller's transaction and lock span all revisions.
    transactional_ddl=False,
)
context.run_migrations()
