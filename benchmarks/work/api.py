"""Small requests: show, list, create, update, delete."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from benchmarks import client, load, peers
from benchmarks.client import OCTETS, Server, asked
from benchmarks.measuring import Reading, in_turns
from benchmarks.report import Goal, Row, compared
from benchmarks.stage import Stage, fastest

SHOW, LIST_25, LIST_200 = "show", "list 25", "list 200"
CHANGES = ("create", "update", "delete")
WORK = (SHOW, LIST_25, LIST_200, *CHANGES)
PROBE = 3  # seconds: a list of 200 takes Glance up to one with four who ask
READS = {
    "requests/s": Goal(least=8),
    "p99, ms": Goal(most=1 / 8),
    "CPU ms a request": None,
}
WRITES = {"requests/s": Goal(least=5), "p99, ms": None, "CPU ms a request": None}


def measure(stage: Stage, wanted: Collection[str]) -> Iterator[Row]:
    glance = peers.Glance(stage.folder / "glance", stage.database())
    with peers.ours(stage.folder / "ours", stage.database()) as ours, stage.glances(glance) as glances:
        count = 201 if LIST_200 in wanted else 26
        stage.say(f"making {count} images")
        shown = {each.name: _fill(each, count) for each in (ours, glances[0])}
        shown[glances[1].name] = shown[glances[0].name]
        for work in [each for each in (SHOW, LIST_25, LIST_200) if each in wanted]:
            yield from _reads(stage, work, ours, glances, shown)
        if jobs := [each for each in CHANGES if each in wanted]:
            yield from _changes(stage, jobs, ours, glances)


def _fill(server: Server, count: int) -> str:
    """Make active images; return the id of one."""
    for number in range(count):
        values = {
            "os_distro": "debian",
            "os_version": "12",
            "hw_disk_bus": "virtio",
            "architecture": "x86_64",
        }
        image = client.create(server, name=f"image-{number}", tags=["base", "bench"], **values)
        with asked(server, "PUT", client.data_path(image), b"data" * 256, {"Content-Type": OCTETS}):
            pass
    return image


def _reads(
    stage: Stage, work: str, ours: Server, glances: list[Server], shown: dict[str, str]
) -> Iterator[Row]:
    def path(server: Server) -> str:
        if work == SHOW:
            return f"/v2/images/{shown[server.name]}"
        return f"/v2/images?limit={work.removeprefix('list ')}"

    def ask(server: Server, seconds: float, _turn: int = 0) -> Reading:
        return load.ask(server, seconds, path(server))[0]

    _check(work, path(ours), ours)
    stage.say(work)
    glance = fastest(glances, lambda each: ask(each, PROBE)["requests/s"])
    ask(ours, 1)
    seconds = PROBE if stage.quick else 5
    found = in_turns({each.name: partial(ask, each, seconds) for each in (ours, glance)}, stage.repeats)
    yield from compared(work, found, ours.name, glance.name, READS)


def _check(work: str, path: str, server: Server) -> None:
    """Raise Refused unless the answer is as long as its name says."""
    if work != SHOW:
        with asked(server, "GET", path) as response:
            if len(json.load(response)["images"]) != int(work.removeprefix("list ")):
                raise client.Refused(f"{path} isn't a whole page")


def _changes(stage: Stage, jobs: list[str], ours: Server, glances: list[Server]) -> Iterator[Row]:
    longest = 1 if stage.quick else 4

    def change(server: Server, seconds: int, _turn: int = 0) -> Reading:
        """Create as many as there is time for, update them, and delete some."""
        ids = stage.folder / "ids"
        made = [str(uuid.uuid4()) for _ in range(5000 * seconds)]
        ids.write_text("\n".join(made))
        seen: dict[str, Reading] = {}
        seen["create"], count = load.ask(server, seconds, job="create", ids=ids)
        # Those that were still being made when the time was over may be there, or not.
        _keep(ids, made[: count - load.CONNECTIONS])
        seen["update"], _ = load.ask(server, max(1, seconds // 2), job="update", ids=ids)
        seen["delete"], _ = load.ask(server, max(1, seconds // 4), job="delete", ids=ids)
        return {f"{job} {measure}": value for job, told in seen.items() for measure, value in told.items()}

    stage.say("create, update, delete")
    glance = fastest(glances, lambda each: change(each, 2)["create requests/s"])
    change(ours, 2)
    found = in_turns({each.name: partial(change, each, longest) for each in (ours, glance)}, stage.repeats)
    for job in jobs:
        of_job = {
            name: {measure: told[f"{job} {measure}"] for measure in WRITES} for name, told in found.items()
        }
        yield from compared(job, of_job, ours.name, glance.name, WRITES)


def _keep(path: Path, ids: list[str]) -> None:
    path.write_text("\n".join(ids))
