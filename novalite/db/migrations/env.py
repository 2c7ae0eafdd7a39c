"""Run the revisions on the connection that ``schema`` hands over."""

from alembic import context

from novalite.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # The caller's transaction and lock span all revisions.
    transactional_ddl=False,
)
context.run_migrations()
