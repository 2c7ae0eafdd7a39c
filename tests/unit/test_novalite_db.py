"""novalite's database: exact under race, honest about its schema."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from glancelike.sql.database import NOW
from novalite.db import Database, records, schema
from novalite.db.tables import metadata
from novalite.errors import (
    AggregateExists,
    ConfigError,
    Conflict,
    DatabaseFault,
    DatabaseSchema,
    FlavorExists,
    InvalidInput,
    InvalidState,
    KeyPairExists,
    NotFound,
    QuotaExceeded,
    ServerNotFound,
    StaleRecord,
)
from novalite.groupings import Aggregate, GroupPolicy, ServerGroup
from novalite.model import (
    SHELVED_IMAGE,
    ActionQuery,
    Address,
    ComputeHost,
    Fault,
    Flavor,
    ImageInfo,
    KeyPair,
    Order,
    Server,
    ServerQuery,
    SortKey,
    Status,
    TaskState,
    Usage,
    VmState,
    utcnow,
)
from novalite.reports import MigrationQuery
from tests.database_servers import SERVERS, DatabaseServer
from tests.schemas import schema_of
from tests.waiting import until

FLAVOR = Flavor("f", "flavor", vcpus=1, memory_mb=100, disk_gb=1)
UNLIMITED = Usage(-1, -1, -1)
OFFER = ComputeHost("h", "nova", "fake", "1", "fake", "x86_64", vcpus=4, memory_mb=1000, disk_gb=10)


def make(name: str = "vm", **values: Any) -> Server:
    told = {"id": str(uuid.uuid4()), "name": name, "project": "p", "user": "u"}
    return Server(**{**told, "flavor": FLAVOR, "image": ImageInfo(str(uuid.uuid4())), **values})


KINDS = ("sqlite", *(kind.name for kind in SERVERS))


def server_of(request: pytest.FixtureRequest) -> DatabaseServer | None:
    """Return the shared server of a kind of database; SQLite has none."""
    names = {"postgresql": "postgres_server", "mariadb": "maria_server"}
    return request.getfixturevalue(names[request.param]) if request.param in names else None


@pytest.fixture(scope="module", params=KINDS)
def shared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Make a database with tables: they take longer to make than tests to run."""
    server = server_of(request)
    if server is None:
        url = f"sqlite:///{tmp_path_factory.mktemp('novalite') / 'sub' / 'n.db'}"
    else:
        url = server.make_database("novalite")
    Database(url).upgrade()
    yield url
    if server is not None:
        server.drop_database("novalite")


@pytest.fixture
def database(shared_url: str) -> Iterator[Database]:
    """Open the shared database, empty."""
    with raw(shared_url) as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.delete(table))
    database = Database(shared_url, down_after=5)
    database.open()
    yield database
    database.close()


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database without tables."""
    server = server_of(request)
    if server is None:
        yield f"sqlite:///{tmp_path / 'n.db'}"
        return
    yield server.make_database("empty")
    server.drop_database("empty")


@contextmanager
def raw(url: str) -> Iterator[sa.Connection]:
    """Begin a transaction that novalite knows nothing of."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        yield connection


def insert(database: Database, *servers: Server) -> None:
    database.servers.insert(servers, quota=UNLIMITED, minimum=1)


def begin(database: Database, server_id: str, host: str | None, holder: str, seconds: float = 30) -> Server:
    server = database.work.begin(server_id, host=host, holder=holder, seconds=seconds)
    assert server is not None
    return server


def place(database: Database, server: Server, host: str = "h") -> Server:
    insert(database, server)
    held = begin(database, server.id, None, "scheduler")
    placed = database.hosts.claim(held, database.hosts.get(host))
    assert placed is not None
    return placed


def race(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Let all act at the same moment; return results and exceptions."""
    start = threading.Barrier(count)

    def one(number: int) -> Any:
        start.wait()
        try:
            return act(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


# The schema


def test_db_migrations_make_what_the_tables_say(url: str) -> None:
    database = Database(url)
    database.upgrade()
    migrated = schema_of(url, but=schema.VERSION_TABLE)
    with raw(url) as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
    assert schema_of(url, but=schema.VERSION_TABLE) == migrated
    assert set(migrated) == set(metadata.tables)


def test_db_upgrade_may_run_twice_and_at_the_same_time(url: str) -> None:
    databases = [Database(url) for _ in range(4)]
    assert race(4, lambda n: databases[n].upgrade()) == [None] * 4
    databases[0].open(upgrade=True)
    flavors = databases[0].flavors.list(
        public=None, min_disk=0, min_ram=0, sort="memory_mb", descending=False, limit=100, marker=None
    )
    assert [flavor.name for flavor in flavors.items][:3] == ["m1.nano", "m1.micro", "m1.tiny"]
    assert len(flavors.items) == 7
    databases[0].close()


def test_db_an_upgrade_that_was_cut_short_is_gone_on_with(url: str) -> None:
    """MariaDB keeps each table that a broken upgrade has made."""
    broken = sa.event.listens_for(sa.Engine, "before_cursor_execute", named=True)

    class Cut(Exception):
        pass

    def cut(statement: str, **_: object) -> None:
        if statement.strip().startswith("CREATE TABLE servers"):
            raise Cut

    broken(cut)
    try:
        with pytest.raises(Cut):
            Database(url).upgrade()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", cut)
    database = Database(url)
    database.open(upgrade=True)
    assert database.flavors.get("42").name == "m1.nano"
    database.close()


def test_db_without_schema_says_what_to_run(url: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseSchema, match=f"revision none, this code needs {Database.head()}: run"):
        Database(url).open()
    assert Database(url).current() is None
    assert list(tmp_path.iterdir()) == []


def test_db_of_newer_code_is_refused_and_left_alone(url: str) -> None:
    database = Database(url)
    database.upgrade()
    with raw(url) as connection:
        connection.execute(sa.text("update alembic_version set version_num = 'fromthefuture'"))
    for act in (database.upgrade, database.open):
        with pytest.raises(DatabaseSchema, match=f"fromthefuture.*{Database.head()}.*newer"):
            act()


@pytest.mark.parametrize("bad", ["sqlite://", "sqlite:///:memory:", "what", "oracular://x/y"])
def test_db_bad_url_is_a_config_error(bad: str) -> None:
    with pytest.raises(ConfigError, match="connection"):
        Database(bad)


def test_db_broken_file_and_closed_database_are_faults(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(DatabaseFault, match="not a database"):
        Database(f"sqlite:///{path}").open(upgrade=True)
    with pytest.raises(DatabaseFault, match="is not open"):
        Database(f"sqlite:///{path}").servers.get("x")


# Servers


def test_db_keeps_every_field_of_a_server(database: Database) -> None:
    server = make(
        "Žluťoučký 🐎 %_",
        flavor=replace(FLAVOR, extra_specs={"hw:x": "1"}, description="d"),
        image=ImageInfo("i", "name", size=1 << 40, hash_algo="sha256", properties={"a": "b"}),
        key_name="k",
        public_key="ssh-ed25519 AAAA",
        metadata={"ключ": "значение"},
        user_data="x" * 65535,
        config_drive=True,
        hints={"same_host": ["a"]},
        addresses=(Address("net", "10.0.0.1", "fa:16:3e:00:00:01"),),
        fault=Fault(500, "why"),
        tried_hosts=("a", "b"),
        zone="z",
        forced_host="h",
        reservation_id="r-1",
        launch_index=3,
        power_state="running",
        group_id=str(uuid.uuid4()),
    )
    database.groups.insert(
        ServerGroup(str(server.group_id), "g", GroupPolicy.SOFT_AFFINITY, "p", "u"), quota=-1
    )
    insert(database, server)
    assert database.servers.get(server.id) == server


def test_db_flavors_of_servers_are_what_older_code_reads_unless_they_have_what_is_new() -> None:
    plain = Flavor("a", "a", 1, 64, 1, swap_mb=1)
    of_0009 = {"id", "name", "vcpus", "memory_mb", "disk_gb", "swap_mb", "public", "description"}
    assert records.flavor_json(plain).keys() == {*of_0009, "extra_specs", "created_at"}
    for flavor in (plain, replace(plain, ephemeral_gb=2), replace(plain, rxtx_factor=0.5)):
        assert records.flavor_of(records.flavor_json(flavor)) == flavor


def test_db_change_is_compare_and_set_under_race(database: Database) -> None:
    server = make()
    insert(database, server)
    results = race(8, lambda n: database.servers.change(server, name=f"n{n}"))
    won = [result for result in results if isinstance(result, Server)]
    assert len(won) == 1
    assert sum(isinstance(result, StaleRecord) for result in results) == 7
    assert database.servers.get(server.id).name == won[0].name
    assert won[0].version == 2


def test_db_quota_is_exact_under_race(database: Database) -> None:
    def order(_: int) -> tuple[Server, ...]:
        return database.servers.insert([make(), make()], quota=Usage(5, -1, -1), minimum=1)

    results = race(6, order)
    made = sum(len(result) for result in results if isinstance(result, tuple))
    assert made == 5
    assert database.servers.usage("p") == Usage(5, 5, 500)
    refused = [result for result in results if isinstance(result, QuotaExceeded)]
    assert len(refused) == 3
    assert "instances: requested 1, in use 5 of 5" in str(refused[0])


@pytest.mark.parametrize(
    ("quota", "told"),
    [
        (Usage(1, -1, -1), "instances: requested 2, in use 0 of 1"),
        (Usage(-1, 1, -1), "cores: requested 2, in use 0 of 1"),
        (Usage(-1, -1, 199), "ram: requested 200, in use 0 of 199"),
        (Usage(0, 0, 0), "instances.*cores.*ram"),
    ],
)
def test_db_quota_names_what_is_short_and_adds_none(database: Database, quota: Usage, told: str) -> None:
    with pytest.raises(QuotaExceeded, match=told):
        database.servers.insert([make(), make()], quota=quota, minimum=2)
    assert database.servers.usage("p") == Usage()


def test_db_pages_have_every_server_once(database: Database) -> None:
    servers = [make(f"n{number % 3}", zone=["z", None][number % 2]) for number in range(11)]
    insert(database, *servers)
    for sort in (
        (SortKey("created_at"),),
        (SortKey("name", False), SortKey("zone")),
        (SortKey("zone", False),),
    ):
        seen: list[str] = []
        query = ServerQuery(project="p", sort=sort, limit=3)
        while True:
            page = database.servers.list(query)
            seen += [server.id for server in page.items]
            if page.next_marker is None:
                break
            query = replace(query, marker=page.next_marker)
        assert sorted(seen) == sorted(server.id for server in servers), sort
    everything = database.servers.list(ServerQuery(project="p", sort=(SortKey("name", False),))).items
    assert [server.name for server in everything] == sorted(server.name for server in servers)


def test_db_bad_marker_and_sort_key_are_named(database: Database) -> None:
    with pytest.raises(InvalidInput, match="marker nope"):
        database.servers.list(ServerQuery(marker="nope"))
    with pytest.raises(InvalidInput, match="sorted by user_data"):
        database.servers.list(ServerQuery(sort=(SortKey("user_data"),)))


def test_db_filters(database: Database) -> None:
    one = make("Alpha%1", zone="east")
    two = make("beta_2", vm_state=VmState.ACTIVE, task_state=None, project="q")
    three = make("gamma", vm_state=VmState.ACTIVE, task_state=TaskState.REBOOTING)
    insert(database, one)
    insert(database, two)
    insert(database, three)
    gone = make("gone")
    insert(database, gone)
    database.servers.delete_unplaced(gone)

    def names(**filters: Any) -> set[str]:
        query = ServerQuery(**{"all_projects": True, **filters})
        return {server.name for server in database.servers.list(query).items}

    assert names() == {"Alpha%1", "beta_2", "gamma"}
    assert names(all_projects=False, project="p") == {"Alpha%1", "gamma"}
    assert names(name="ALPHA") == {"Alpha%1"}
    assert names(name="%") == {"Alpha%1"}
    assert names(name="a_2") == {"beta_2"}
    for expression, found in (
        (r"^.*[a-z]+\_\d$", {"beta_2"}),
        ("^(ALPHA|gam)", {"Alpha%1", "gamma"}),
        ("m{2}", {"gamma"}),
        (r"a.1$|^$", {"Alpha%1"}),
        (r"[^\w]", {"Alpha%1"}),
        (r"\.", set()),
    ):
        assert names(name=expression) == found, expression
    with pytest.raises(InvalidInput, match="no regular expression"):
        names(name="(")
    assert names(zone="east") == {"Alpha%1"}
    assert names(statuses=frozenset({Status.ACTIVE})) == {"beta_2"}
    assert names(statuses=frozenset({Status.REBOOT, Status.BUILD})) == {"Alpha%1", "gamma"}
    assert names(statuses=frozenset()) == set()
    assert names(statuses=frozenset({Status.DELETED})) == {"gone"}
    assert names(deleted=True) == {"gone"}
    assert names(changes_since=gone.updated_at) == {"gone"}
    assert names(changes_before=one.updated_at) == {"Alpha%1"}


# Work and leases


def test_db_a_lease_has_one_holder_under_race(database: Database) -> None:
    server = make()
    insert(database, server)
    got = race(8, lambda n: database.work.begin(server.id, host=None, holder=f"w{n}", seconds=30))
    assert sum(result is not None for result in got) == 1


def test_db_a_lease_runs_out_and_can_be_renewed(database: Database) -> None:
    server = make()
    insert(database, server)
    begin(database, server.id, None, "a", seconds=60)
    assert database.work.begin(server.id, host=None, holder="b", seconds=1) is None
    assert database.work.unfinished(host=None, holder="b") == ()
    assert database.work.renew([server.id], holder="a", seconds=0.2) == {server.id: TaskState.SCHEDULING}
    until(lambda: database.work.unfinished(host=None, holder="b") == (server.id,))
    taken = begin(database, server.id, None, "b")
    assert taken.attempts == 2
    assert database.work.renew([server.id], holder="a", seconds=1) == {}


def test_db_an_outcome_needs_lease_and_task(database: Database) -> None:
    database.hosts.register(OFFER)
    placed = place(database, make())
    early = begin(database, placed.id, "h", "a", seconds=0.05)
    time.sleep(0.1)
    late = begin(database, placed.id, "h", "b")
    with pytest.raises(StaleRecord):
        database.work.built(early, power_state="running")
    database.servers.change(database.servers.get(placed.id), name="renamed")
    database.servers.change(database.servers.get(placed.id), task_state=TaskState.DELETING)
    with pytest.raises(StaleRecord):
        database.work.built(late, power_state="running")
    deleting = begin(database, placed.id, "h", "b")
    assert database.work.deleted(deleting).name == "renamed"
    assert database.hosts.get("h").server_ids == frozenset()


def test_db_work_is_offered_to_whom_it_belongs(database: Database) -> None:
    database.hosts.register(OFFER)
    waiting, placed = make(), make()
    insert(database, waiting)
    place(database, placed)
    assert database.work.unfinished(host=None, holder="x") == (waiting.id,)
    assert database.work.unfinished(host="h", holder="x") == (placed.id,)
    assert database.work.unfinished(host="other", holder="x") == ()
    assert database.work.begin(placed.id, host="other", holder="x", seconds=1) is None
    assert database.work.begin(placed.id, host=None, holder="x", seconds=1) is None
    begin(database, placed.id, "h", "dead process")
    assert database.work.begin(placed.id, host="h", holder="x", seconds=1) is None
    assert database.work.release_dead("h") == 1
    begin(database, placed.id, "h", "x")


def test_db_release_can_take_the_attempt_back(database: Database) -> None:
    server = make()
    insert(database, server)
    database.work.release(begin(database, server.id, None, "a"))
    assert database.servers.get(server.id).attempts == 1
    database.work.release(begin(database, server.id, None, "a"), attempted=False)
    assert database.servers.get(server.id).attempts == 1


# Hosts and claims


def test_db_claims_are_exact_under_race(database: Database) -> None:
    database.hosts.register(OFFER)
    servers = [make() for _ in range(8)]
    insert(database, *servers)

    def claim(number: int) -> bool:
        server = begin(database, servers[number].id, None, f"s{number}")
        while True:
            host = database.hosts.get("h")
            if host.vcpus_used >= host.vcpus:
                return False
            if database.hosts.claim(server, host) is not None:
                return True

    assert sorted(race(8, claim)) == [False] * 4 + [True] * 4
    host = database.hosts.get("h")
    assert (host.vcpus_used, host.memory_mb_used, host.disk_gb_used) == (4, 400, 4)
    assert host.server_ids == {server.id for server in database.servers.on_host("h")}


def test_db_a_claim_is_refused_when_the_host_changed(database: Database) -> None:
    database.hosts.register(OFFER)
    server = make()
    insert(database, server)
    held = begin(database, server.id, None, "s")
    seen = database.hosts.get("h")
    database.hosts.register(OFFER)  # a heartbeat is no change
    assert database.hosts.get("h").generation == seen.generation
    database.hosts.set_enabled("h", enabled=False, reason="repair")
    assert database.hosts.claim(held, seen) is None
    database.hosts.register(replace(OFFER, vcpus=2))
    assert database.hosts.get("h").generation == seen.generation + 2
    assert not database.hosts.get("h").enabled


def test_db_a_claim_is_refused_when_the_server_is_gone(database: Database) -> None:
    database.hosts.register(OFFER)
    server = make()
    insert(database, server)
    held = begin(database, server.id, None, "s")
    database.servers.delete_unplaced(database.servers.get(server.id))
    with pytest.raises(StaleRecord):
        database.hosts.claim(held, database.hosts.get("h"))
    host = database.hosts.get("h")
    assert host.server_ids == frozenset()


def test_db_a_rescheduled_server_leaves_nothing_on_its_host(database: Database) -> None:
    database.hosts.register(OFFER)
    placed = place(database, make())
    before = database.hosts.get("h")
    assert before.server_ids == {placed.id}
    again = database.work.reschedule(begin(database, placed.id, "h", "c"), Fault(500, "why"))
    assert (again.host, again.tried_hosts, again.task_state) == (None, ("h",), TaskState.SCHEDULING)
    after = database.hosts.get("h")
    assert (after.server_ids, after.generation) == (frozenset(), before.generation + 1)


def test_db_stray_allocations_are_dropped(database: Database, shared_url: str) -> None:
    database.hosts.register(OFFER)
    placed = place(database, make())
    with raw(shared_url) as connection:
        connection.execute(sa.text("insert into allocations values ('stray', 'h', 1, 1, 1)"))
    assert database.hosts.drop_stray_allocations("h") == 1
    assert database.hosts.get("h").server_ids == {placed.id}


def test_db_a_silent_host_is_down(database: Database, shared_url: str) -> None:
    database = Database(shared_url, down_after=1)
    database.open()
    database.hosts.register(OFFER)
    assert database.hosts.get("h").up
    until(lambda: not database.hosts.get("h").up)
    with pytest.raises(NotFound):
        database.hosts.get("elsewhere")
    database.close()


@pytest.mark.parametrize("shared_url", [kind.name for kind in SERVERS], indirect=True)
def test_db_leases_and_heartbeats_run_by_the_databases_clock(
    database: Database, shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose clock is wrong is as alive as others, and its leases are as long."""
    dialect = "mysql" if shared_url.startswith("mysql") else shared_url.partition("+")[0]
    ahead = {
        "postgresql": "SELECT timezone('utc', clock_timestamp()) + interval '1 hour'",
        "mysql": "SELECT utc_timestamp(6) + interval 1 hour",
    }
    with monkeypatch.context() as patched:
        patched.setitem(NOW, dialect, sa.text(ahead[dialect]))
        database.hosts.register(OFFER)
        host = database.hosts.get("h")
        assert host.up
        assert host.heartbeat_at > utcnow() + timedelta(minutes=50)
        server = make()
        insert(database, server)
        begin(database, server.id, None, "one", seconds=1800)
        assert database.work.begin(server.id, host=None, holder="two", seconds=1) is None
        assert database.work.unfinished(host=None, holder="two") == ()
    # To the real clock that lease is far from over, and the heartbeat in the future.
    assert database.work.begin(server.id, host=None, holder="two", seconds=1) is None
    assert database.hosts.get("h").up
    twice = {"postgresql": "2 hours'", "mysql": "2 hour"}
    later = ahead[dialect].replace("1 hour'", twice[dialect]).replace("1 hour", twice[dialect])
    monkeypatch.setitem(NOW, dialect, sa.text(later))
    assert not database.hosts.get("h").up
    assert database.work.unfinished(host=None, holder="two") == (server.id,)
    begin(database, server.id, None, "two")


# Aggregates and groups


def test_db_a_host_gets_one_zone_under_race(database: Database) -> None:
    database.hosts.register(OFFER)
    made = [database.aggregates.insert(Aggregate(f"a{n}", f"zone{n}")).id for n in range(4)]
    results = race(4, lambda n: database.aggregates.add_host(made[n], "h"))
    won = [result for result in results if isinstance(result, Aggregate)]
    assert len(won) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 3
    assert database.hosts.get("h").zone == won[0].zone
    named = race(4, lambda n: database.aggregates.insert(Aggregate("one")))
    assert sum(isinstance(result, AggregateExists) for result in named) == 3


def test_db_a_zone_changes_or_a_server_is_claimed(database: Database) -> None:
    """Whichever is first: no server is in another zone than its host."""
    made = database.aggregates.insert(Aggregate("a", "zone"))
    for n in range(8):
        name = f"h{n}"
        database.hosts.register(replace(OFFER, name=name))
        server = make()
        insert(database, server)
        held, seen = begin(database, server.id, None, "s"), database.hosts.get(name)
        acts: tuple[Callable[[], object], ...] = (
            partial(database.hosts.claim, held, seen),
            partial(database.aggregates.add_host, made.id, name),
        )
        claimed, added = race(2, lambda n, acts=acts: acts[n]())
        assert isinstance(claimed, Server) == isinstance(added, Conflict)
        if isinstance(claimed, Server):
            assert database.hosts.get(name).zone == claimed.zone


@pytest.mark.parametrize("policy", [GroupPolicy.AFFINITY, GroupPolicy.ANTI_AFFINITY])
def test_db_a_groups_policy_holds_under_race(database: Database, policy: GroupPolicy) -> None:
    """Each wants a host of its own; one only gets it with affinity, and with anti-affinity all do."""
    for n in range(4):
        database.hosts.register(replace(OFFER, name=f"h{n}"))
    group = ServerGroup(str(uuid.uuid4()), "g", policy, "p", "u")
    database.groups.insert(group, quota=-1)
    servers = [make(group_id=group.id) for _ in range(4)]
    insert(database, *servers)
    held = [begin(database, server.id, None, f"s{n}") for n, server in enumerate(servers)]
    seen = [database.hosts.get(f"h{n}") for n in range(4)]
    apart = policy is GroupPolicy.ANTI_AFFINITY
    placed = race(4, lambda n: database.hosts.claim(held[n], seen[n]))
    assert sum(isinstance(one, Server) for one in placed) == (4 if apart else 1), placed
    where = {server.host for server in database.servers.find(one.id for one in servers).values()}
    hosts = where - {None}
    # And those that come too late find where the first ones are.
    for server in (one for one, got in zip(held, placed, strict=True) if got is None):
        places = database.groups.places(server)
        assert places is not None
        assert places.placed.keys() == hosts
        assert database.hosts.claim(server, database.hosts.get(str(*hosts))) is not None
    if apart:
        extra = make(group_id=group.id)
        insert(database, extra)
        late = begin(database, extra.id, None, "late")
        assert database.hosts.claim(late, database.hosts.get("h0")) is None


def test_db_quotas_of_groups_are_exact_under_race(database: Database) -> None:
    def add(_: int) -> str:
        group = ServerGroup(str(uuid.uuid4()), "g", GroupPolicy.AFFINITY, "p", "u")
        database.groups.insert(group, quota=2)
        return group.id

    made = [result for result in race(4, add) if isinstance(result, str)]
    assert len(made) == 2

    def join(_: int) -> object:
        return database.servers.insert([make(group_id=made[0])], quota=UNLIMITED, minimum=1, members=3)

    joined = race(6, join)
    assert sum(isinstance(result, QuotaExceeded) for result in joined) == 3
    assert len(database.groups.get(made[0]).members) == 3
    database.groups.delete(made[0])
    assert isinstance(race(1, join)[0], InvalidInput)
    assert {server.group_id for server in database.servers.list(ServerQuery(project="p")).items} == {None}


def test_db_names_that_look_alike_are_different(database: Database) -> None:
    """The databases' own idea of equality is not asked: some ignore case, accents and blanks."""
    names = ["a", "A", "\u00e4", "a ", "a\u0308"]
    for number, name in enumerate(names):
        database.flavors.insert(replace(FLAVOR, id=f"f{number}", name=name))
    found = database.flavors.list(
        public=None, min_disk=0, min_ram=0, sort="name", descending=False, limit=9, marker=None
    )
    assert [flavor.name for flavor in found.items] == sorted(names)
    insert(database, make("\u017dlu\u0165"))
    (server,) = database.servers.list(ServerQuery(project="p", name="\u017dlu")).items
    assert server.name == "\u017dlu\u0165"


def test_db_what_it_cant_keep_is_refused(database: Database, shared_url: str) -> None:
    if not shared_url.startswith("sqlite"):  # which keeps everything
        with pytest.raises(InvalidInput, match="too long"):
            insert(database, make("x" * 256))
    if shared_url.startswith("postgresql"):
        with pytest.raises(InvalidInput, match="NUL"):
            database.servers.get("a\0b")
    assert database.servers.list(ServerQuery(project="p")).items == ()


# Flavors and key pairs


def test_db_flavors_are_unique_by_id_and_name_under_race(database: Database) -> None:
    results = race(4, lambda n: database.flavors.insert(replace(FLAVOR, id=f"f{n}")))
    assert results.count(None) == 1
    assert sum(isinstance(result, FlavorExists) for result in results) == 3


def test_db_key_pairs_are_unique_and_counted_under_race(database: Database) -> None:
    pair = KeyPair("u", "k", "ssh-ed25519 AAAA", "aa:bb")
    results = race(4, lambda n: database.keypairs.insert(pair, quota=-1))
    assert results.count(None) == 1
    assert sum(isinstance(result, KeyPairExists) for result in results) == 3
    results = race(4, lambda n: database.keypairs.insert(replace(pair, name=f"n{n}"), quota=3))
    assert results.count(None) == 2
    assert sum(isinstance(result, QuotaExceeded) for result in results) == 2
    page = database.keypairs.list("u", limit=2, marker=None)
    assert page.next_marker == page.items[-1].name
    rest = database.keypairs.list("u", limit=2, marker=page.next_marker)
    assert len(page.items + rest.items) == 3
    assert rest.next_marker is None


def test_db_an_unknown_server_is_not_found(database: Database) -> None:
    with pytest.raises(ServerNotFound, match="server nope not found"):
        database.servers.get("nope")


def test_db_revisions_are_what_alembic_finds() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()][::-1] == schema.revisions()
    assert scripts.get_heads() == [Database.head()]


def test_db_a_console_token_is_taken_once_under_race_and_expires(database: Database) -> None:
    good, late, other = ("".join((letter,) * 64) for letter in "abc")
    database.consoles.add(good, "server-1", seconds=60)
    taken = race(8, lambda _: database.consoles.take(good))
    assert sorted(taken, key=str) == [*[None] * 7, "server-1"]
    database.consoles.add(late, "server-2", seconds=0)
    assert database.consoles.take(late) is None
    database.consoles.add(late, "server-2", seconds=0)
    database.consoles.add(other, "server-3", seconds=60)  # sweeps the one before
    database.consoles.add(late, "server-2", seconds=60)
    assert (database.consoles.take(late), database.consoles.take(other)) == ("server-2", "server-3")


# Servers that move


def claimed(database: Database) -> dict[str, tuple[int, frozenset[str]]]:
    """Map each host with claims to the memory and the servers of them."""
    found = {host.name: (host.memory_mb_used, host.server_ids) for host in database.hosts.list()}
    return {name: claims for name, claims in found.items() if claims[0]}


def moving(database: Database, server: Server, task: TaskState, **args: Any) -> Server:
    """Order a move of a placed server, and take it up as the scheduler does."""
    free = {"lease_holder": None, "lease_until": None, "vm_state": VmState.ACTIVE}
    database.servers.change(database.servers.get(server.id), task_state=task, task_args=args, **free)
    return begin(database, server.id, None, "scheduler")


def ways(database: Database, server: Server) -> list[str]:
    """Return how a server's ways stand, newest first."""
    return [each.status for each in database.migrations.list(MigrationQuery(server_id=server.id)).items]


def test_db_a_server_that_moves_has_claims_on_both_hosts(database: Database) -> None:
    larger = replace(FLAVOR, id="l", memory_mb=300)
    for name in ("h", "there"):
        database.hosts.register(replace(OFFER, name=name, zone=f"zone of {name}"))
    zone = database.aggregates.insert(Aggregate("a", "another zone"))
    server = place(database, make())
    only = frozenset({server.id})
    held = moving(database, server, TaskState.RESIZE_PREP)
    going = database.moves.claim(held, database.hosts.get("there"), larger, "resize")
    assert going is not None
    assert (going.host, going.task_state) == ("h", TaskState.RESIZE_MIGRATING)
    assert claimed(database) == {"h": (100, only), "there": (300, frozenset())}
    database.moves.left(begin(database, server.id, "h", "a"), secret="s")
    assert database.moves.place(server.id) == (database.servers.get(server.id), "h")
    assert claimed(database) == {"h": (100, frozenset()), "there": (300, only)}
    work = begin(database, server.id, "there", "b")
    assert (work.zone, work.task_args["secret"]) == ("zone of there", "s")
    for change in (database.hosts.delete, partial(database.aggregates.add_host, zone.id)):
        with pytest.raises(Conflict):
            change("h")  # it may come back
    arrived = database.moves.arrived(work, FLAVOR, flavor=larger, kept={"resized_from": {"host": "h"}})
    assert (arrived.vm_state, arrived.flavor.id) == (VmState.RESIZED, "l")
    assert database.servers.usage("p").ram == 300
    again = moving(database, server, TaskState.RESIZE_PREP)
    with pytest.raises(InvalidState, match="has a disk on host h still"):
        database.moves.claim(again, database.hosts.get("there"), FLAVOR, "migration")
    database.servers.change(
        database.servers.get(server.id), task_state=TaskState.RESIZE_CONFIRMING, lease_holder=None
    )
    database.moves.settled(begin(database, server.id, "there", "b"), "confirmed", vm_state=VmState.ACTIVE)
    assert claimed(database) == {"there": (300, only)}
    (migration,) = database.migrations.list(MigrationQuery(server_id=server.id)).items
    assert (migration.status, migration.source_host, migration.dest_host) == ("confirmed", "h", "there")
    assert database.moves.place(server.id)[1] is None


def test_db_a_server_does_not_move_where_its_group_is_unwelcome(database: Database) -> None:
    for name in ("h", "there"):
        database.hosts.register(replace(OFFER, name=name))
    group = ServerGroup(str(uuid.uuid4()), "g", GroupPolicy.ANTI_AFFINITY, "p", "u")
    database.groups.insert(group, quota=-1)
    first, second = (make(group_id=group.id) for _ in range(2))
    placed = place(database, first)
    seen = database.hosts.get("there")
    insert(database, second)
    held = begin(database, second.id, None, "other")
    assert database.hosts.claim(held, seen) is not None
    work = moving(database, placed, TaskState.RESIZE_PREP)
    assert database.moves.claim(work, database.hosts.get("there"), FLAVOR, "migration") is None
    assert ways(database, placed) == []


def test_db_servers_that_move_to_one_host_never_overcommit_it(database: Database) -> None:
    for name in ("h", "there"):
        database.hosts.register(replace(OFFER, name=name))
    held = [moving(database, place(database, make()), TaskState.RESIZE_PREP) for _ in range(4)]
    seen = database.hosts.get("there")
    won = race(4, lambda n: database.moves.claim(held[n], seen, FLAVOR, "migration"))
    assert sum(isinstance(each, Server) for each in won) == 1
    assert sum(each is None for each in won) == 3
    (winner,) = (each for each in won if isinstance(each, Server))
    assert claimed(database)["there"] == (100, frozenset())
    database.servers.delete_unplaced(database.servers.get(winner.id))
    assert "there" not in claimed(database)
    assert ways(database, winner) == ["error"]


def test_db_an_evacuation_that_fails_gives_the_server_back(database: Database) -> None:
    for name in ("h", "there"):
        database.hosts.register(replace(OFFER, name=name))
    server = place(database, make())
    database.hosts.set_forced_down("h", forced_down=True)
    assert set(database.hosts.look({}).down) == {"h"}
    held = moving(database, server, TaskState.EVACUATING)
    assert database.moves.claim(held, database.hosts.get("there"), FLAVOR, "evacuation") is not None
    assert claimed(database) == {"h": (100, frozenset()), "there": (100, frozenset({server.id}))}
    failed = database.moves.given_up(
        begin(database, server.id, "there", "b"), "h", server.zone, Fault(500, "why")
    )
    assert (failed.host, failed.vm_state) == ("h", VmState.ERROR)
    assert claimed(database) == {"h": (100, frozenset({server.id}))}
    assert ways(database, server) == ["failed"]


def test_images_that_nobody_wants(database: Database) -> None:
    shelved = make(vm_state=VmState.SHELVED_OFFLOADED, task_state=None, kept={SHELVED_IMAGE: "kept"})
    args = {"image_id": "half"}
    copied = make(vm_state=VmState.ACTIVE, task_state=TaskState.IMAGE_SNAPSHOT, task_args=args)
    insert(database, shelved, copied)
    assert database.unwanted.take(seconds=60) == ()
    database.servers.delete_unplaced(shelved)
    copied = database.servers.change(copied, task_state=None)  # called off
    taken = database.unwanted.take(seconds=60)
    assert {image.id: image.unless_filled for image in taken} == {"kept": False, "half": True}
    assert database.unwanted.take(seconds=60) == ()  # who took them has a minute
    database.unwanted.gone("kept")
    again = database.servers.change(copied, task_state=TaskState.IMAGE_SNAPSHOT)
    database.servers.change(again, task_state=TaskState.DELETING)  # let go of once more
    assert [image.id for image in database.unwanted.take(seconds=60)] == ["half"]


def test_a_purge_drops_what_is_told_of_deleted_servers(database: Database) -> None:
    for host in ("back", "silent"):
        database.hosts.register(replace(OFFER, name=host))
    lasting = make("lasting", vm_state=VmState.ACTIVE, task_state=None)
    gone = [make(f"gone-{n}") for n in range(5)]
    kept = make("its host hasn't been heard of", host="silent")
    back = make("its host has been", host="back")
    removed = make("its host is gone as well", host="removed")
    insert(database, lasting, *gone, kept, back, removed)
    for server in (lasting, *gone):
        database.tags.replace(server.id, ("tag",))
    order = Order("delete", "req-1", "u", "p")
    for server in (*gone, kept, back, removed):
        database.servers.delete_unplaced(database.servers.get(server.id), order=order)
    database.hosts.register(replace(OFFER, name="back"))
    assert database.upkeep.purge(utcnow() - timedelta(days=1)) == (0, None)
    after: str | None = ""
    count = 0
    while after is not None:
        done, after = database.upkeep.purge(utcnow() + timedelta(seconds=1), after=after, limit=3)
        count += done
    assert count == 7
    left = {lasting.id, kept.id}
    everything = [lasting, *gone, kept, back, removed]
    assert set(database.servers.find([server.id for server in everything])) == left
    assert database.tags.of([server.id for server in everything]) == {lasting.id: ("tag",)}
    assert [len(database.actions.list(each.id, ActionQuery()).items) for each in (kept, gone[0])] == [1, 0]
