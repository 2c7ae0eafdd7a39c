"""Run the revisions on the connection that ``schema`` hands over."""

from alembic import context

from novalite.db.tables import metadata

connection = context.config.attributes["connection"]
# SQLite can roll back DDL, whatever alembic's cautious default says.
context.configure(
    connection=connection, target_metadata=metadata, transactional_ddl=connection.dialect.name != "mysql"
)
with context.begin_transaction():
    context.run_migrations()
