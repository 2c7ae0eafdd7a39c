"""What is in a database, for tests that compare schemas."""

from __future__ import annotations

import sqlalchemy as sa


def schema_of(url: str, *, but: str = "") -> dict[str, object]:
    """Describe all tables, without one, in the database's own words."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        names = {*sa.inspect(connection).get_table_names()} - {but}
        return {name: described(connection, name) for name in names}


def described(connection: sa.Connection, table: str) -> object:
    """Return the definition of a table, with its collations, keys and indexes."""
    if connection.dialect.name == "mysql":
        definition: str = connection.exec_driver_sql(f"SHOW CREATE TABLE {table}").one()[1]
        # Keys in any order: the migrations add some later.
        return sorted(line.strip().rstrip(",") for line in definition.splitlines())
    if connection.dialect.name == "sqlite":
        # Columns in any order: the migrations add some at the end.
        info = connection.exec_driver_sql(f"PRAGMA table_info({table})")
        made = sa.text("SELECT sql FROM sqlite_master WHERE tbl_name = :table AND type = 'index'")
        indexes = connection.scalars(made, {"table": table})
        return sorted(map(repr, [*(tuple(row)[1:] for row in info), *indexes]))
    columns = "column_name, data_type, character_maximum_length, collation_name, is_nullable, column_default"
    parts = (
        f"{columns} FROM information_schema.columns WHERE table_name = :table",
        "indexdef FROM pg_indexes WHERE tablename = :table",
        "conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = CAST(:table AS regclass)",
    )
    return [
        [tuple(row) for row in connection.execute(sa.text(f"SELECT {part} ORDER BY 1"), {"table": table})]
        for part in parts
    ]
