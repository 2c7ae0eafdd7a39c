"""The Compute API and all behind it, but the hypervisor: on the fake driver."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from benchmarks.beside import Measure, compare
from benchmarks.client import Refused
from benchmarks.clouds import Cloud, Ours
from benchmarks.nova import Nova
from benchmarks.report import Goal, Row
from benchmarks.stage import Stage

NONE, BOOT, MANY, DETAIL = (
    "list of no servers",
    "boot, fake driver",
    "20 boots at once, fake driver",
    "100 of 1,000 servers with details",
)
WORK = (NONE, BOOT, MANY, DETAIL)
MEASURES = {
    NONE: Measure("p50, ms", Goal(most=2), nova=20),
    BOOT: Measure("s to ACTIVE", Goal(most=0.15), nova=0.71),
    MANY: Measure("servers a minute", ratio=Goal(least=10), nova=120),
    DETAIL: Measure("p50, ms", Goal(most=20)),
}
ROOM = "[fake]\nfake_vcpus = 100000\nfake_memory_mb = 100000000\nfake_disk_gb = 1000000"
SIZE = 1 << 16
AT_ONCE = 20


def measure(stage: Stage, wanted: Collection[str]) -> Iterator[Row]:
    path = stage.folder / "empty.raw"
    path.write_bytes(bytes(SIZE))

    def ours(wanted: Collection[str]) -> Iterator[tuple[str, float]]:
        with Ours(stage, stage.folder / "fake", "compute_driver = fake", ROOM) as cloud:
            yield from _measured(stage, wanted, cloud, path)

    def nova(wanted: Collection[str]) -> Iterator[tuple[str, float]]:
        # Its fake host is large as it is.
        with Nova(stage, stage.folder / "fake-nova", "compute_driver = fake.FakeDriver") as cloud:
            yield from _measured(stage, wanted, cloud, path)

    yield from compare(MEASURES, wanted, ours, nova)


def _measured(stage: Stage, wanted: Collection[str], cloud: Cloud, path: Path) -> Iterator[tuple[str, float]]:
    image, flavor = cloud.upload(path, "raw"), cloud.flavor("bench", memory=64)
    cloud.delete(cloud.boot(image, flavor)[1])  # warms up
    if NONE in wanted:
        stage.say(f"{NONE}, {cloud.name}")
        yield NONE, _answered(cloud, "/servers", 0)
    if BOOT in wanted:
        stage.say(f"{BOOT}, {cloud.name}")
        yield BOOT, median_boot(cloud, image, flavor, 5 * stage.repeats)
    if MANY in wanted:
        stage.say(f"{MANY}, {cloud.name}")
        yield MANY, at_once(cloud, image, flavor, stage)
    if DETAIL in wanted:
        count = 200 if stage.quick else 1000
        stage.say(f"making {count} servers, {cloud.name}")
        cloud.wait_active([cloud.order(image, flavor) for _ in range(count)])
        yield DETAIL, _answered(cloud, "/servers/detail?limit=100", 100)


def _answered(cloud: Cloud, path: str, count: int, times: int = 200) -> float:
    """Ask again and again, one after the other; return the median of the milliseconds."""
    if len(cloud.call("GET", path)["servers"]) != count:
        raise Refused(f"{path} doesn't have {count} servers")
    seen = []
    for _ in range(times):
        began = time.perf_counter()
        cloud.exchange("GET", path)
        seen.append(time.perf_counter() - began)
    return statistics.median(seen) * 1000


def median_boot(cloud: Cloud, image: str, flavor: str, times: int) -> float:
    """Boot again and again, one after the other; return the median of the seconds."""
    seen = []
    for _ in range(times):
        seconds, ids = cloud.boot(image, flavor)
        seen.append(seconds)
        cloud.delete(ids)
    return statistics.median(seen)


def at_once(cloud: Cloud, image: str, flavor: str, stage: Stage) -> float:
    """Order twenty; return how many a minute that is, until the last one is ACTIVE."""
    seen = []
    for _ in range(stage.repeats):
        seconds, ids = cloud.boot(image, flavor, AT_ONCE)
        seen.append(AT_ONCE * 60 / seconds)
        cloud.delete(ids)
    return statistics.median(seen)
