"""The SQL registry's schema: migrations, versions and what errors say."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from glancelike.errors import ConfigError, RegistryError, RegistryUnavailable, SchemaNewer, SchemaOutdated
from glancelike.model import Image
from glancelike.registry.base import ADMIN
from glancelike.registry.sql import SqlRegistry, migrations
from glancelike.registry.sql.migrations import COMPATIBILITY_TABLE, VERSION_TABLE, revisions
from glancelike.registry.sql.tables import metadata

HEAD = revisions()[-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images.db"


def registry_at(path: Path | str) -> SqlRegistry:
    return SqlRegistry({"connection": f"sqlite:///{path}", "sqlite_busy_timeout": 0.2})


def set_revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", (revision,))
        connection.commit()


def migrated(path: Path) -> None:
    """Make the tables by the revisions, which ``upgrade`` doesn't run on an empty database."""
    registry = registry_at(path)
    while (step := registry.next_step()) is not None:
        registry.upgrade_by(step)


def test_migrations_make_what_the_code_uses(path: Path) -> None:
    migrated(path)
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_name": lambda name, kind, _: (kind, name) != ("table", VERSION_TABLE),
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_tables_are_alike_to_the_letter(path: Path, tmp_path: Path) -> None:
    """Catch what the comparison of alembic doesn't look at, such as WITHOUT ROWID, and rows."""
    migrated(path)
    made = tmp_path / "made.db"
    registry_at(made).upgrade()
    assert schema_of(path) == schema_of(made)
    assert rows_of(path) == rows_of(made) == {COMPATIBILITY_TABLE: [("0007",)], VERSION_TABLE: [(HEAD,)]}


def schema_of(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    # A table that was made anew has its name in quotes.
    return {name: "".join(sql.replace('"', "").split()) for name, sql in found}


def rows_of(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables}
    return {name: rows for name, rows in found.items() if rows}


def test_revisions_are_what_alembic_finds() -> None:
    config = Config()
    config.set_main_option("script_location", "glancelike.registry.sql:migrations")
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()][::-1] == revisions()
    assert scripts.get_heads() == [HEAD]


def test_versions(path: Path) -> None:
    registry = registry_at(path)
    assert registry.schema_version() == (None, HEAD)
    assert not path.exists(), "asking must not make a file"
    registry.upgrade()
    assert registry.schema_version() == (HEAD, HEAD)
    set_revision(path, "9999")
    assert registry.schema_version() == ("9999", HEAD)


@pytest.mark.parametrize("empty_file", [False, True])
def test_no_tables_yet(path: Path, empty_file: bool) -> None:
    if empty_file:
        path.touch()
    with pytest.raises(SchemaOutdated, match=r"images\.db.*run `glancelike db upgrade`"):
        registry_at(path).open()
    assert path.exists() == empty_file


def test_an_older_schema(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry_at(path).upgrade()
    (tmp_path / "9998_later.py").touch()
    monkeypatch.setattr(migrations, "DIRECTORIES", [*migrations.DIRECTORIES, tmp_path])
    with pytest.raises(SchemaOutdated, match=f"{HEAD}.*9998.*run `glancelike db upgrade`"):
        registry_at(path).open()


@pytest.mark.parametrize(
    ("revision", "oldest"), [("9999", "9999"), ("9999", None), (HEAD, "9999"), ("0000", HEAD), ("", HEAD)]
)
def test_a_schema_for_other_code(path: Path, revision: str, oldest: str | None) -> None:
    """Even at a revision it knows: a newer version may have begun to contract."""
    registry_at(path).upgrade()
    set_revision(path, revision)
    with closing(sqlite3.connect(path)) as connection:
        if oldest is None:
            connection.execute(f"DROP TABLE {COMPATIBILITY_TABLE}")
        else:
            connection.execute(f"UPDATE {COMPATIBILITY_TABLE} SET oldest = ?", (oldest,))
        connection.commit()
    for call in (registry_at(path).open, registry_at(path).upgrade, registry_at(path).next_step):
        with pytest.raises(SchemaNewer, match=f"{revision}.*{HEAD}"):
            call()


def test_every_revision_may_be_run_again(path: Path) -> None:
    """Where a change of the schema commits by itself, a killed upgrade leaves some of them."""
    registry_at(path).upgrade()
    whole = schema_of(path)
    for at in (None, *revisions()[:-1]):
        with closing(sqlite3.connect(path)) as connection:
            if at is None:
                connection.execute(f"DELETE FROM {VERSION_TABLE}")
            else:
                connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", (at,))
            connection.commit()
        registry_at(path).upgrade()
        assert schema_of(path) == whole
    registry_at(path).open()


def test_upgrade_refuses_tables_of_somebody_else(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE image_tags (id INTEGER)")
    with pytest.raises(RegistryError, match="image_tags"):
        registry_at(path).upgrade()
    assert list(schema_of(path)) == ["image_tags"], "a failed upgrade leaves nothing behind"


def test_upgrade_waits_for_another_only_so_long(path: Path) -> None:
    registry_at(path).upgrade()
    set_revision(path, "0003")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryUnavailable, match="locked"):
            registry_at(path).upgrade()


@pytest.mark.parametrize("method", ["open", "upgrade", "schema_version"])
@pytest.mark.parametrize(
    ("name", "said"), [("missing/images.db", "no directory .*missing"), ("", "is a directory")]
)
def test_impossible_paths(tmp_path: Path, method: str, name: str, said: str) -> None:
    registry = registry_at(tmp_path / name)
    with pytest.raises(RegistryUnavailable, match=said) as caught:
        getattr(registry, method)()
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("method", ["open", "upgrade", "schema_version"])
@pytest.mark.parametrize(("mode", "said"), [(0o500, "isn't writable"), (0, "Permission denied")])
def test_forbidden_paths(method: str, mode: int, said: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = Path(directory, "images.db")
        registry_at(path).upgrade()
        path.chmod(0o400)
        if os.geteuid() == 0:
            for each in (path, Path(directory)):
                os.chown(each, 65534, 65534)
        Path(directory).chmod(mode)
        try:
            message = as_nobody(getattr(registry_at(path), method))
        finally:
            Path(directory).chmod(0o700)
    assert re.search(f"RegistryUnavailable.*{path}.*{said}", message), message


def as_nobody(call: Callable[[], object]) -> str:
    """Call in a child without root's rights; return the error."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # A messaging library loaded by another test warns of every fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            call()
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as stream:
        return stream.read()


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_text("hello " * 1000)
    for call in (registry_at(path).open, registry_at(path).upgrade):
        with pytest.raises(RegistryError, match=r"images\.db.*not a database"):
            call()


@pytest.mark.parametrize(
    "connection",
    [
        None,
        "",
        "images.db",
        "sqlite://",
        "sqlite:///:memory:",
        "oracle://u:secret@host/x",
        "u:secret@host",
    ],
)
def test_bad_connections(connection: str | None) -> None:
    with pytest.raises(ConfigError, match="connection") as caught:
        SqlRegistry({"connection": connection})
    assert "secret" not in str(caught.value)


def test_no_password_in_errors() -> None:
    registry = SqlRegistry({"connection": "postgresql+nosuchdriver://u:secret@127.0.0.1/x?password=secret"})
    with pytest.raises(ConfigError, match="nosuchdriver") as caught:
        registry.open()
    assert "secret" not in str(caught.value)


def test_not_open(path: Path) -> None:
    registry = registry_at(path)
    registry.upgrade()
    with pytest.raises(RegistryError, match="not open"):
        registry.get("a", ADMIN)
    with pytest.raises(RegistryError, match="not open"):
        registry.create(Image("a"))


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = SqlRegistry(SqlRegistry.settings_from_uri("sqlite:///odd%25name.db"))
    registry.upgrade()
    assert (tmp_path / "odd%name.db").exists()
