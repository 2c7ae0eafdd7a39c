"""A node in a process of its own, which may kill itself at a given point.

Run as ``python novalite_child.py DIRECTORY HOST POINT [TIMES]``. The guests
are files, so they outlive the process as real ones do. At its POINT the
process ends by SIGKILL, from the TIMES-th passing on; "never" runs until
the standard input ends.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from novalite.compose import ALL_ROLES, build_all
from novalite.config import Settings, load
from novalite.db.hosts import HostRecords
from novalite.db.work import WorkRecords
from novalite.errors import InstanceNotFound
from novalite.model import Caller, ImageInfo
from novalite.virt.base import HostInfo, InstanceSpec, PowerAction, PowerState, VirtDriver

IMAGE = ImageInfo(
    "5eed5eed-0000-0000-0000-000000000000", disk_format="raw", container_format="bare", size=512
)
POINT = sys.argv[3] if __name__ == "__main__" else "never"
LEFT = [int(sys.argv[4]) if __name__ == "__main__" and len(sys.argv) > 4 else 1]


def passing(point: str) -> None:
    """Die here if this is the point."""
    if point == POINT:
        LEFT[0] -= 1
        if LEFT[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


class FileDriver(VirtDriver):
    """Keeps each guest as a directory with a disk and a state."""

    name = "file"

    def open(self) -> None:
        self.folder = Path(self.settings["instances_path"])

    def host_info(self) -> HostInfo:
        return HostInfo("host", "file", "1", "file", "x86_64", 100, 100_000, 1000)

    def list_states(self) -> dict[str, PowerState]:
        return {path.parent.name: PowerState(path.read_text()) for path in self.folder.glob("*/state")}

    def spawn(self, spec: InstanceSpec) -> None:
        passing("spawn-begin")
        folder = self.folder / spec.id
        if (folder / "state").exists():
            return
        # A directory that is there was left by a build cut short, and wasn't cleaned.
        folder.mkdir(parents=True)
        (folder / "disk").write_bytes(spec.base.path.read_bytes())
        passing("spawn-middle")
        self._set(spec.id, PowerState.RUNNING)
        with (self.folder.parent / "spawned").open("a") as log:
            log.write(f"{spec.id}\n")
        passing("spawn-end")

    def destroy(self, instance_id: str) -> None:
        passing("destroy-begin")
        folder = self.folder / instance_id
        (folder / "state").unlink(missing_ok=True)
        passing("destroy-middle")
        shutil.rmtree(folder, ignore_errors=True)
        passing("destroy-end")

    def set_power(self, instance_id: str, action: PowerAction) -> None:
        if not (self.folder / instance_id / "state").exists():
            raise InstanceNotFound(instance_id)
        passing("power-begin")
        off = action in (PowerAction.STOP, PowerAction.FORCE_STOP)
        self._set(instance_id, PowerState.SHUTDOWN if off else PowerState.RUNNING)
        passing("power-end")

    def _set(self, instance_id: str, state: PowerState) -> None:
        fresh = self.folder / instance_id / "fresh"
        fresh.write_text(state)
        fresh.replace(self.folder / instance_id / "state")


class Images:
    """One image, delivered in two pieces."""

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def show(self, image_id: str, caller: Caller) -> ImageInfo:
        return replace(IMAGE, id=image_id)

    def fetch(self, image: ImageInfo, target: Path, check: Callable[[], None] = lambda: None) -> None:
        with target.open("wb") as file:
            file.write(b"\0" * 256)
            file.flush()
            passing("fetch-middle")
            file.write(b"\0" * 256)


def settings_of(directory: Path, host: str) -> Settings:
    """Return the settings of one host in a directory."""
    options: dict[tuple[str, str], Any] = {
        ("DEFAULT", "host"): host,
        ("DEFAULT", "state_path"): str(directory / host),
        ("DEFAULT", "compute_driver"): "fake",
        ("DEFAULT", "redrive_interval"): 0.1,
        ("DEFAULT", "report_interval"): 0.3,
        ("DEFAULT", "sync_power_state_interval"): 0.1,
        ("scheduler", "hooks"): ["capacity"],
        ("database", "connection"): f"sqlite:///{directory / 'novalite.sqlite'}",
        ("database", "auto_upgrade"): True,
        ("quota", "instances"): -1,
        ("quota", "cores"): -1,
    }
    settings = load([], config_files=[], overrides=options)
    return replace(
        settings, virt_driver=FileDriver, virt_settings={"instances_path": str(settings.instances_path)}
    )


def with_points(owner: type, method: str, point: str) -> None:
    """Have two points around a method of the database."""
    original = getattr(owner, method)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        passing(f"{point}-begin")
        result = original(self, *args, **kwargs)
        passing(f"{point}-end")
        return result

    setattr(owner, method, wrapped)


def main() -> None:
    directory, host = Path(sys.argv[1]), sys.argv[2]
    logging.basicConfig(level=logging.INFO, filename=directory / f"{host}.log")
    with_points(HostRecords, "claim", "claim")
    with_points(WorkRecords, "begin", "work")
    with_points(WorkRecords, "built", "built")
    with_points(WorkRecords, "deleted", "deleted")
    with build_all(settings_of(directory, host), roles=ALL_ROLES, images=Images()):
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
