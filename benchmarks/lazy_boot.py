"""How long a guest takes whose image isn't on the host: to ACTIVE, and to its own first words.

    python -m benchmarks.lazy_boot [--repeats 3] [--quick] [--directory DIR]

A real image service, libvirt and the demonstration guest (emulated, where KVM is
of no use), all on this machine. Cold means that the host has nothing of the image, of which
the page cache has whatever it has. The time begins with the order to the compute service.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.report import Goal, Row, table
from glancelike.client import ImageClient
from novalite.config import GlanceSettings
from novalite.images import HttpImages
from novalite.model import Flavor, NewServer, Status
from novalite.quickstart import guest_image
from novalite.quickstart.libvirtd import start_private
from novalite.testing import Cloud
from tests import server_fixtures
from tests.lazy_fixtures import end_process

MIB = 1 << 20
MARKER = b"NOVALITE-GUEST ready"
SECONDS = 300.0
#: m1.nano, with a disk as large as the image.
FLAVOR = Flavor("lazy", "lazy", vcpus=1, memory_mb=128, disk_gb=0)


@dataclass(frozen=True)
class Turn:
    """One boot. Seconds, and the part of the image that had come by the marker."""

    active: float
    marker: float
    part: float


class Bench:
    """A host and an image service."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        (folder / "images").mkdir()
        images = server_fixtures.start(server_fixtures.write_config(folder / "images"))
        stack.callback(images.stop)
        self.client = stack.enter_context(ImageClient(images.url))
        hypervisor = stack.enter_context(start_private(folder / "lv"))
        glance = GlanceSettings(images.url, None, None, None, False, 30.0, 3)
        self.cloud = Cloud(
            folder,
            images=HttpImages(glance),
            options={
                ("DEFAULT", "compute_driver"): "libvirt",
                ("glance", "endpoint_override"): images.url,
                ("libvirt", "connection_uri"): hypervisor.uri,
                ("libvirt", "shutdown_timeout"): 1,
                ("image_cache", "boot_trace"): False,
            },
        )
        self.bases = self.cloud.settings("host1").image_cache.directory
        stack.enter_context(self.cloud)
        stack.callback(end_process, self.bases)
        self.cloud.service.flavors.create(self.cloud.admin, FLAVOR)
        compute = self.cloud.nodes["host1"].compute
        assert compute is not None
        self.compute = compute
        self.driver = compute._driver

    def upload(self, path: Path, disk_format: str) -> str:
        """Upload an image; return its id."""
        values = {"name": path.name, "disk_format": disk_format, "container_format": "bare"}
        image_id = str(self.client.create_image(values)["id"])
        with path.open("rb") as source:
            self.client.upload(image_id, source, size=path.stat().st_size)
        return image_id

    def chill(self) -> None:
        """Forget all bases, and have the process run again, as it does on a host that is up."""
        end_process(self.bases)
        for path in self.bases.glob("*"):
            path.unlink()
        self.compute._watch.run()

    def boot(self, image_id: str, *, to_marker: bool = False) -> Turn:
        """Boot once, and remove the guest."""
        began = time.perf_counter()
        (server,) = self.cloud.service.servers.create(self.cloud.admin, NewServer("vm", image_id, FLAVOR.id))
        self.cloud.wait(server.id, Status.ACTIVE, seconds=SECONDS)
        active = time.perf_counter() - began
        marker, part = 0.0, 0.0
        if to_marker:
            while MARKER not in self.driver.console_log(server.id):
                if time.perf_counter() - began > SECONDS:
                    raise TimeoutError(
                        f"the guest hasn't come up: {self.driver.console_log(server.id)[-500:]!r}"
                    )
                time.sleep(0.02)
            marker = time.perf_counter() - began
            part = max((_part(path) for path in self.bases.glob("*.lazy")), default=1.0)
        self.cloud.service.servers.delete(self.cloud.admin, server.id)
        while self.driver.list_states():
            time.sleep(0.02)
        return Turn(active, marker, part)

    def turns(self, image_id: str, repeats: int, *, cold: bool, to_marker: bool = False) -> list[Turn]:
        """Boot some times."""
        found = []
        for _ in range(repeats):
            if cold:
                self.chill()
            found.append(self.boot(image_id, to_marker=to_marker))
        return found


def _part(path: Path) -> float:
    told = path.stat()
    return told.st_blocks * 512 / told.st_size


def disks(folder: Path, guest: Path, *, quick: bool) -> Iterator[tuple[str, Path, str]]:
    """Make the images: name, file, disk_format. What the guest doesn't have is noise."""
    large, huge = (256, 512) if quick else (2048, 4096)
    for name, mib in (("small", 64), ("large", large), ("huge", huge)):
        path = folder / f"{name}.raw"
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(guest), str(path)], check=True)
        noise = os.urandom(MIB)
        with path.open("ab") as file:
            while file.tell() < mib * MIB:
                file.write(noise[: mib * MIB - file.tell()])
        yield name, path, "raw"
        if name == "large":
            target = folder / "large.qcow2"
            argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(path), str(target)]
            subprocess.run(argv, check=True)
            yield "qcow2", target, "qcow2"
            target.unlink()
        path.unlink()


def measured(bench: Bench, ids: dict[str, str], repeats: int) -> Iterator[Row]:
    """Measure all, and tell each figure's goal."""
    for name, told in (("large", "raw"), ("qcow2", "qcow2")):
        turns = bench.turns(ids[name], repeats, cold=True)
        active = median(turn.active for turn in turns)
        yield Row(f"cold {told} to ACTIVE", "s", active, goal=Goal(most=1.5))
    bench.chill()
    bench.boot(ids["small"])
    while not list(bench.bases.glob("*.json")):
        time.sleep(0.1)
    warm = median(turn.active for turn in bench.turns(ids["small"], repeats, cold=False))
    yield Row("base cached, to ACTIVE", "s", warm)
    small = bench.turns(ids["small"], repeats, cold=True, to_marker=True)
    huge = bench.turns(ids["huge"], repeats, cold=True, to_marker=True)
    theirs = median(turn.marker for turn in small)
    marker = median(turn.marker for turn in huge)
    yield Row("cold and huge to the guest's marker", "s", marker, "64 MiB", theirs, Goal(most=1.3))
    part = max(turn.part for turn in huge)
    yield Row("cold and huge to the guest's marker", "part read", part, goal=Goal(most=0.1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="boots of each")
    parser.add_argument("--quick", action="store_true", help="smaller images")
    parser.add_argument("--directory", type=Path, help="where to write; the temporary directory by default")
    parser.add_argument("--guest-cache", type=Path, help="where the demonstration guest's image is kept")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    folder = Path(tempfile.mkdtemp(prefix="lz-", dir=arguments.directory))
    try:
        with ExitStack() as stack:
            guest = guest_image.build(arguments.guest_cache or folder / "guest")
            bench = Bench(folder, stack)
            ids = {
                name: bench.upload(path, disk_format)
                for name, path, disk_format in disks(folder, guest, quick=arguments.quick)
            }
            Console(width=130).print(table(list(measured(bench, ids, arguments.repeats))))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
