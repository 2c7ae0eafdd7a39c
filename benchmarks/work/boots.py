"""Guests of libvirt, emulated where KVM is of no use: to ACTIVE, and to their own first words.

Cold means that the host has nothing of the image, of which the page cache
has whatever it has. The boot trace is off: each boot is the first one.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.client import PATIENCE, Refused
from benchmarks.clouds import Cloud
from benchmarks.measuring import processes, proportional
from benchmarks.report import Goal, Row
from benchmarks.stage import Stage
from benchmarks.work.compute import AT_ONCE, NOVA, at_once, median_boot
from novalite.quickstart import guest_image
from novalite.quickstart.libvirtd import start_private
from tests.lazy_fixtures import end_process, process_of
from tests.waiting import wait_for

COLD_RAW, COLD_QCOW2, MARKER, CACHED, MANY, MEMORY = (
    "boot, cold, raw",
    "boot, cold, qcow2",
    "boot to the guest's marker, cold",
    "boot, base cached",
    f"{AT_ONCE} boots at once, libvirt",
    "memory of all programs",
)
WORK = (CACHED, COLD_RAW, COLD_QCOW2, MARKER, MANY, MEMORY)
READY = "NOVALITE-GUEST ready"
MIB = 1 << 20
SETTINGS = """\
[libvirt]
connection_uri = {uri}
virt_type = qemu
shutdown_timeout = 1
[image_cache]
boot_trace = false
[DEFAULT]
cpu_allocation_ratio = 16
"""
MEMORY_MB = 128  # what the demonstration guest needs
SMALL, LARGE, HUGE = 64, 2048, 4096  # MiB; a quick look has an eighth of the last two


@dataclass(frozen=True)
class Turn:
    """One boot to the marker: seconds, and the part of the image that had come by then."""

    seconds: float
    part: float


def measure(stage: Stage, wanted: Collection[str]) -> Iterator[Row]:
    guest = guest_image.build(stage.folder / "guest")
    with start_private(stage.folder / "lv") as hypervisor:
        cloud = Cloud(stage, stage.folder / "real", "", SETTINGS.format(uri=hypervisor.uri))
        try:
            with cloud:
                yield from _measured(stage, wanted, Host(cloud), guest)
        finally:  # the worker would have another one run
            end_process(cloud.instances / "_base")


class Host:
    """The cloud's one host and its flavor."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.bases = cloud.instances / "_base"
        self.flavor = cloud.flavor("bench", memory=MEMORY_MB)

    def chill(self) -> None:
        """Forget all bases, and have the process run again, as it does on a host that is up."""
        wait_for("the process runs", self._served)
        end_process(self.bases)
        for path in self.bases.glob("*"):
            path.unlink(missing_ok=True)
        wait_for("the process runs again", self._served)

    def _served(self) -> bool:
        try:
            os.kill(process_of(self.bases), 0)
        except (OSError, ValueError):
            return False
        return bool(list(self.bases.glob("*.sock")))

    def cold(self, image: str, repeats: int) -> float:
        """Return the median of the seconds to ACTIVE."""
        seen = []
        for _ in range(repeats):
            self.chill()
            seconds, ids = self.cloud.boot(image, self.flavor)
            seen.append(seconds)
            self.cloud.delete(ids)
        return median(seen)

    def to_marker(self, image: str) -> Turn:
        """Boot cold until the guest says that it's there, and remove it."""
        self.chill()
        began = time.perf_counter()
        server = self.cloud.order(image, self.flavor)
        self.cloud.wait_active([server])
        while READY not in (said := self.cloud.console(server)):
            if time.perf_counter() - began > PATIENCE:
                raise Refused(f"the guest hasn't come up: {said[-500:]}")
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        part = max((_part(path) for path in self.bases.glob("*.lazy")), default=1.0)
        self.cloud.delete([server])
        return Turn(seconds, part)


def _measured(stage: Stage, wanted: Collection[str], host: Host, guest: Path) -> Iterator[Row]:
    share = 8 if stage.quick else 1
    if CACHED in wanted or MANY in wanted or MEMORY in wanted:
        yield from _cached(stage, wanted, host, guest)
    for work, disk_format, theirs in ((COLD_RAW, "raw", 7.7), (COLD_QCOW2, "qcow2", 12)):
        if work in wanted:
            stage.say(work)
            image = host.cloud.upload(disk(stage.folder, guest, LARGE // share, disk_format), disk_format)
            seconds = host.cold(image, stage.repeats)
            yield Row(work, "s to ACTIVE, 2 GiB", seconds, goal=Goal(most=1.5))
            yield Row(work, "s to ACTIVE, 2 GiB", seconds, NOVA, theirs)
    if MARKER in wanted:
        stage.say(MARKER)
        sizes = (SMALL, HUGE // share)
        small, huge = (host.cloud.upload(disk(stage.folder, guest, size, "raw"), "raw") for size in sizes)
        pairs = [(host.to_marker(small), host.to_marker(huge)) for _ in range(stage.repeats)]
        theirs = median(few.seconds for few, _ in pairs)
        ours = median(many.seconds for _, many in pairs)
        yield Row(MARKER, "s, 4 GiB", ours, "64 MiB", theirs, Goal(most=1.3))
        yield Row(MARKER, "% of 4 GiB read", 100 * max(many.part for _, many in pairs), goal=Goal(most=10))


def _cached(stage: Stage, wanted: Collection[str], host: Host, guest: Path) -> Iterator[Row]:
    """Measure what guests take whose image is there."""
    cloud, flavor = host.cloud, host.flavor
    image = cloud.upload(guest, "qcow2")
    cloud.delete(cloud.boot(image, flavor)[1])
    if CACHED in wanted:
        stage.say(CACHED)
        seconds = median_boot(cloud, image, flavor, 2 * stage.repeats)
        yield Row(CACHED, "s to ACTIVE", seconds, goal=Goal(most=0.7))
        yield Row(CACHED, "s to ACTIVE", seconds, NOVA, 1.33)
    if MANY in wanted:
        stage.say(MANY)
        yield Row(MANY, "servers a minute", at_once(cloud, image, flavor, stage), NOVA, 24, Goal(least=2))
    if MEMORY in wanted:
        _, ids = cloud.boot(image, flavor)
        # The process that serves bases is nobody's child.
        taken = (cloud.memory() + sum(map(proportional, processes(process_of(host.bases))))) / MIB
        cloud.delete(ids)
        yield Row(MEMORY, "MiB", taken, goal=Goal(most=350))
        # All of Nova's, with Keystone, Glance, database and broker.
        yield Row(MEMORY, "MiB", taken, NOVA, 1740)


def disk(folder: Path, guest: Path, mib: int, disk_format: str) -> Path:
    """Make the guest's disk larger; what the guest doesn't have is noise."""
    raw = folder / f"{mib}.raw"
    if not raw.exists():
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(guest), str(raw)], check=True)
        noise = os.urandom(MIB)
        with raw.open("ab") as file:
            while file.tell() < mib * MIB:
                file.write(noise[: mib * MIB - file.tell()])
    if disk_format == "raw":
        return raw
    path = raw.with_suffix(f".{disk_format}")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", disk_format, str(raw), str(path)], check=True)
    return path


def _part(path: Path) -> float:
    told = path.stat()
    return told.st_blocks * 512 / told.st_size
