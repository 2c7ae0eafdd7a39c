"""Images in Swift and S3: uploads, downloads, reads of ranges, and how flat memory stays."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import client, peers
from benchmarks.backends import BACKENDS, CONTAINER, PEERS, Backend
from benchmarks.client import Server
from benchmarks.measuring import Medians, Reading, growth, in_turns, timed
from benchmarks.report import Goal, Row, compared
from benchmarks.stage import Stage, fastest
from benchmarks.work.files import CPU, SPEED, per_gib, ranges, stored, whole

KINDS = {"Swift": "swift", "S3": "s3"}
JOBS = ("upload", "download", "ranged read")
WORK = tuple(f"{job}, {kind}" for kind in KINDS for job in JOBS)
GREW = "server grew by, MiB"
READS, COUNT, SPAN = "reads/s", 40, 1 << 20
BARE = "bare client"
OUR_OBJECT = "bare client on ours"  # what the layout of ours costs, whoever reads it
Contestants = dict[str, Callable[[], Reading]]


def measure(stage: Stage, wanted: Collection[str]) -> Iterator[Row]:
    for kind in KINDS:
        if jobs := [job for job in JOBS if f"{job}, {kind}" in wanted]:
            folder = stage.folder / kind
            folder.mkdir()
            with BACKENDS[KINDS[kind]](folder) as backend:
                yield from _through(stage, kind, backend, jobs)


def _through(stage: Stage, kind: str, backend: Backend, jobs: list[str]) -> Iterator[Row]:
    source = stage.source(max(8, stage.size_mib // 8))
    stores = {"objects": (KINDS[kind], backend.settings)}
    with ExitStack() as stack:
        ours = stack.enter_context(peers.ours(stage.folder / f"{kind}-ours", stage.database(), stores=stores))
        glances: list[Server] = []
        if kind == "S3":
            # Glance has a bucket of its own. Its Swift driver takes users of Keystone alone: not here.
            lines = "\n".join(f"{option} = {value}" for option, value in backend.settings.items())
            more = {"objects": ("s3", lines.replace("= bench", "= bench-glance"))}
            glance = peers.Glance(stage.folder / f"{kind}-glance", stage.database(), more)
            glances = stack.enter_context(stage.glances(glance))
        for job in jobs:
            stage.say(f"{job}, {kind}")
            if job == "upload":
                contestants = _uploads(backend, ours, glances, source, stage.source(8))
            else:
                contestants = _reads(backend, ours, glances, source, job)
            found = in_turns(whole(contestants), stage.repeats)
            yield from _rows(f"{job}, {kind}", found)


def _rows(work: str, found: Medians) -> Iterator[Row]:
    """Compare ours, which is first, with Glance, if it's there, and with the bare client."""
    ours, *others = found
    ranged = READS in found[ours]  # Glance can't read a part of what is in an object store
    for other in others:
        if other == BARE:
            goals = {READS: Goal(least=0.8)} if ranged else {SPEED: Goal(least=0.9)}
        elif other == OUR_OBJECT:
            goals = {READS if ranged else SPEED: None}
        else:
            goals = {SPEED: Goal(least=1.5), CPU: None, GREW: None}
        yield from compared(work, found, ours, other, goals)
    if not ranged:
        yield Row(work, GREW, found[ours][GREW], goal=Goal(most=64))


def _uploads(
    backend: Backend, ours: Server, glances: list[Server], source: Path, little: Path
) -> Contestants:
    found: Contestants = {ours.name: partial(put, ours, source)}
    put(ours, little)
    if glances:
        first = fastest(glances, lambda each: put(each, little)[SPEED])
        found[first.name] = partial(put, first, source)
    return {**found, BARE: partial(put_bare, backend.peer, source)}


def _reads(backend: Backend, ours: Server, glances: list[Server], source: Path, job: str) -> Contestants:
    size = source.stat().st_size
    path = stored(ours, source)
    ours_bare = (
        backend.peer.found(CONTAINER, path.split("/")[-2]),
        CONTAINER,
    )  # it begins with the image's id
    with source.open("rb") as file:
        backend.peer.write("read", file, size)
    if job == "ranged read":
        return {
            ours.name: partial(ranges, ours, path, size, COUNT),
            BARE: partial(ranges_bare, backend.peer, size, COUNT),
            OUR_OBJECT: partial(ranges_bare, backend.peer, size, COUNT, *ours_bare),
        }
    found: Contestants = {ours.name: partial(get, ours, path, size)}
    if glances:
        theirs = stored(glances[0], source)
        first = fastest(glances, lambda each: get(each, theirs, size)[SPEED])
        found[first.name] = partial(get, first, theirs, size)
    return {
        **found,
        BARE: partial(get_bare, backend.peer, size),
        OUR_OBJECT: partial(get_bare, backend.peer, size, *ours_bare),
    }


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


def get_bare(peer: Any, size: int, name: str = "read", container: str = PEERS) -> Reading:
    return per_gib(*timed(lambda: peer.read(name, container), os.getpid()), size)


def ranges_bare(peer: Any, size: int, count: int, name: str = "read", container: str = PEERS) -> Reading:
    offsets = [random.randrange(max(1, size - SPAN)) for _ in range(count)]

    def work() -> None:
        for offset in offsets:
            if peer.read_span(name, offset, SPAN, container) != min(SPAN, size - offset):
                raise client.Refused("a span of another length")

    seconds, _ = timed(work)
    return {"reads/s": count / seconds}
