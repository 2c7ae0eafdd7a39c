"""``glancelike db …``, in this process."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from glancelike.cli import main
from glancelike.model import Image, Task, TaskStatus, TaskType, utcnow
from glancelike.registry.sql import SqlRegistry, tables
from tests.server_fixtures import write_config


def registry_of(directory: Path) -> SqlRegistry:
    registry = SqlRegistry({"connection": f"sqlite:///{directory}/glancelike.db"})
    registry.open()
    return registry


def test_upgrade_check_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = ["--config-file", str(write_config(tmp_path, upgrade=False)), "db"]
    assert main([*db, "version"]) == 0
    assert capsys.readouterr().out == "none\n"
    assert main([*db, "check"]) == 3
    assert "glancelike db upgrade" in capsys.readouterr().out
    assert main([*db, "sync"]) == main([*db, "upgrade"]) == main([*db, "check"]) == 0
    assert main([*db, "version"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].isalnum()
    with sa.create_engine(f"sqlite:///{tmp_path}/glancelike.db").begin() as connection:
        connection.exec_driver_sql("UPDATE glancelike_version SET version_num = '9999'")
    assert main([*db, "check"]) == 0, "a newer schema that this code works with"
    with sa.create_engine(f"sqlite:///{tmp_path}/glancelike.db").begin() as connection:
        connection.exec_driver_sql("UPDATE glancelike_compatibility SET oldest = '9999'")
    assert main([*db, "check"]) == 1
    assert "newer version" in " ".join(capsys.readouterr().err.split())


def test_purge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = ["--config-file", str(write_config(tmp_path)), "db", "purge"]
    registry = registry_of(tmp_path)
    for number in range(7):
        registry.create(Image(f"{number}", name="secret"))
        registry.delete(f"{number}", expect=1)
    registry.create(Image("alive"))
    old = utcnow() - timedelta(days=31)
    with registry._writing() as connection:
        first = tables.images.c.id < "5"
        connection.execute(sa.update(tables.images).where(first).values(deleted_at=old))
    registry.create_task(Task("t", TaskType.IMPORT, status=TaskStatus.FAILURE, expires_at=old))
    for words, said in (
        (["--max-rows", "2"], "2 images, 1 tasks, 0 leases, 0 reservations"),
        ([], "3 images, 0 tasks, 0 leases, 0 reservations"),
        ([], "0 images, 0 tasks"),
        (["--age_in_days", "0", "--max_rows", "1"], "1 images"),
        (["--age-in-days", "0"], "1 images"),
    ):
        assert main([*db, *words]) == 0
        assert capsys.readouterr().out.startswith(f"purged {said}"), words
    with registry._reading() as connection:
        rows = connection.execute(sa.select(tables.images.c.id, tables.images.c.name)).all()
    assert sorted(rows) == [*((f"{number}", None) for number in range(7)), ("alive", None)]
    registry.close()


@pytest.mark.parametrize(
    "words", [["--age-in-days", "-1"], ["--age-in-days", "999999999"], ["--max-rows", "-2"]]
)
def test_a_purge_that_makes_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["--config-file", str(write_config(tmp_path)), "db", "purge", *words]) == 1
    assert words[0] in capsys.readouterr().err
