"""The Compute API and all behind it, but the hypervisor: on the fake driver."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterator

from benchmarks.client import Refused
from benchmarks.clouds import Cloud
from benchmarks.report import Goal, Row
from benchmarks.stage import Stage

NONE, BOOT, MANY, DETAIL = (
    "list of no servers",
    "boot, fake driver",
    "20 boots at once, fake driver",
    "100 of 1,000 servers with details",
)
WORK = (NONE, BOOT, MANY, DETAIL)
#: Nova 34 with RabbitMQ, MariaDB, no Neutron, one worker each, on two cores; not in the same run.
NOVA = "Nova 34, another run"
ROOM = "[fake]\nfake_vcpus = 100000\nfake_memory_mb = 100000000\nfake_disk_gb = 1000000"
SIZE = 1 << 16
AT_ONCE = 20


def measure(stage: Stage, wanted: Collection[str]) -> Iterator[Row]:
    path = stage.folder / "empty.raw"
    path.write_bytes(bytes(SIZE))
    with Cloud(stage, stage.folder / "fake", "compute_driver = fake", ROOM) as cloud:
        image, flavor = cloud.upload(path, "raw"), cloud.flavor("bench", memory=64)
        cloud.delete(cloud.boot(image, flavor)[1])  # warms up
        if NONE in wanted:
            median = _answered(cloud, "/servers", 0)
            yield Row(NONE, "p50, ms", median, goal=Goal(most=2))
            yield Row(NONE, "p50, ms", median, NOVA, 20)
        if BOOT in wanted:
            stage.say(BOOT)
            seconds = median_boot(cloud, image, flavor, 5 * stage.repeats)
            yield Row(BOOT, "s to ACTIVE", seconds, goal=Goal(most=0.15))
            yield Row(BOOT, "s to ACTIVE", seconds, NOVA, 0.71)
        if MANY in wanted:
            stage.say(MANY)
            yield Row(
                MANY, "servers a minute", at_once(cloud, image, flavor, stage), NOVA, 120, Goal(least=10)
            )
        if DETAIL in wanted:
            count = 200 if stage.quick else 1000
            stage.say(f"making {count} servers")
            cloud.wait_active(cloud.order(image, flavor) for _ in range(count))
            median = _answered(cloud, "/servers/detail?limit=100", 100)
            yield Row(DETAIL, "p50, ms", median, goal=Goal(most=20))


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
