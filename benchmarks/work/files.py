"""Large images in a file store: uploads, downloads, reads of ranges."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks import client, peers
from benchmarks.client import Server
from benchmarks.measuring import Medians, Reading, in_turns, timed
from benchmarks.report import Goal, Row, compared
from benchmarks.stage import Stage, fastest

FRAMINGS = {"Content-Length": False, "chunked": True}
DIGESTS = {"sha256": ("sha256",), "md5 + sha512": ("md5", "sha512")}  # ours by default, and Glance's
UPLOADS = {f"upload, {framing}, {digests}": (framing, digests) for framing in FRAMINGS for digests in DIGESTS}
DOWNLOAD, RANGES = "download, file store", "ranged read, file store"
WORK = (*UPLOADS, DOWNLOAD, RANGES)
SPEED, CPU = "MiB/s", "server's CPU s/GiB"
AGAINST_GLANCE: dict[str, dict[str, Goal | None]] = {
    "sha256": {SPEED: Goal(least=3), CPU: None},
    "md5 + sha512": {SPEED: Goal(least=1.8), CPU: Goal(most=0.7)},
}
AS_GLANCE = "hashing_algorithm = sha512\ncompute_md5_checksum = true"
SPAN = 1 << 20
READS = 200


def measure(stage: Stage, wanted: Collection[str]) -> Iterator[Row]:
    glance = peers.Glance(stage.folder / "files-glance", stage.database())
    ours = peers.ours(stage.folder / "files-ours", stage.database())
    with ours as server, stage.glances(glance) as glances:
        if uploads := [each for each in UPLOADS if each in wanted]:
            yield from _uploads(stage, uploads, server, glances)
        if DOWNLOAD in wanted or RANGES in wanted:
            yield from _reads(stage, wanted, server, glances, glance)


def _uploads(stage: Stage, works: list[str], ours: Server, glances: list[Server]) -> Iterator[Row]:
    also = peers.ours(stage.folder / "as-glance", stage.database(), options=AS_GLANCE)
    with also as as_glance, peers.bare(stage.folder / "bare") as bare:
        servers: dict[str, Server] = {"sha256": ours, "md5 + sha512": as_glance}
        for framing in FRAMINGS:
            chosen: dict[str, Server] = {
                digests: server
                for digests, server in servers.items()
                if f"upload, {framing}, {digests}" in works
            }
            if chosen:
                yield from _framed(stage, framing, chosen, glances, bare)


def _framed(
    stage: Stage, framing: str, servers: dict[str, Server], glances: list[Server], bare: Server
) -> Iterator[Row]:
    """Measure uploads of one framing, to ``servers`` by their digests."""
    stage.say(f"upload, {framing}")
    source, little = stage.source(stage.size_mib), stage.source(min(64, stage.size_mib))
    chunked = FRAMINGS[framing]
    glance = fastest(glances, lambda each: put(each, little, chunked=chunked)[SPEED])
    # Glance has but one way to hash: it is measured once for both of ours.
    contestants = {glance.name: partial(put, glance, source, chunked=chunked)}
    for digests, server in servers.items():
        path = f"/image?{'&'.join(DIGESTS[digests])}"
        contestants[f"ours, {digests}"] = partial(put, server, source, chunked=chunked)
        contestants[f"bare handler, {digests}"] = partial(_sent, bare, path, source, chunked=chunked)
    found = in_turns(whole(contestants), stage.repeats)
    for digests in servers:
        work, us = f"upload, {framing}, {digests}", f"ours, {digests}"
        yield from compared(work, found, us, glance.name, AGAINST_GLANCE[digests])
        yield from compared(work, found, us, f"bare handler, {digests}", {SPEED: Goal(least=0.9), CPU: None})


def whole(contestants: Mapping[str, Callable[[], Reading]]) -> dict[str, Callable[[int], Reading]]:
    """Have work that is the same in each turn."""
    return {name: lambda _turn, work=work: work() for name, work in contestants.items()}  # type: ignore[misc]


def per_gib(seconds: float, cpu: float, size: int) -> Reading:
    """Return speed and CPU time of a transfer."""
    return {SPEED: size / (1 << 20) / seconds, CPU: cpu * (1 << 30) / size}


def put(server: Server, source: Path, *, chunked: bool = False) -> Reading:
    """Upload an image's data, then delete the image."""
    image = client.create(server)
    path = client.data_path(image)
    found = _sent(server, path, source, chunked=chunked)
    client.delete(server, image)
    return found


def _sent(server: Server, path: str, source: Path, *, chunked: bool) -> Reading:
    took = timed(lambda: client.upload(server, path, source, chunked=chunked), server.pid)
    return per_gib(*took, source.stat().st_size)


def get(server: Server, path: str, size: int) -> Reading:
    """Download something of a known size."""
    return per_gib(*timed(lambda: client.download(server, path, size=size), server.pid), size)


def _reads(
    stage: Stage, wanted: Collection[str], ours: Server, glances: list[Server], glance: peers.Glance
) -> Iterator[Row]:
    source = stage.source(stage.size_mib)
    size = source.stat().st_size
    paths = {each.name: stored(each, source) for each in (ours, glances[0])}
    paths[glances[1].name] = paths[glances[0].name]
    # Glance's file, which has the same bytes, and a plain name.
    (blob,) = glance.data.iterdir()
    with peers.nginx(stage.folder / "nginx", glance.data) as nginx:
        paths[nginx.name] = f"/{blob.name}"

        def turns(work: Callable[[Server], Reading], measure: str, repeats: int) -> tuple[Medians, str]:
            first = fastest(glances, lambda each: work(each)[measure])
            contestants = {each.name: partial(work, each) for each in (ours, first, nginx)}
            return in_turns(whole(contestants), repeats), first.name

        if DOWNLOAD in wanted:
            stage.say(DOWNLOAD)
            found, first = turns(lambda each: get(each, paths[each.name], size), SPEED, stage.repeats * 3)
            goals = {SPEED: Goal(least=1.2), CPU: Goal(most=0.2)}
            yield from compared(DOWNLOAD, found, ours.name, first, goals)
            yield from compared(DOWNLOAD, found, ours.name, nginx.name, {SPEED: Goal(least=0.95), CPU: None})
        if RANGES in wanted:
            stage.say(RANGES)
            found, first = turns(
                lambda each: ranges(each, paths[each.name], size, READS), "reads/s", stage.repeats
            )
            yield from compared(RANGES, found, ours.name, nginx.name, {"reads/s": Goal(least=0.8)})
            yield from compared(RANGES, found, ours.name, first, {"reads/s": None})


def stored(server: Server, source: Path) -> str:
    """Make an image with data; return the path of it."""
    path = client.data_path(client.create(server))
    client.upload(server, path, source)
    return path


def ranges(server: Server, path: str, size: int, count: int) -> Reading:
    """Read 1 MiB at random places, on one connection; return how many a second."""
    offsets = [random.randrange(max(1, size - SPAN)) for _ in range(count)]

    def work() -> None:
        connection = client.connect(server)
        for offset in offsets:
            length = min(SPAN, size - offset)
            try:
                left, whole = client.begin(server, connection, path, (offset, length))
            except (client.Gone, ConnectionError):
                # uWSGI ends each connection.
                connection.close()
                connection = client.connect(server)
                left, whole = client.begin(server, connection, path, (offset, length))
            if whole != length:
                raise client.Refused(f"{server.name}: {whole} bytes instead of {length}")
            client.drain(connection, left)
        connection.close()

    seconds, cpu = timed(work, server.pid)
    return {"reads/s": count / seconds, "server's CPU ms a read": cpu * 1000 / count}
