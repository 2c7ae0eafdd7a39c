"""What the SQL registry's calls cost with few images and with a hundred times as many.

    python -m benchmarks.registry [DATABASE ...] [--images 1000000] [--purge] [--json FILE]

Each call is made in turns on two databases of one server, so look at the
ratios of the medians (1: what it costs doesn't grow). Besides the images of
the crowd both have the same 10,000 that are shared with one project, and
some hundreds that listings ask for (tests/many_images.py). ``--purge`` also
purges the larger one's tombstones while others read and write.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from glancelike.model import Filter, Image, Member, Op, Query, SortKey, Status, Viewer, utcnow
from glancelike.registry.base import ADMIN
from glancelike.registry.sql import SqlRegistry
from tests.database_servers import SERVERS
from tests.many_images import FRIEND, ORDINARY, START, STEP, Population, load, write

FEW = 10_000
WARM = 15  # calls before it counts: by then the server has prepared its statements
GOAL = 1.5
OPTIONS = {
    "postgresql": {"shared_buffers": "1GB", "maintenance_work_mem": "512MB", "max_wal_size": "4GB"},
    "mariadb": {"innodb-buffer-pool-size": "2G", "innodb-log-file-size": "512M"},
}
VIEWERS = {"project": Viewer(ORDINARY), "friend": Viewer(FRIEND), "admin": ADMIN}
OLDEST_FIRST = (SortKey("created_at", False),)


@dataclass
class Database:
    """One filled database: the open registry, and some of what is in it."""

    registry: SqlRegistry
    images: int
    listed: list[str]  # ids that admins see
    own: list[str]  # ids of ORDINARY
    names: list[str]
    chance: random.Random

    @property
    def middle(self) -> Any:
        return START + self.images // 2 * STEP


Call = Callable[[Database], object]


def listing(viewer: str, **query: Any) -> Call:
    asked = Query(**query)
    return lambda database: database.registry.list(asked, VIEWERS[viewer])


def by(field: str, op: Op, value: Any, *, is_property: bool = False) -> tuple[Filter, ...]:
    return (Filter(field, op, value, is_property),)


def deep(viewer: str, **query: Any) -> Call:
    def call(database: Database) -> object:
        marker = database.chance.choice(database.own if viewer == "project" else database.listed)
        return database.registry.list(Query(marker=marker, **query), VIEWERS[viewer])

    return call


def by_name(viewer: str) -> Call:
    def call(database: Database) -> object:
        filters = by("name", Op.EQ, database.chance.choice(database.names))
        return database.registry.list(Query(filters=filters), VIEWERS[viewer])

    return call


def changed_within(viewer: str, hours: int, field: str = "updated_at") -> Call:
    def call(database: Database) -> object:
        found = (
            Filter(field, Op.GTE, database.middle),
            Filter(field, Op.LT, database.middle + timedelta(hours=hours)),
        )
        return database.registry.list(Query(filters=found), VIEWERS[viewer])

    return call


def create(database: Database) -> object:
    image = Image(str(uuid.uuid4()), name="new", owner="bench", tags=frozenset({"base"}))
    return database.registry.create(replace(image, properties={"os_distro": "debian"}))


def update(database: Database) -> object:
    image = database.registry.get(database.chance.choice(database.listed), ADMIN)
    image = replace(image, name="changed", properties={**image.properties, "changed": str(uuid.uuid4())})
    return database.registry.update(image, expect=image.version)


def share(database: Database) -> object:
    return database.registry.add_member(Member(database.chance.choice(database.listed), str(uuid.uuid4())))


def cases() -> Iterator[tuple[str, Call]]:
    """Name what is measured."""
    for viewer in VIEWERS:
        yield f"first page, {viewer}", listing(viewer)
        if viewer != "friend":
            yield f"page after a marker, {viewer}", deep(viewer)
            yield f"page after a marker by name, {viewer}", deep(viewer, sort=(SortKey("name", False),))
        yield f"everything visible, {viewer}", listing(viewer, visibility="all")
    for visibility in ("public", "private", "shared", "community"):
        yield f"{visibility}, project", listing("project", visibility=visibility)
        yield f"{visibility}, admin", listing("admin", visibility=visibility)
    yield "10,000 shared and accepted, friend", listing("friend", visibility="shared")
    yield "10,000 shared by name, friend", listing("friend", visibility="shared", sort=(SortKey("name"),))
    yield "all member statuses, friend", listing("friend", visibility="shared", member_status="all")
    yield "page of 1000, admin", listing("admin", limit=1000)
    yield "hidden, admin", listing("admin", hidden=True)
    for field in ("name", "size", "updated_at"):
        for viewer in ("project", "admin"):
            yield f"sorted by {field}, {viewer}", listing(viewer, sort=(SortKey(field),))
            yield f"sorted by {field}, ascending, {viewer}", listing(viewer, sort=(SortKey(field, False),))
    for viewer in ("project", "admin"):
        yield from filters(viewer)
    yield "owner with 100 images, admin", listing("admin", filters=by("owner", Op.EQ, ORDINARY))
    yield "owner with one in 30, admin", listing("admin", filters=by("owner", Op.EQ, "project-0"))
    yield "show, project", lambda d: d.registry.get(d.chance.choice(d.own), VIEWERS["project"])
    yield "show, admin", lambda d: d.registry.get(d.chance.choice(d.listed), ADMIN)
    yield "quota usage, project", lambda d: d.registry.usage(ORDINARY)
    yield "locations of 1000 images", lambda d: d.registry.locations_of(d.chance.choices(d.listed, k=1000))
    yield "create", create
    yield "update", update
    yield "share", share


def filters(viewer: str) -> Iterator[tuple[str, Call]]:
    found: dict[str, dict[str, Any]] = {
        "common property": {"filters": by("os_distro", Op.EQ, "debian", is_property=True)},
        "property of 50": {"filters": by("os_distro", Op.EQ, "beos", is_property=True)},
        "no such property": {"filters": by("os_distro", Op.EQ, "dos", is_property=True)},
        "common tag": {"tags": frozenset({"base"})},
        "tag of one in 1000": {"tags": frozenset({"team-7"})},
        "tag of 50": {"tags": frozenset({"rare"})},
        "size, most": {"filters": by("size", Op.LTE, 1 << 34)},
        "size, largest 50": {"filters": by("size", Op.GTE, 1 << 50)},
        "size, none": {"filters": by("size", Op.LTE, 10)},
        "status of most": {"filters": by("status", Op.EQ, Status.ACTIVE)},
        "status of 1%": {"filters": by("status", Op.EQ, Status.SAVING)},
        # Of few images a project sees no more with it: with a whole page 3 images are compared with 25.
        "status of 1%, 3 images": {"filters": by("status", Op.EQ, Status.SAVING), "limit": 3},
        "disk format of 50": {"filters": by("disk_format", Op.EQ, "vhdx")},
        "container format of none": {"filters": by("container_format", Op.EQ, "ova")},
        "min_ram, none": {"filters": by("min_ram", Op.GTE, 10_000)},
        "protected, none": {"filters": by("protected", Op.EQ, True)},
        "common property, tag, status and size": {
            "filters": (
                Filter("os_distro", Op.EQ, "debian", True),
                Filter("status", Op.EQ, Status.ACTIVE),
                Filter("size", Op.GTE, 1 << 30),
            ),
            "tags": frozenset({"base"}),
        },
        "common property and tag of 50": {
            "filters": by("architecture", Op.EQ, "x86_64", is_property=True),
            "tags": frozenset({"rare"}),
        },
    }
    yield f"name, {viewer}", by_name(viewer)
    yield f"changed within an hour, {viewer}", changed_within(viewer, 1)
    yield f"created within an hour, {viewer}", changed_within(viewer, 1, "created_at")
    for name, query in found.items():
        yield f"{name}, {viewer}", listing(viewer, **query)


@contextmanager
def servers(kind: str, folder: Path) -> Iterator[Callable[[str], str]]:
    """Run a server; give what makes a database and tells its URL."""
    if kind == "sqlite":
        yield lambda name: f"sqlite:///{folder}/{name}.db"
        return
    (server,) = [each for each in SERVERS if each.name == kind]
    running = server(folder / kind, OPTIONS[kind])
    try:
        yield running.make_database
    finally:
        running.stop()


def opened(url: str, population: Population, rows: Path) -> Database:
    registry = SqlRegistry({"connection": url})
    registry.open()
    listed, own, names = [], [], []
    with (rows / "images").open() as lines:
        for number, line in enumerate(lines):
            id_, _version, shelf, _status, _visibility, name, owner, *_ = line.split("\t")
            if shelf == "0" and owner == ORDINARY:
                own.append(id_)
            if shelf == "0" and number % (population.images // 1000) == 0:
                listed.append(id_)
                names.append(name)
    return Database(registry, population.images, listed, own, names, random.Random(1))


def measured(databases: list[Database], call: Call, repeats: int) -> dict[str, Any]:
    """Make a call on each database in turns; return milliseconds."""
    took: list[list[float]] = [[] for _ in databases]
    for turn in range(WARM + repeats):
        for number, database in enumerate(databases):
            began = time.perf_counter()
            call(database)
            if turn >= WARM:
                took[number].append((time.perf_counter() - began) * 1000)
    few, many = ({"p50": percentile(times, 50), "p99": percentile(times, 99)} for times in took)
    return {"few": few, "many": many, "ratio": round(many["p50"] / few["p50"], 2)}


def percentile(times: list[float], percent: int) -> float:
    return round(statistics.quantiles(times, n=100, method="inclusive")[percent - 1], 2)


def purging(database: Database, repeats: int) -> dict[str, Any]:
    """Show, list, create and update while tombstones are purged, and while none are."""
    calls: dict[str, Call] = {
        "show": lambda d: d.registry.get(d.chance.choice(d.listed), ADMIN),
        "list": listing("project"),
        "create": create,
        "update": update,
    }
    purged, ended = 0, threading.Event()

    def purge() -> None:
        nonlocal purged
        while not ended.is_set() and (done := database.registry.purge(utcnow(), limit=1000).images):
            purged += done
        ended.set()

    quiet: dict[str, list[float]] = {name: [] for name in calls}
    busy: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        one_round(database, calls, quiet)
    thread = threading.Thread(target=purge)
    began = time.perf_counter()
    thread.start()
    while not ended.is_set():
        one_round(database, calls, busy)
    thread.join()
    seconds = time.perf_counter() - began
    found: dict[str, dict[str, Any]] = {
        name: {
            "quiet": {"p50": percentile(quiet[name], 50), "p99": percentile(quiet[name], 99)},
            "purging": {"p50": percentile(busy[name], 50), "p99": percentile(busy[name], 99)},
        }
        for name in calls
    }
    return {"tombstones": purged, "seconds": round(seconds, 1), "calls": found}


def one_round(database: Database, calls: dict[str, Call], took: dict[str, list[float]]) -> None:
    for name, call in calls.items():
        began = time.perf_counter()
        call(database)
        took[name].append((time.perf_counter() - began) * 1000)


def table_of(kind: str, results: dict[str, Any], images: int) -> Table:
    heads = ("Call", f"p50, {FEW:,}", "p99", f"p50, {images:,}", "p99", "Ratio")
    table = Table(heads[0], title=kind)
    for head in heads[1:]:
        table.add_column(head, justify="right")
    for name, found in results.items():
        color = "green" if found["ratio"] <= GOAL else "red"
        cells = [f"{found[side][key]:.1f}" for side in ("few", "many") for key in ("p50", "p99")]
        table.add_row(name, *cells, f"[{color}]{found['ratio']:.2f}[/]")
    return table


def purge_table(kind: str, found: dict[str, Any]) -> Table:
    title = f"{kind}: {found['tombstones']:,} tombstones purged in {found['seconds']} s"
    table = Table("Call", "p50", "p99", "p50 meanwhile", "p99 meanwhile", title=title)
    for name, times in found["calls"].items():
        table.add_row(
            name, *(f"{times[when][key]:.1f}" for when in ("quiet", "purging") for key in ("p50", "p99"))
        )
    return table


def main() -> None:
    names = ["sqlite", *(server.name for server in SERVERS)]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "databases", nargs="*", choices=[[], *names], metavar="DATABASE", help=", ".join(names)
    )
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--only", default="", metavar="TEXT", help="only calls whose name has it")
    parser.add_argument("--purge", action="store_true")
    parser.add_argument("--directory", type=Path, help="where to write; the temporary directory by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    console = Console(width=110)
    report: dict[str, Any] = {}
    populations = [Population(FEW), Population(arguments.images)]
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        folder = Path(directory)
        folder.chmod(0o755)  # a server may run as somebody else
        for population in populations:
            write(population, folder / str(population.images))
        for kind in arguments.databases or names:
            with servers(kind, folder) as make, ExitStack() as stack:
                databases = []
                for population in populations:
                    url, rows = make(f"images{population.images}"), folder / str(population.images)
                    load(SqlRegistry({"connection": url}), rows)
                    databases.append(opened(url, population, rows))
                    stack.callback(databases[-1].registry.close)
                report[kind] = run(databases, arguments, kind, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def run(
    databases: list[Database], arguments: argparse.Namespace, kind: str, console: Console
) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {
        name: measured(databases, call, arguments.repeats) for name, call in cases() if arguments.only in name
    }
    console.print(table_of(kind, found, arguments.images))
    if not arguments.purge:
        return {"calls": found}
    purged = purging(databases[-1], arguments.repeats)
    console.print(purge_table(kind, purged))
    return {"calls": found, "purge": purged}


if __name__ == "__main__":
    main()
