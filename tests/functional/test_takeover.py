"""A real Glance's database and file stores, taken over: what its clients see stays the same."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import shutil
import signal
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import glanceclient
import glanceclient.exc
import pytest
from keystoneauth1.http_basic import HTTPBasicAuth
from keystoneauth1.session import Session

from glancelike.cli import main
from tests import warm
from tests.database_servers import DatabaseServer
from tests.glance_server import METADEFS, GlanceServer
from tests.server_fixtures import BIN, PASSWORD, Server, start, write_users

pytestmark = [
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    # Of glanceclient: it doesn't close what it has read a schema from.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
MEMBER = "member,reader"
OPTIONS = "delayed_delete = true"
VIEWERS = {"admin": "admin", "alice": "p-alice", "bob": "p-bob"}  # users and their projects
KEY = "0123456789abcdef"
CONFIG = """\
[DEFAULT]
bind_port = 0
state_path = {state}
auth_strategy = basic
http_basic_auth_user_file = {users}
enabled_backends = {backends}
show_multiple_locations = true
delayed_delete = true
scrub_time = 1000000
"""


@dataclass
class Seen:
    """What clients of Glance saw before it was stopped."""

    glance: GlanceServer
    images: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # by project and id
    listed: dict[str, list[str]] = field(default_factory=dict)
    members: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    namespaces: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)  # by name
    deleted: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    glance = GlanceServer(tmp_path_factory.mktemp("glance"), options=OPTIONS)
    return used(glance, METADEFS)


def used(glance: GlanceServer, definitions: Path) -> Seen:
    """Fill a Glance with images of all kinds, remember what it shows, and stop it."""
    glance.manage("db", "load_metadefs", "--path", str(definitions))
    glance.start()
    found = Seen(glance)
    try:
        fill(found, glance)
        for project, roles in (("admin", "admin,member,reader"), ("p-alice", MEMBER), ("p-bob", MEMBER)):
            look(found, project, glance.client(project, roles))
    finally:
        glance.stop()
    return found


def fill(seen: Seen, glance: GlanceServer) -> None:
    admin, alice, bob = glance.client(), glance.client("p-alice", MEMBER), glance.client("p-bob", MEMBER)

    def make(
        client: Any, name: str, data: bytes | None = None, store: str | None = None, **values: Any
    ) -> str:
        image = client.images.create(name=name, disk_format="raw", container_format="bare", **values)
        if data is not None:
            client.images.upload(image.id, io.BytesIO(data), backend=store)
            seen.data[image.id] = data
        seen.ids[name] = image.id
        return str(image.id)

    make(admin, "public", b"p" * 3_000_000, "slow", visibility="public", min_disk=7, min_ram=64)
    make(
        alice,
        "private",
        b"private",
        visibility="private",
        tags=["a", "Ä", "日本"],
        os_distro="débian",
        empty="",
    )
    make(alice, "community", b"community", visibility="community", architecture="x86_64")
    shared = make(alice, "shared", b"shared", "slow")
    for project, status in (("p-bob", "accepted"), ("p-carol", "rejected"), ("p-dave", None)):
        alice.image_members.create(shared, project)
        if status:
            glance.client(project, MEMBER).image_members.update(shared, project, status)
    make(bob, "hidden", b"hidden", os_hidden=True)
    make(bob, "protected", b"protected", protected=True)
    admin.images.deactivate(make(bob, "deactivated", b"deactivated"))
    make(bob, "queued", id=str(uuid.uuid4()), hw_disk_bus="virtio")
    # Something was never uploaded, and is deleted at once; what was is kept for a while.
    seen.deleted.append(make(alice, "gone"))
    alice.images.delete(seen.deleted[0])
    alice.images.delete(make(alice, "pending", b"pending"))
    admin.metadefs_namespace.create(
        namespace="Ours", visibility="private", protected=True, owner="p-alice", description="of ours"
    )
    admin.metadefs_tag.create("Ours", "tag")
    # In both stores, by an import. The last, since its thread gets into others' way in SQLite.
    both = make(admin, "both")
    seen.data[both] = b"both" * 1000
    admin.images.stage(both, io.BytesIO(seen.data[both]))
    admin.images.image_import(both, "glance-direct", all_stores=True)
    deadline = time.monotonic() + 120
    while busy(admin.images.get(both)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def busy(image: Any) -> bool:
    """Tell whether an import still writes the image, which is active before all is done."""
    marks = [image.get("os_glance_import_task"), image.get("os_glance_importing_to_stores")]
    return image.status != "active" or any(marks) or len(image.stores.split(",")) < 2


def look(seen: Seen, project: str, client: Any) -> None:
    seen.images[project], seen.listed[project] = shown(client)
    if project == "admin":
        seen.members = members(client, seen.images[project])
        seen.namespaces = namespaces(client)


def shown(client: Any) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return what a client sees of each image, and how it lists them."""
    listed = [image.id for image in client.images.list(sort_key="id", sort_dir="asc")]
    every = {
        image.id
        for hidden in (False, True)
        for image in client.images.list(
            filters={"visibility": "all", "os_hidden": hidden, "member_status": "all"}
        )
    }
    return {image_id: plain(client.images.get(image_id)) for image_id in sorted(every | set(listed))}, listed


def plain(image: Any) -> dict[str, Any]:
    found = {name: value for name, value in image.items() if name not in ("request_ids", "locations")}
    # Tasks of Glance's aren't taken over, nor is what it notes of them.
    found = {name: value for name, value in found.items() if not name.startswith("os_glance")}
    found["tags"] = sorted(found["tags"])
    found["stores"] = sorted(found.get("stores", "").split(","))
    return found


def members(client: Any, ids: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {
        image_id: sorted(
            (dict(each) for each in client.image_members.list(image_id)), key=lambda m: m["member_id"]
        )
        for image_id, image in ids.items()
        if image["visibility"] == "shared"
    }


def namespaces(client: Any) -> dict[str, dict[str, Any]]:
    return {
        each.namespace: settled(client.metadefs_namespace.get(each.namespace))
        for each in client.metadefs_namespace.list()
    }


def settled(value: Any) -> Any:
    """Return a value without the order that neither of the two promises."""
    if isinstance(value, dict) or hasattr(value, "items"):
        found = {name: settled(each) for name, each in value.items() if name != "request_ids"}
        # Glance forgets to quote blanks in there.
        return {**found, "self": unquote(found["self"])} if "self" in found else found
    if isinstance(value, list):
        return sorted((settled(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    return value


class Target:
    """A glancelike over the stores of a Glance; ``directory`` has its database."""

    def __init__(self, directory: Path, glance: GlanceServer, stores: dict[str, Path] | None = None) -> None:
        self.glance = glance
        self.database = directory / "glancelike.db"
        self.config_file = directory / "glancelike.conf"
        stores = glance.stores if stores is None else stores
        text = CONFIG.format(
            state=directory,
            users=write_users(directory / "users"),
            backends=", ".join(f"{name}:file" for name in stores),
        )
        for name, path in stores.items():
            text += f"[{name}]\nfilesystem_store_datadir = {path}\n"
        self.config_file.write_text(text)
        assert main(["--config-file", str(self.config_file), "db", "upgrade"]) == 0

    def words(self, *words: str, connection: str | None = None) -> list[str]:
        config = ["--config-file", str(self.config_file)]
        return [*config, "db", "import-glance", connection or self.glance.connection, *words]

    def take(self, *words: str, connection: str | None = None) -> int:
        return main(self.words(*words, connection=connection))

    def count(self) -> int:
        with closing(sqlite3.connect(self.database)) as database:
            (count,) = database.execute("SELECT count(*) FROM images").fetchone()
        return int(count)

    def client(self, server: Server, user: str) -> Any:
        auth = HTTPBasicAuth(server.url, user, PASSWORD)
        return glanceclient.Client("2", session=Session(auth=auth, timeout=60), endpoint_override=server.url)


@pytest.fixture
def target(tmp_path: Path, seen: Seen) -> Target:
    return Target(tmp_path, seen.glance)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory, seen: Seen) -> Iterator[tuple[Target, Server]]:
    """Take the Glance over, and serve it."""
    # A copy: what is done here must not be seen by the other tests.
    directory = tmp_path_factory.mktemp("glancelike")
    stores = {name: directory / name for name in seen.glance.stores}
    for name, path in seen.glance.stores.items():
        shutil.copytree(path, stores[name])
    database = moved(seen.glance, directory, stores)
    target = Target(directory, seen.glance, stores)
    assert target.take(connection=f"sqlite:///{database}") == 0
    server = start(target.config_file)
    yield target, server
    assert server.stop() == 0


def moved(glance: GlanceServer, directory: Path, stores: dict[str, Path] | None = None) -> Path:
    """Copy Glance's database; its stores' files are elsewhere if ``stores`` say so."""
    copy = directory / "glance-copy.db"
    shutil.copy(glance.database, copy)
    with closing(sqlite3.connect(copy)) as database:
        for name, path in (stores or {}).items():
            change = "UPDATE image_locations SET value = replace(value, ?, ?)"
            database.execute(change, (f"{glance.stores[name]}/", f"{path}/"))
        database.commit()
    return copy


@pytest.mark.parametrize("user", VIEWERS)
def test_clients_see_the_same(seen: Seen, taken: tuple[Target, Server], user: str) -> None:
    target, server = taken
    check_images(seen, user, target.client(server, user))


def check_images(seen: Seen, user: str, client: Any) -> None:
    """Fail unless a user sees the images that were seen in Glance."""
    images, listed = shown(client)
    project = VIEWERS[user]
    wanted = {image_id: dict(image) for image_id, image in seen.images[project].items()}
    for image_id, image in wanted.items():
        if image["status"] == "deactivated" and user != "admin":
            # Where its data lies Glance then tells administrators alone.
            assert not any(image.pop("stores"))
            del images[image_id]["stores"]
    assert images == wanted
    assert listed == seen.listed[project]


def test_members_and_definitions_are_the_same(seen: Seen, taken: tuple[Target, Server]) -> None:
    target, server = taken
    check_members_and_definitions(seen, target.client(server, "admin"))
    assert len(seen.namespaces) > 30


def check_members_and_definitions(seen: Seen, client: Any) -> None:
    """Fail unless an administrator sees those that were seen in Glance."""
    found = members(client, seen.images["admin"])
    assert found == seen.members
    assert {status for each in found.values() for status in (m["status"] for m in each)} == {
        "accepted",
        "rejected",
        "pending",
    }
    there = namespaces(client)
    assert there.keys() == seen.namespaces.keys()
    for name, namespace in there.items():
        # Namespaces that glance-manage loads have no time of a change; here each has one.
        known = {"updated_at": namespace["created_at"], **seen.namespaces[name]}
        assert namespace == known, name


def test_the_bytes_are_the_same(seen: Seen, taken: tuple[Target, Server]) -> None:
    target, server = taken
    check_bytes(seen, target.client(server, "admin"))


def check_bytes(seen: Seen, client: Any) -> None:
    """Fail unless each image has the data that was uploaded to Glance."""
    compared = 0
    for image_id, image in seen.images["admin"].items():
        if image["status"] == "active":
            # The client compares with os_hash_value.
            data = b"".join(client.images.data(image_id))
            assert data == seen.data[image_id]
            compared += 1
    assert compared == 7


def test_a_glance_on_a_database_server(
    database_server: DatabaseServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the other tests do on SQLite in one go: all kinds of rows, as the server keeps them."""
    if importlib.util.find_spec("glance") is None:
        pytest.skip("Glance isn't installed")
    definitions = tmp_path / "metadefs"
    definitions.mkdir()
    for name in ("compute-watchdog.json", "compute-cpu-pinning.json", "software-runtimes.json"):
        shutil.copy(METADEFS / name, definitions)
    name = f"glance{uuid.uuid4().hex[:12]}"
    connection = database_server.make_database(name)
    try:
        seen = used(GlanceServer(tmp_path / "glance", options=OPTIONS, connection=connection), definitions)
        target = Target(tmp_path, seen.glance)
        whole = len(seen.images["admin"]) + 2  # the one whose delete is pending, and the one that is gone
        for said in (
            f"images: {whole - 1} taken over, 1 deleted: id kept, 0 there already, 0 skipped",
            f"images: 0 taken over, 0 deleted: id kept, {whole} there already, 0 skipped",
        ):
            assert target.take() == 0
            assert said in capsys.readouterr().out
    finally:
        database_server.drop_database(name)
    server = start(target.config_file)
    try:
        for user in VIEWERS:
            check_images(seen, user, target.client(server, user))
        client = target.client(server, "admin")
        check_members_and_definitions(seen, client)
        assert len(seen.namespaces) == 4
        check_bytes(seen, client)
    finally:
        assert server.stop() == 0


def test_deleted_images(seen: Seen, taken: tuple[Target, Server]) -> None:
    target, server = taken
    client = target.client(server, "admin")
    with pytest.raises(glanceclient.exc.HTTPConflict):
        client.images.create(id=seen.deleted[0], name="another")
    pending = seen.ids["pending"]
    config = ["--config-file", str(target.config_file)]
    assert main([*config, "image", "restore", pending]) == 0
    assert b"".join(client.images.data(pending)) == b"pending"
    client.images.delete(pending)


def test_life_goes_on(seen: Seen, taken: tuple[Target, Server]) -> None:
    """Images that were Glance's can be changed, copied and deleted, and gc spares what isn't its own."""
    target, server = taken
    client = target.client(server, "admin")
    config = ["--config-file", str(target.config_file)]
    queued = seen.ids["queued"]
    client.images.upload(queued, io.BytesIO(b"now"))
    assert client.images.get(queued).stores == "fast"
    public = seen.ids["public"]
    assert main([*config, "image", "move", public, "--from", "slow", "--to", "fast"]) == 0
    assert b"".join(client.images.data(public)) == seen.data[public]
    assert not (target.config_file.parent / "slow" / public).exists()
    fast = target.config_file.parent / "fast"
    strangers = [
        fast / str(uuid.uuid4()),
        fast / f"{uuid.uuid4()}-00001",
        fast / "notes.txt",
        fast / f"{queued}.part",
    ]
    for stranger in strangers:
        stranger.write_bytes(b"not ours")
        os.utime(stranger, (0, 0))
    before = {path.name for path in fast.iterdir()}
    assert main([*config, "gc", "--grace", "0"]) == 0
    assert {path.name for path in fast.iterdir()} == before
    assert main([*config, "verify", "--quiet"]) == 0
    for stranger in strangers:
        stranger.unlink()


def test_a_dry_run_writes_nothing(seen: Seen, target: Target, capsys: pytest.CaptureFixture[str]) -> None:
    assert target.take("--dry-run") == 0
    said = capsys.readouterr().out
    for image_id in seen.images["admin"]:
        assert f"image {image_id}: taken over" in said
    assert f"image {seen.deleted[0]}: deleted: id kept" in said
    assert "namespace Ours: taken over" in said
    assert target.count() == 0


def test_again(seen: Seen, target: Target, capsys: pytest.CaptureFixture[str]) -> None:
    taken = len(seen.images["admin"]) + 1  # the one whose delete is pending
    assert target.take() == 0
    assert (
        f"images: {taken} taken over, 1 deleted: id kept, 0 there already, 0 skipped"
        in capsys.readouterr().out
    )
    config = ["--config-file", str(target.config_file)]
    assert target.take() == 0
    said = capsys.readouterr().out
    assert f"images: 0 taken over, 0 deleted: id kept, {taken + 1} there already, 0 skipped\n" in said
    assert said.count("\n") == 2, said
    assert main([*config, "image", "delete", seen.ids["private"]]) == 0
    with closing(sqlite3.connect(target.database)) as database:
        database.execute("UPDATE images SET name = 'changed' WHERE id = ?", (seen.ids["public"],))
        database.commit()
    assert target.take() == 0
    said = capsys.readouterr().out
    assert f"image {seen.ids['public']}: there already: differs in name" in said
    assert "0 taken over" in said
    assert "0 skipped" in said


def test_what_cannot_be_taken_is_told(
    seen: Seen, target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each by its id, with the reason and without a secret; all else is taken."""
    ids = seen.ids
    copy = moved(seen.glance, tmp_path)
    swift = "swift+https://tenant%3Auser:s3cret/x@auth.example.org/v2.0/images/abc"
    changes: dict[str, tuple[str, tuple[Any, ...], str]] = {
        "private": ("UPDATE image_locations SET value = ? WHERE image_id = ?", (swift,), "swift://.../abc"),
        "community": (
            "UPDATE image_locations SET value = ? WHERE image_id = ?",
            ("file:///etc/passwd",),
            "passwd",
        ),
        "shared": ("UPDATE images SET size = ? WHERE id = ?", (17,), "has 6 bytes instead of 17"),
        "hidden": (
            "UPDATE image_locations SET value = ? WHERE image_id = ?",
            ("Zm9v",),
            "metadata_encryption_key",
        ),
        "protected": ("UPDATE image_locations SET deleted = ? WHERE image_id = ?", (1,), "no location"),
        "both": (
            "UPDATE image_locations SET value = ? WHERE image_id = ? AND value LIKE '%/slow/%'",
            (f"file://{seen.glance.stores['slow']}/{uuid.uuid4()}",),
            "no such blob",
        ),
        "queued": ("UPDATE images SET status = ? WHERE id = ?", ("saving",), "its data hasn't come"),
    }
    with closing(sqlite3.connect(copy)) as database:
        for name, (change, values, _said) in changes.items():
            database.execute(change, (*values, ids[name]))
        database.execute(
            "UPDATE metadef_namespaces SET description = ? WHERE namespace = 'Ours'", ("x" * 501,)
        )
        database.commit()
    assert target.take(connection=f"sqlite:///{copy}") == 1
    told = capsys.readouterr().out
    lines = {line.split()[1].rstrip(":"): line for line in told.splitlines()}
    for name, (_change, _values, said) in changes.items():
        verdict = "taken over" if name in ("both", "queued") else "skipped"
        assert lines[ids[name]].startswith(f"image {ids[name]}: {verdict}: "), lines[ids[name]]
        assert said.replace("swift:", "swift+https:") in lines[ids[name]]
    assert lines["Ours"].startswith("namespace Ours: skipped: ")
    assert "5 skipped" in told
    assert "s3cret" not in told
    capsys.readouterr()
    assert target.take() == 0, "and after it was mended, the rest"
    assert "5 taken over" in capsys.readouterr().out


def test_encrypted_locations(
    seen: Seen, target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from glance.common import crypt

    copy = moved(seen.glance, tmp_path)
    with closing(sqlite3.connect(copy)) as database:
        rows = database.execute("SELECT id, value FROM image_locations").fetchall()
        for number, url in rows:
            database.execute(
                "UPDATE image_locations SET value = ? WHERE id = ?", (crypt.urlsafe_encrypt(KEY, url), number)
            )
        database.commit()
    key = tmp_path / "key"
    connection = f"sqlite:///{copy}"
    for text, said in (
        (None, "encryption_key is needed"),
        (KEY[::-1], "is that Glance's metadata_encryption_key?"),
    ):
        words = []
        if text is not None:
            key.write_text(f"{text}\n")
            words = ["--metadata-encryption-key-file", str(key)]
        assert target.take("--dry-run", *words, connection=connection) == 1
        assert said in capsys.readouterr().out
    key.write_text("too short")
    assert target.take("--metadata-encryption-key-file", str(key), connection=connection) == 2
    assert "16, 24 or 32 bytes" in capsys.readouterr().err
    key.write_text(f"{KEY}\n")
    assert target.take("--metadata-encryption-key-file", str(key), connection=connection) == 0
    assert target.count() == len(seen.images["admin"]) + 2


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:////nowhere/glance.db", "no directory"),
        ("sqlite:///{tmp}/none.db", "no such file"),
        ("sqlite:///{tmp}/glancelike.db", "has no deleted, os_hash_algo"),
        ("sqlite:///{tmp}/empty.db", "no database of Glance's"),
        ("oracle://u:s3cret@h/glance", "oracle isn't supported"),
        ("s3cret@@", "not the URL of a database"),
    ],
)
def test_no_database_of_glances(
    target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, said: str
) -> None:
    (tmp_path / "empty.db").touch()
    assert target.take(connection=url.format(tmp=tmp_path)) != 0
    told = capsys.readouterr().err
    assert said in told
    assert "s3cret" not in told


def crowd(glance: GlanceServer, directory: Path, count: int) -> Path:
    """Copy Glance's database, with many more images in it, each with a file."""
    copy = moved(glance, directory)
    made = {"created_at": "2026-01-02 03:04:05", "updated_at": "2026-01-02 03:04:05", "deleted": 0}
    data = b"crowd"
    common = {
        **made,
        **dict.fromkeys(("min_disk", "min_ram", "protected", "os_hidden"), 0),
        "name": "crowd",
        "status": "active",
        "visibility": "shared",
        "owner": "p-alice",
        "size": len(data),
        "os_hash_algo": "sha512",
        "os_hash_value": hashlib.sha512(data).hexdigest(),
    }
    with closing(sqlite3.connect(copy)) as database:
        for _ in range(count):
            image = str(uuid.uuid4())
            path = glance.stores["fast"] / image
            path.write_bytes(data)
            for table, row in (
                ("images", {**common, "id": image}),
                (
                    "image_locations",
                    {
                        **made,
                        "image_id": image,
                        "value": f"file://{path}",
                        "meta_data": '{"store": "fast"}',
                        "status": "active",
                    },
                ),
                ("image_properties", {**made, "image_id": image, "name": "os", "value": "bsd"}),
                (
                    "image_members",
                    {**made, "image_id": image, "member": "p-bob", "can_share": 0, "status": "accepted"},
                ),
            ):
                places = ", ".join("?" * len(row))
                database.execute(
                    f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values())
                )
        database.commit()
    return copy


def test_killed_and_run_again(seen: Seen, target: Target, tmp_path: Path) -> None:
    many = 4000
    copy = crowd(seen.glance, tmp_path, many)
    whole = many + len(seen.images["admin"]) + 2
    command = [str(BIN / "glancelike"), *target.words(connection=f"sqlite:///{copy}")]
    process = warm.start(command)
    deadline = time.monotonic() + 120
    while target.count() == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < target.count() < whole
    with closing(sqlite3.connect(target.database)) as database:
        (odd,) = database.execute(
            "SELECT count(*) FROM images i WHERE name = 'crowd' AND ("
            "NOT EXISTS (SELECT * FROM image_locations l WHERE l.image_id = i.id) OR "
            "NOT EXISTS (SELECT * FROM image_members m WHERE m.image_id = i.id) OR "
            "NOT EXISTS (SELECT * FROM image_properties p WHERE p.image_id = i.id))"
        ).fetchone()
        assert odd == 0, "an image is there wholly or not at all"
    done = warm.run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert target.count() == whole
