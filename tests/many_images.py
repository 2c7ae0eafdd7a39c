"""Fill a registry's database with any number of images, quickly and always the same.

Around the images of a crowd of projects, very different in size, there are
some whose number doesn't depend on how many there are: those that listings
are asked for. So what a listing costs can be compared between databases.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import md5, sha512
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glancelike.registry.sql import SqlRegistry, tables
from glancelike.registry.sql.migrations import VERSION_TABLE

START = datetime(2024, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=1)  # between two images
ORDINARY, FRIEND = "ordinary", "friend"  # projects
OWN = 100  # images of each of the first two
RARE = 50  # images with the tag, the property and the format
SHARED = 10_000  # images shared with FRIEND
TABLES = (tables.images, tables.tags, tables.properties, tables.locations, tables.members)


def _weighted(**weights: int) -> list[str]:
    """Make a list to choose from at random."""
    return [value for value, weight in weights.items() for _ in range(weight)]


STATUSES = _weighted(
    active=90, queued=3, deactivated=2, killed=1, saving=1, uploading=1, importing=1, pending_delete=1
)
VISIBILITIES = _weighted(private=60, shared=30, public=5, community=5)
DISTRIBUTIONS = _weighted(ubuntu=40, debian=25, rhel=20, windows=10, freebsd=5)
ARCHITECTURES = _weighted(x86_64=90, aarch64=10)
TAGS = _weighted(base=50, web=20, database=15, legacy=10, gpu=5)
FORMATS = _weighted(qcow2=70, raw=28, iso=2)
NULL = "\\N"
Row = list[str]


@dataclass(frozen=True)
class Population:
    """How many images there are: of the crowd, and shared with FRIEND; some hundreds are added.

    One in ten of the crowd's is deleted, some are hidden, one in a hundred has no name.
    """

    images: int
    shared: int = SHARED

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Make rows as (index into TABLES, values as text)."""
        chance = random.Random(20240101)
        special = [*["friends"] * self.shared, *["ordinary"] * OWN, *["friend"] * OWN, *["rare"] * RARE]
        total = self.images + len(special)
        places = dict(zip(chance.sample(range(total), len(special)), special, strict=True))
        for number in range(total):
            yield from self._image(chance, number, places.get(number))

    def _image(self, chance: random.Random, number: int, kind: str | None) -> Iterator[tuple[int, Row]]:
        id_ = str(UUID(int=chance.getrandbits(128), version=4))
        deleted = kind is None and number % 10 == 7
        status = chance.choice(STATUSES) if kind is None else "active"
        owner = self._owner(chance) if kind in (None, "rare", "friends") else kind
        visibility = chance.choice(VISIBILITIES) if kind != "friends" else "shared"
        shelf = tables.HIDDEN if kind is None and chance.random() < 0.03 else tables.LISTED
        if status == "pending_delete":
            shelf = tables.PENDING[shelf]
        created = START + number * STEP
        updated = created + timedelta(hours=chance.expovariate(1 / 24))
        sized = not deleted and status != "queued"
        size = int(chance.lognormvariate(21, 1.5))
        if kind == "rare":
            size += 1 << 50
        digest = md5(id_.encode(), usedforsecurity=False).hexdigest()
        yield (
            0,
            [
                id_,
                "1",
                str(tables.DELETED if deleted else shelf),
                "deleted" if deleted else status,
                "private" if deleted else visibility,
                NULL if deleted or number % 100 == 1 else f"image-{number // 4}",
                NULL if deleted else owner,
                "0",
                NULL if deleted else "vhdx" if kind == "rare" else chance.choice(FORMATS),
                NULL if deleted else "bare",
                "0" if deleted else str(number % 3 * 10),
                "0" if deleted else str(number % 4 * 512),
                str(size) if sized else NULL,
                str(size) if sized else NULL,
                NULL if deleted else digest,
                NULL if deleted else "sha512",
                NULL if deleted else sha512(id_.encode()).hexdigest(),
                _time(created),
                _time(updated),
                _time(updated + timedelta(days=1)) if deleted else NULL,
            ],
        )
        if deleted:
            return
        for tag in {chance.choice(TAGS), f"team-{number % 1000}"} | ({"rare"} if kind == "rare" else set()):
            yield 1, [id_, tag]
        properties = {
            "os_distro": "beos" if kind == "rare" else chance.choice(DISTRIBUTIONS),
            "architecture": chance.choice(ARCHITECTURES),
            "build": f"build-{number}",
        }
        for name, value in properties.items():
            yield 2, [id_, name, value, value]
        if status != "queued":
            yield 3, [id_, "0", "disk", id_, "{}"]
        members = {}
        if kind == "friends":
            members[FRIEND] = "accepted"
        elif visibility == "shared":
            members = {self._owner(chance): chance.choice(("pending", "accepted", "rejected"))}
        for project, status in members.items():
            yield 4, [id_, project, status, _time(created), _time(updated), _time(created)]

    def _owner(self, chance: random.Random) -> str:
        """Choose one of the crowd: the first has hundreds of times as many images as the last."""
        return f"project-{int(max(10, self.images // 50) * chance.random() ** 3)}"


def _time(moment: datetime) -> str:
    return moment.isoformat(" ", "microseconds")[:26]


def write(population: Population, directory: Path) -> None:
    """Write the rows to one file a table, as PostgreSQL and MariaDB both read them."""
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files = [
            stack.enter_context((directory / table.name).open("w", encoding="ascii", buffering=1 << 20))
            for table in TABLES
        ]
        for number, row in population.rows():
            files[number].write("\t".join(row) + "\n")


def load(registry: SqlRegistry, directory: Path) -> None:
    """Make the tables and fill them from ``directory``; indexes come last, statistics are fresh."""
    registry.upgrade()
    url = sa.make_url(registry.settings["connection"])
    arguments = {"local_infile": True} if url.get_backend_name() == "mysql" else {}
    engine = sa.create_engine(url, connect_args=arguments)
    copy = {"postgresql": _copy_postgresql, "mysql": _copy_mysql, "sqlite": _copy_sqlite}[engine.dialect.name]
    with engine.begin() as connection:
        for table in TABLES:
            for index in sa.inspect(connection).get_indexes(table.name):
                where = f" ON {table.name}" if engine.dialect.name == "mysql" else ""
                connection.exec_driver_sql(f"DROP INDEX {index['name']}{where}")
        for table in TABLES:
            copy(connection, table, directory / table.name)
        # The revisions make what isn't there when they are run once more.
        connection.exec_driver_sql(f"DELETE FROM {VERSION_TABLE}")
    registry.upgrade()
    refresh(engine)
    engine.dispose()


def refresh(engine: sa.Engine) -> None:
    """Have the database look at what its tables hold."""
    statements = {
        "postgresql": [f"VACUUM ANALYZE {table.name}" for table in TABLES],
        "mysql": [f"ANALYZE TABLE {table.name}" for table in TABLES],
    }
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for statement in statements.get(engine.dialect.name, []):  # SQLite is run without
            connection.exec_driver_sql(statement)


def _copy_postgresql(connection: Connection, table: sa.Table, file: Path) -> None:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    connection.exec_driver_sql("SET LOCAL session_replication_role = replica")  # foreign keys fit
    raw: Any = connection.connection.driver_connection
    with raw.cursor().copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy, file.open("rb") as source:
        while block := source.read(1 << 20):
            copy.write(block)


def _copy_mysql(connection: Connection, table: sa.Table, file: Path) -> None:
    columns = ", ".join(f"`{column.name}`" for column in table.columns)
    connection.exec_driver_sql("SET foreign_key_checks = 0, unique_checks = 0")
    connection.exec_driver_sql(
        f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE {table.name} CHARACTER SET utf8mb4 ({columns})"
    )
    connection.exec_driver_sql("SET foreign_key_checks = 1, unique_checks = 1")


def _copy_sqlite(connection: Connection, table: sa.Table, file: Path) -> None:
    marks = ", ".join("?" * len(table.columns))
    with file.open(encoding="ascii") as source:
        rows = (
            tuple(None if value == NULL else value for value in line.rstrip("\n").split("\t"))
            for line in source
        )
        raw: Any = connection.connection.driver_connection
        raw.executemany(f"INSERT INTO {table.name} VALUES ({marks})", rows)
