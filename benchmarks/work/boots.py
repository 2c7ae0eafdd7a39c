"""Guests of libvirt, emulated where KVM is of no use: to ACTIVE, and to their own first words.

Cold means that the host has nothing of the image, of which the page cache
has whatever it has. The boot trace is off: each boot is the first one.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.beside import Measure, compare
from benchmarks.client import PATIENCE, Refused
from benchmarks.clouds import Cloud, Ours
from benchmarks.measuring import processes, proportional
from benchmarks.nova import Nova
from benchmarks.report import Goal, Row
from benchmarks.stage import Stage
from benchmarks.work.compute import AT_ONCE, at_once, median_boot
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
MEASURES = {
    CACHED: Measure("s to ACTIVE", Goal(most=0.7), nova=1.33),
    COLD_RAW: Measure("s to ACTIVE, 2 GiB", Goal(most=1.5), nova=7.7),
    COLD_QCOW2: Measure("s to ACTIVE, 2 GiB", Goal(most=1.5), nova=12),
    MANY: Measure("servers a minute", ratio=Goal(least=2), nova=24),
    # Nova's with Placement and Glance; in another run with Keystone, database and broker as well.
    MEMORY: Measure("MiB", Goal(most=350), nova=1740),
}
READY = "NOVALITE-GUEST ready"
MIB = 1 << 20
OPTIONS = "cpu_allocation_ratio = 16"
OURS = """\
[libvirt]
connection_uri = {uri}
virt_type = qemu
shutdown_timeout = 1
[image_cache]
boot_trace = false
"""
NOVA = """\
[libvirt]
connection_uri = {uri}
virt_type = qemu
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
    marked: list[Row] = []
    with start_private(stage.folder / "lv") as hypervisor:

        def ours(wanted: Collection[str]) -> Iterator[tuple[str, float]]:
            with _ours(stage, stage.folder / "real", hypervisor.uri) as host:
                yield from _measured(stage, wanted, host, guest)
                if MARKER in wanted:
                    marked.extend(_marked(stage, host, guest))

        def nova(wanted: Collection[str]) -> Iterator[tuple[str, float]]:
            options = f"compute_driver = libvirt.LibvirtDriver\n{OPTIONS}"
            settings = NOVA.format(uri=hypervisor.uri)
            with Nova(stage, stage.folder / "real-nova", options, settings) as cloud:
                yield from _measured(stage, wanted, Host(cloud), guest)

        yield from compare(MEASURES, wanted, ours, nova)
    yield from marked


@contextmanager
def _ours(stage: Stage, folder: Path, uri: str) -> Iterator[LazyHost]:
    cloud = Ours(stage, folder, OPTIONS, OURS.format(uri=uri))
    try:
        with cloud:
            yield LazyHost(cloud)
    finally:  # the worker would have another one run
        end_process(cloud.instances / "_base")


class Host:
    """The cloud's one host and its flavor."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.bases = cloud.instances / "_base"
        self.flavor = cloud.flavor("bench", memory=MEMORY_MB)

    def chill(self) -> None:
        """Forget all bases."""
        for path in self.bases.glob("*"):
            path.unlink(missing_ok=True)

    def memory(self) -> int:
        """Return the bytes of all processes."""
        return self.cloud.memory()

    def cold(self, image: str, repeats: int) -> float:
        """Return the median of the seconds to ACTIVE."""
        seen = []
        for _ in range(repeats):
            self.chill()
            seconds, ids = self.cloud.boot(image, self.flavor)
            seen.append(seconds)
            self.cloud.delete(ids)
        return median(seen)


class LazyHost(Host):
    """A host of ours, where a process serves the bases."""

    def chill(self) -> None:
        """Forget all bases, and have the process run again, as it does on a host that is up."""
        wait_for("the process runs", self._served)
        end_process(self.bases)
        super().chill()
        wait_for("the process runs again", self._served)

    def _served(self) -> bool:
        try:
            os.kill(process_of(self.bases), 0)
        except (OSError, ValueError):
            return False
        return bool(list(self.bases.glob("*.sock")))

    def memory(self) -> int:
        # The process that serves bases is nobody's child.
        return super().memory() + sum(map(proportional, processes(process_of(self.bases))))

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


def _measured(stage: Stage, wanted: Collection[str], host: Host, guest: Path) -> Iterator[tuple[str, float]]:
    if CACHED in wanted or MANY in wanted or MEMORY in wanted:
        yield from _cached(stage, wanted, host, guest)
    for work, disk_format in ((COLD_RAW, "raw"), (COLD_QCOW2, "qcow2")):
        if work in wanted:
            stage.say(f"{work}, {host.cloud.name}")
            path = disk(stage.folder, guest, LARGE // _share(stage), disk_format)
            image = host.cloud.upload(path, disk_format)
            yield work, host.cold(image, stage.repeats)


def _marked(stage: Stage, host: LazyHost, guest: Path) -> Iterator[Row]:
    """Measure how a large image compares to a small one."""
    stage.say(MARKER)
    paths = [disk(stage.folder, guest, size, "raw") for size in (SMALL, HUGE // _share(stage))]
    small, huge = (host.cloud.upload(path, "raw") for path in paths)
    pairs = [(host.to_marker(small), host.to_marker(huge)) for _ in range(stage.repeats)]
    theirs = median(few.seconds for few, _ in pairs)
    ours = median(many.seconds for _, many in pairs)
    yield Row(MARKER, "s, 4 GiB", ours, "64 MiB", theirs, Goal(most=1.3))
    yield Row(MARKER, "% of 4 GiB read", 100 * max(many.part for _, many in pairs), goal=Goal(most=10))


def _share(stage: Stage) -> int:
    return 8 if stage.quick else 1


def _cached(stage: Stage, wanted: Collection[str], host: Host, guest: Path) -> Iterator[tuple[str, float]]:
    """Measure what guests take whose image is there."""
    cloud, flavor = host.cloud, host.flavor
    image = cloud.upload(guest, "qcow2")
    cloud.delete(cloud.boot(image, flavor)[1])
    if CACHED in wanted:
        stage.say(f"{CACHED}, {cloud.name}")
        yield CACHED, median_boot(cloud, image, flavor, 2 * stage.repeats)
    if MANY in wanted:
        stage.say(f"{MANY}, {cloud.name}")
        yield MANY, at_once(cloud, image, flavor, stage)
    if MEMORY in wanted:
        _, ids = cloud.boot(image, flavor)
        yield MEMORY, host.memory() / MIB
        cloud.delete(ids)


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
    if not path.exists():
        command = ["qemu-img", "convert", "-f", "raw", "-O", disk_format, str(raw), str(path)]
        subprocess.run(command, check=True)
    return path


def _part(path: Path) -> float:
    told = path.stat()
    return told.st_blocks * 512 / told.st_size
