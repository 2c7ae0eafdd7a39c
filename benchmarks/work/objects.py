"""Images in Swift and S3: uploads, downloads, reads of ranges, and how flat memory stays."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import client, peers
from benchmarks.backends import BACKENDS, Backend
from benchmarks.client import Server
from benchmarks.measuring import Medians, Reading, growth, in_turns, timed
from benchmarks.report import Goal, Row, compared
from benchmarks.stage import Stage, fastest
from benchmarks.work.files import CPU, SPEED, per_gib, ranges, stored, whole

KINDS = {"Swift": "swift", "S3": "s3"}
CLIENTS = {"Swift": "swiftclient", "S3": "boto3"}
JOBS = ("upload", "download", "ranged read")
WORK = tuple(f"{job}, {kind}" for kind in KINDS for job in JOBS)
GREW = "server grew by, MiB"
READS = 40
SPAN = 1 << 20


def measure(stage: Stage, wanted: Collection[str]) -> Iterator[Row]:
    for kind in KINDS:
        if jobs := [job for job in JOBS if f"{job}, {kind}" in wanted]:
            folder = stage.folder / kind
            folder.mkdir()
            with BACKENDS[KINDS[kind]](folder) as backend:
                yield from _through(stage, kind, backend, jobs)


def _through(stage: Stage, kind: str, backend: Backend, jobs: list[str]) -> Iterator[Row]:
    source = stage.source(max(8, stage.size_mib // 8))
    driver, bare = KINDS[kind], CLIENTS[kind]
    lines = "\n".join(f"{option} = {value}" for option, value in backend.settings.items())
    # Glance has a container of its own.
    theirs = {"objects": (driver, lines.replace("= bench", "= bench-glance"))}
    glance = peers.Glance(stage.folder / f"{driver}-glance", stage.database(), theirs)
    ours = peers.ours(
        stage.folder / f"{driver}-ours", stage.database(), stores={"objects": (driver, backend.settings)}
    )
    with ours as server, stage.glances(glance) as glances:
        if "upload" in jobs:
            stage.say(f"upload, {kind}")
            little = stage.source(8)
            first = fastest(glances, lambda each: put(each, little)[SPEED])
            put(server, little)
            contestants = {each.name: partial(put, each, source) for each in (server, first)}
            contestants[bare] = partial(put_bare, backend.peer, source)
            found = in_turns(whole(contestants), stage.repeats)
            yield from _rows(f"upload, {kind}", found, server.name, first.name, bare)
        if "download" in jobs or "ranged read" in jobs:
            yield from _reads(stage, kind, backend, jobs, server, glances, source)


def _rows(work: str, found: Medians, ours: str, glance: str, bare: str) -> Iterator[Row]:
    yield from compared(work, found, ours, glance, {SPEED: Goal(least=1.5), CPU: None})
    yield from compared(work, found, ours, bare, {SPEED: Goal(least=0.9)})
    yield Row(work, GREW, found[ours][GREW], goal=Goal(most=64))
    yield Row(work, GREW, found[ours][GREW], glance, found[glance][GREW])


def _reads(
    stage: Stage,
    kind: str,
    backend: Backend,
    jobs: list[str],
    ours: Server,
    glances: list[Server],
    source: Path,
) -> Iterator[Row]:
    bare, size = CLIENTS[kind], source.stat().st_size
    paths = {each.name: stored(each, source) for each in (ours, glances[0])}
    paths[glances[1].name] = paths[glances[0].name]
    with source.open("rb") as file:
        backend.peer.write("read", file, size)
    if "download" in jobs:
        stage.say(f"download, {kind}")
        first = fastest(glances, lambda each: get(each, paths[each.name], size)[SPEED])
        contestants = {each.name: partial(get, each, paths[each.name], size) for each in (ours, first)}
        contestants[bare] = partial(get_bare, backend.peer, size)
        found = in_turns(whole(contestants), stage.repeats)
        yield from _rows(f"download, {kind}", found, ours.name, first.name, bare)
    if "ranged read" in jobs:
        stage.say(f"ranged read, {kind}")
        # Glance can't read a part of what is in an object store.
        contestants = {
            ours.name: partial(ranges, ours, paths[ours.name], size, READS),
            bare: partial(ranges_bare, backend.peer, size, READS),
        }
        found = in_turns(whole(contestants), stage.repeats)
        yield from compared(f"ranged read, {kind}", found, ours.name, bare, {"reads/s": Goal(least=0.8)})


def _grown(server: Server, work: Callable[[], object], size: int) -> Reading:
    seconds = cpu = 0.0

    def clocked() -> None:
        nonlocal seconds, cpu
        seconds, cpu = timed(work, server.pid)

    grew = growth(server.pid, clocked)
    return {**per_gib(seconds, cpu, size), GREW: grew / (1 << 20)}


def put(server: Server, source: Path) -> Reading:
    """Upload an image's data, then delete the image."""
    image = client.create(server)
    path = client.data_path(image)
    found = _grown(server, lambda: client.upload(server, path, source), source.stat().st_size)
    client.delete(server, image)
    return found


def get(server: Server, path: str, size: int) -> Reading:
    return _grown(server, lambda: client.download(server, path, size=size), size)


def put_bare(peer: Any, source: Path) -> Reading:
    """Write with a bare client, then delete."""
    size = source.stat().st_size
    with source.open("rb") as file:
        found = per_gib(*timed(lambda: peer.write("written", file, size), os.getpid()), size)
    peer.delete("written")
    return found


def get_bare(peer: Any, size: int) -> Reading:
    return per_gib(*timed(lambda: peer.read("read"), os.getpid()), size)


def ranges_bare(peer: Any, size: int, count: int) -> Reading:
    offsets = [random.randrange(max(1, size - SPAN)) for _ in range(count)]

    def work() -> None:
        for offset in offsets:
            if peer.read_span("read", offset, SPAN) != min(SPAN, size - offset):
                raise client.Refused("a span of another length")

    seconds, _ = timed(work)
    return {"reads/s": count / seconds}
