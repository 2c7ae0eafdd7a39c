"""One process of the race: it does at random all that a service can do, to the images of all."""

from __future__ import annotations

import hashlib
import importlib
import io
import logging
import os
import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glancelike.embedded import open_service
from glancelike.model import Caller, Change, ChangeOp, Image, MemberStatus, Query, Status
from glancelike.registry.sql import SqlRegistry
from glancelike.service import ImageService, ImportRequest
from glancelike.stores.file import FileStore
from tests.soak.history import Log, Wrong

# What a process would import as it begins, and needn't where it is forked from one that has.
for _name in ("postgresql.psycopg", "mysql.pymysql", "sqlite.pysqlite"):
    with suppress(ImportError):
        importlib.import_module(f"sqlalchemy.dialects.{_name}")
for _name in ("psycopg", "pymysql"):
    with suppress(ImportError):
        importlib.import_module(_name)

ADMIN = Caller.administrator("p-admin")
PROJECTS = ("p-one", "p-two", "p-three")
ROLES = frozenset({"member", "reader"})
KIB = 1 << 10
# So short that a busy machine loses some of them: that must do no harm, either.
LEASE_SECONDS = 1.5
LIMITS = {
    "user_storage_quota": 250 * KIB,
    "image_stage_total": 1,
    "image_count_total": 4,
    "image_count_uploading": 2,
}
EVERYTHING = Query(visibility="all", member_status="all", hidden=None, limit=1000)
FORMATS = {"disk_format": "raw", "container_format": "bare"}
REPLACE, ADD, REMOVE = ChangeOp.REPLACE, ChangeOp.ADD, ChangeOp.REMOVE
MARK = "mark"  # a property that always says what the name says


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is told."""

    name: str
    connection: str
    directory: Path
    log: Path
    seed: int
    stop: Path  # there when it is time to end


def service_of(connection: str, directory: Path) -> ImageService:
    """Open the service that all processes share the parts of."""
    registry = SqlRegistry(
        {
            "connection": connection,
            "sqlite_busy_timeout": 20.0,
            # The race kills processes, not the machine.
            "sqlite_synchronous": False,
        }
    )
    return open_service(
        registry,
        stores={"file": FileStore({"filesystem_store_datadir": str(directory / "images")})},
        staging=FileStore({"filesystem_store_datadir": str(directory / "staging")}),
        upgrade=False,
        upload_lease_seconds=LEASE_SECONDS,
        image_tag_quota=-1,
        image_property_quota=-1,
        image_member_quota=-1,
        **LIMITS,
    )


def caller_of(project: str | None) -> Caller:
    """Return a plain member of a project."""
    return Caller("u", project, ROLES)


def data_of(token: str, size: int) -> bytes:
    """Return the bytes that a token stands for."""
    return random.Random(token).randbytes(size)


class Slow(io.BytesIO):
    """Data that takes its time, so that others come in between, and kills as well."""

    def __init__(self, data: bytes, rng: random.Random) -> None:
        super().__init__(data)
        self._rng = rng

    def read(self, size: int | None = -1, /) -> bytes:
        time.sleep(self._rng.random() * 0.02)
        return super().read(min(size or 1, 32 * KIB) if size and size > 0 else 32 * KIB)


class Worker:
    """A process's steps; ``tokens`` are those that it has left somewhere."""

    def __init__(self, job: Job, service: ImageService, log: Log) -> None:
        self.rng = random.Random(job.seed)
        self._job = job
        self._service = service
        self._log = log
        self._mine: dict[str, list[tuple[str, str]]] = {"tag": [], "property": [], "member": []}
        self._seen: tuple[Image, ...] = ()
        self._count = 0
        self._steps: dict[Callable[[], None], int] = {
            self.create: 7,
            self.rename: 8,
            self.add_tag: 7,
            self.remove_tag: 3,
            self.set_property: 7,
            self.remove_property: 3,
            self.set_visibility: 4,
            self.share: 7,
            self.answer: 5,
            self.unshare: 3,
            self.switch: 2,
            self.upload: 9,
            self.stage: 4,
            self.import_: 4,
            self.download: 8,
            self.delete: 4,
            self.run_tasks: 3,
            self.reap: 1,
            self.collect: 1,
        }

    def run(self) -> None:
        """Do one step after the other until it is time to end."""
        steps, weights = list(self._steps), list(self._steps.values())
        while not self._job.stop.exists():
            self.rng.choices(steps, weights)[0]()

    def token(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._job.name}-{self._count}"

    def look(self, *statuses: Status) -> Image | None:
        """Choose an image, as it was some time ago: one in a status, where there are any."""
        if not self._seen or self.rng.random() < 0.4:
            with self._log.step("look"):
                self._seen = self._service.list_images(ADMIN, EVERYTHING).images
                for image in self._seen:
                    if image.name != image.properties.get(MARK):
                        raise Wrong(f"half of one update: {image}")
        chosen = [image for image in self._seen if image.status in statuses] or self._seen
        return self.rng.choice(chosen) if chosen else None

    # Records

    def create(self) -> None:
        # A few processes want the same id at the same time.
        number = int(time.time()) * 4 + self.rng.randrange(4)
        identity = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._job.directory} {number}"))
        name = self.token("name")
        visibility = self.rng.choice(["shared", "shared", "private", "community"])
        values = {"id": identity, "name": name, MARK: name, "visibility": visibility, **FORMATS}
        owner = self.rng.choice(PROJECTS)
        with self._log.step("create", identity, owner=owner):
            self._service.create_image(caller_of(owner), values)

    def rename(self) -> None:
        image = self.look()
        if image is not None:
            name = self.token("name")
            both = [Change(REPLACE, (field,), name) for field in ("name", MARK)]
            with self._log.step("rename", image.id, told=name):
                self._service.update_image(caller_of(image.owner), image.id, both)

    def set_visibility(self) -> None:
        image = self.look()
        if image is not None:
            wanted = self.rng.choice(["shared", "shared", "private", "community"])
            with self._log.step("visibility", image.id, told=wanted):
                change = Change(REPLACE, ("visibility",), wanted)
                self._service.update_image(caller_of(image.owner), image.id, [change])

    def switch(self) -> None:
        image = self.look(Status.ACTIVE, Status.DEACTIVATED)
        if image is not None:
            what = self.rng.choice(["deactivate_image", "reactivate_image"])
            with self._log.step(what, image.id):
                getattr(self._service, what)(caller_of(image.owner), image.id)

    def delete(self) -> None:
        image = self.look()
        if image is not None:
            with self._log.step("delete", image.id):
                self._service.delete_image(caller_of(image.owner), image.id)

    # Tokens: what was confirmed has to be there in the end

    def _leave(self, kind: str, put: Callable[[Image, str], object]) -> None:
        image = self.look()
        if image is not None:
            token = self.token(kind)
            self._mine[kind].append((image.id, token))
            with self._log.step(
                f"add {kind}", image.id, token, state="pending" if kind == "member" else token
            ):
                put(image, token)

    def _take(self, kind: str, what: str, act: Callable[[Caller, str, str], object], **told: Any) -> None:
        if not self._mine[kind]:
            return
        image_id, token = self.rng.choice(self._mine[kind])
        with self._log.step(f"{what} {kind}", image_id, token, **told):
            owner = self._service.show_image(ADMIN, image_id).owner
            act(caller_of(owner), image_id, token)

    def add_tag(self) -> None:
        def put(image: Image, token: str) -> None:
            if self.rng.random() < 0.5:
                self._service.add_tag(caller_of(image.owner), image.id, token)
            else:
                change = Change(ADD, ("tags", "-"), token)
                self._service.update_image(caller_of(image.owner), image.id, [change])

        self._leave("tag", put)

    def remove_tag(self) -> None:
        self._take("tag", "remove", self._service.remove_tag)

    def set_property(self) -> None:
        if self.rng.random() < 0.5 and self._mine["property"]:
            value = self.token("value")

            def replace(caller: Caller, image_id: str, token: str) -> None:
                self._service.update_image(caller, image_id, [Change(REPLACE, (token,), value)])

            self._take("property", "replace", replace, state=value)
            return

        def put(image: Image, token: str) -> None:
            self._service.update_image(caller_of(image.owner), image.id, [Change(ADD, (token,), token)])

        self._leave("property", put)

    def remove_property(self) -> None:
        def remove(caller: Caller, image_id: str, token: str) -> None:
            self._service.update_image(caller, image_id, [Change(REMOVE, (token,))])

        self._take("property", "remove", remove)

    def share(self) -> None:
        self._leave(
            "member", lambda image, token: self._service.add_member(caller_of(image.owner), image.id, token)
        )

    def answer(self) -> None:
        status = self.rng.choice([MemberStatus.ACCEPTED, MemberStatus.REJECTED])

        def accept(_owner: Caller, image_id: str, token: str) -> None:
            self._service.set_member_status(caller_of(token), image_id, token, status)

        self._take("member", "replace", accept, state=str(status))

    def unshare(self) -> None:
        self._take("member", "remove", self._service.remove_member)

    # Data

    def _source(self) -> tuple[str, int, int | None, Slow]:
        token, size = self.token("data"), self.rng.randrange(1, 200 * KIB)
        known = size if self.rng.random() < 0.5 else None
        return token, size, known, Slow(data_of(token, size), self.rng)

    def upload(self) -> None:
        image = self.look(Status.QUEUED, Status.SAVING)
        if image is not None:
            token, size, known, source = self._source()
            with self._log.step("upload", image.id, data=token, size=size):
                self._service.upload(caller_of(image.owner), image.id, source, size=known)

    def stage(self) -> None:
        image = self.look(Status.QUEUED)
        if image is not None:
            token, size, known, source = self._source()
            with self._log.step("stage", image.id, data=token, size=size):
                self._service.stage(caller_of(image.owner), image.id, source, size=known)

    def import_(self) -> None:
        image = self.look(Status.UPLOADING)
        if image is not None:
            with self._log.step("import", image.id):
                request = ImportRequest("glance-direct")
                self._service.import_image(caller_of(image.owner), image.id, request)

    def download(self) -> None:
        image = self.look(Status.ACTIVE, Status.DEACTIVATED)
        if image is None:
            return
        with self._log.step("download", image.id):
            download = self._service.read(ADMIN, image.id)
            record = download.image
            digest, count = hashlib.sha256(), 0
            for block in download.chunks():
                digest.update(block)
                count += len(block)
            if (count, digest.hexdigest()) != (record.size, record.hash_value):
                raise Wrong(f"{count} bytes, {digest.hexdigest()} instead of {record}")

    # Upkeep

    def run_tasks(self) -> None:
        with self._log.step("tasks"):
            self._service.run_tasks()

    def reap(self) -> None:
        with self._log.step("look after"):
            self._service.look_after()

    def collect(self) -> None:
        """Collect garbage that is no older than a moment: leases alone keep what is on its way."""
        with self._log.step("gc"):
            for _orphan in self._service.gc(grace_seconds=0):
                pass


def main(job: Job) -> None:
    """Be a worker until it is time to end; what the service logs goes beside the steps."""
    logging.basicConfig(filename=job.log.with_suffix(".log"), level=logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    log = Log(job.log, job.name)
    with log.step("process", pid=os.getpid()), service_of(job.connection, job.directory) as service:
        Worker(job, service, log).run()
    log.close()
