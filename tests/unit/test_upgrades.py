"""Upgrades beside running servers: what older and newer code make of one database.

The newer code is this one with more revisions, in a directory of their own:
one that adds a column, and one that takes the place of another away.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from glancelike.cli import main
from glancelike.errors import SchemaNewer, SchemaOutdated, StaleImage
from glancelike.model import Filter, Image, Location, Member, MemberStatus, Op, Query
from glancelike.registry.base import ADMIN, Step
from glancelike.registry.sql import SqlRegistry, migrations, schema
from glancelike.sql import upgrading
from tests import warm
from tests.server_fixtures import BIN, write_config

ADDS, CONTRACTS = "9997", "9998"
ADDING = """
import sqlalchemy as sa
from glancelike.sql.steps import add_column, create_index

revision, down_revision = "{revision}", "{before}"


def upgrade() -> None:
    add_column("images", sa.Column("digest", sa.String(64)))
    create_index("ix_images_digest", "images", ["digest"])
"""
CONTRACTING = """
import sqlalchemy as sa
from glancelike.sql.steps import drop_column, drop_index

revision, down_revision = "{revision}", "{before}"
images = sa.table("images", sa.column("id"), sa.column("checksum"), sa.column("digest"))
unmoved = images.c.checksum.is_not(None) & images.c.digest.is_(None)


def left(connection):
    return connection.execute(sa.select(images.c.id).where(unmoved).limit(1)).first() is not None


def migrate(connection, limit):
    ids = connection.execute(sa.select(images.c.id).where(unmoved).limit(limit)).scalars().all()
    connection.execute(sa.update(images).where(images.c.id.in_(ids)).values(digest=images.c.checksum))
    return len(ids)


def upgrade() -> None:
    drop_index("ix_images_checksum", "images")
    drop_column("images", "checksum")
"""
Newer = Callable[[], AbstractContextManager[None]]


def write_revisions(directory: Path) -> Path:
    """Write what the newer code has more."""
    directory.mkdir()
    head = migrations.revisions()[-1]
    (directory / f"{ADDS}_adds.py").write_text(ADDING.format(revision=ADDS, before=head))
    (directory / f"{CONTRACTS}_contracts.py").write_text(CONTRACTING.format(revision=CONTRACTS, before=ADDS))
    return directory


@pytest.fixture
def newer(tmp_path: Path) -> Newer:
    """Make this process the newer code for a while."""
    directory = write_revisions(tmp_path / "newer")

    @contextmanager
    def context() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(migrations, "DIRECTORIES", [*migrations.DIRECTORIES, directory])
            patched.setattr(migrations, "CONTRACTING", {CONTRACTS: CONTRACTS})
            yield

    return context


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    return write_config(tmp_path)


@pytest.fixture
def registry(config_file: Path) -> SqlRegistry:
    settings = {"connection": f"sqlite:///{config_file.parent}/glancelike.db", "sqlite_synchronous": False}
    return SqlRegistry(settings)


@contextmanager
def opened(registry: SqlRegistry) -> Iterator[SqlRegistry]:
    another = SqlRegistry(registry.settings)
    another.open()
    try:
        yield another
    finally:
        another.close()


def test_older_code_and_newer_on_one_expanded_database(registry: SqlRegistry, newer: Newer) -> None:
    with opened(registry) as before:  # runs while the schema changes
        with newer():
            assert registry.next_step() is Step.EXPAND
            assert registry.upgrade_by(Step.EXPAND) == 1
            started = SqlRegistry(registry.settings)
            started.open()
        with opened(registry) as after, closing(started):  # is started afterwards
            for number, (old, new) in enumerate([(before, started), (started, before), (after, started)]):
                exchange(f"image{number}", old, new)
        registry.upgrade()  # of older code: nothing is left for it to do
        assert registry.next_step() is None
        assert registry.schema_version() == (ADDS, migrations.revisions()[-1])


def exchange(image_id: str, one: SqlRegistry, other: SqlRegistry) -> None:
    """Have two registries work on an image in turns, each seeing what the other did."""
    image = one.create(
        Image(image_id, name="one", owner="p", tags=frozenset({"t"}), properties={"os": "bsd"}, checksum="c")
    )
    assert other.get(image_id, ADMIN) == image
    place = (Location("disk", f"{image_id}-0"),)
    changed = other.update(replace(image, name="other", locations=place, tags=frozenset()), expect=1)
    assert one.get(image_id, ADMIN) == changed
    with pytest.raises(StaleImage):
        one.update(image, expect=1)
    found = Query(filters=(Filter("name", Op.EQ, "other"), Filter("os", Op.EQ, "bsd", is_property=True)))
    assert image_id in {each.id for each in one.list(replace(found, visibility="all"), ADMIN).images}
    assert one.locations_of([image_id]) == {image_id: (("disk", f"{image_id}-0"),)}
    other.add_member(Member(image_id, "m"))
    assert one.update_member(Member(image_id, "m", MemberStatus.ACCEPTED)).status is MemberStatus.ACCEPTED
    assert [member.status for member in other.list_members(image_id)] == [MemberStatus.ACCEPTED]
    assert one.acquire_lease(image_id, "one", 60)
    assert not other.acquire_lease(image_id, "other", 60)
    one.release_lease(image_id, "one")
    assert other.acquire_lease(image_id, "other", 60)
    assert not one.renew_lease(image_id, "one", 60)
    one.delete(image_id, expect=2)
    assert other.locations_of([image_id]) == {}


def test_contracting(registry: SqlRegistry, newer: Newer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BATCH", 3)
    with opened(registry) as old:
        for number in range(7):
            old.create(Image(f"{number}", checksum=f"sum{number}"))
        with newer():
            for step in (Step.MIGRATE, Step.CONTRACT):
                with pytest.raises(SchemaOutdated, match="glancelike db expand"):
                    registry.upgrade_by(step)
            assert registry.upgrade_by(Step.EXPAND) == 1
            assert registry.upgrade_by(Step.EXPAND) == 0
            with pytest.raises(SchemaOutdated, match="glancelike db migrate"):
                registry.upgrade_by(Step.CONTRACT)
            assert registry.upgrade_by(Step.MIGRATE) == 7
            assert registry.next_step() is Step.CONTRACT
        old.create(Image("late", checksum="late"))
    with newer():
        # What old code wrote after the migration holds the contraction up.
        with pytest.raises(SchemaOutdated, match="glancelike db migrate"):
            registry.upgrade_by(Step.CONTRACT)
        assert registry.upgrade_by(Step.MIGRATE) == 1
        assert registry.upgrade_by(Step.MIGRATE) == 0
        assert registry.upgrade_by(Step.CONTRACT) == 1
        assert registry.next_step() is None
        assert [registry.upgrade_by(step) for step in Step] == [0, 0, 0]
    for call in (registry.open, registry.upgrade, registry.next_step):
        with pytest.raises(SchemaNewer, match=f"{CONTRACTS}.*newer version"):
            call()


def test_older_code_is_shut_out_before_a_contraction_begins(
    registry: SqlRegistry, newer: Newer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where changes of a schema commit by themselves, one that fails is there in part."""

    def fail(connection: Connection, _config: Any, _revision: str) -> None:
        connection.commit()  # as MariaDB does
        raise RuntimeError

    with newer():
        registry.upgrade_by(Step.EXPAND)
        with monkeypatch.context() as patched:
            patched.setattr(upgrading, "run", fail)
            with pytest.raises(RuntimeError):
                registry.upgrade_by(Step.CONTRACT)
    with pytest.raises(SchemaNewer, match=f"needs code of {CONTRACTS}"):
        registry.open()
    with closing(sqlite3.connect(registry.settings["connection"].removeprefix("sqlite:///"))) as connection:
        connection.execute("DROP INDEX ix_images_checksum")
        connection.commit()
    with newer():
        assert registry.upgrade_by(Step.CONTRACT) == 1


def test_all_at_once(registry: SqlRegistry, newer: Newer) -> None:
    with opened(registry) as old:
        old.create(Image("a", checksum="sum"))
    with newer():
        registry.upgrade()
        assert registry.schema_version() == (CONTRACTS, CONTRACTS)
    with closing(sqlite3.connect(registry.settings["connection"].removeprefix("sqlite:///"))) as connection:
        assert connection.execute("SELECT digest FROM images").fetchall() == [("sum",)]


def test_check_says_what_is_next(
    config_file: Path, registry: SqlRegistry, newer: Newer, capsys: pytest.CaptureFixture[str]
) -> None:
    db = ["--config-file", str(config_file), "db"]
    with opened(registry) as old:
        old.create(Image("a", checksum="sum"))
    with newer():
        for status, step in ((3, "expand"), (4, "migrate"), (5, "contract")):
            assert main([*db, "check"]) == status
            assert f"`glancelike db {step}`" in capsys.readouterr().out
            assert main([*db, step]) == 0
            assert capsys.readouterr().out.startswith("1 r")
        assert main([*db, "check"]) == 0
        assert main([*db, "migrate"]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("0 rows moved; the schema is at revision")


RUN = """
import sys
from pathlib import Path
from glancelike.cli import main
from glancelike.registry.sql import migrations
migrations.DIRECTORIES.append(Path(sys.argv[1]))
migrations.CONTRACTING = {sys.argv[2]: sys.argv[2]}
sys.exit(main(sys.argv[3:]))
"""


def newer_process(directory: Path, *words: str) -> subprocess.Popen[str]:
    """Run the newer code's ``glancelike``."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(directory), CONTRACTS, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("where", [ADDS, CONTRACTS])
def test_an_upgrade_that_was_killed_is_gone_on_with(tmp_path: Path, where: str) -> None:
    config_file = write_config(tmp_path, upgrade=False)
    words = ("--config-file", str(config_file), "db", "upgrade")
    directory = write_revisions(tmp_path / "newer")
    module = next(directory.glob(f"{where}_*.py"))
    whole = module.read_text()
    module.write_text(f"{whole}    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    process = newer_process(directory, *words)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    module.write_text(whole)
    process = newer_process(directory, *words)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    process = newer_process(directory, *words[:-1], "check")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said


def test_upgrades_at_once(tmp_path: Path) -> None:
    command = [str(BIN / "glancelike"), "--config-file", str(write_config(tmp_path, upgrade=False)), "db"]
    logs = [tmp_path / f"{number}.log" for number in range(3)]
    processes = []
    for log in logs:
        with log.open("wb") as output:
            processes.append(warm.start([*command, "upgrade"], stdout=output, stderr=output))
    statuses = [process.wait(120) for process in processes]
    assert statuses == [0, 0, 0], [log.read_text() for log in logs]
    assert warm.run([*command, "check"]).returncode == 0
