"""Guests of the fake hypervisor: what one is, what is done to it, and how it is kept in files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from novalite import faults
from novalite.errors import InvalidState
from novalite.virt.base import InstanceSpec, PowerAction, PowerState
from novalite.virt.fake_places import DISK, DRIVE, EPHEMERAL, GUEST

#: Serial output kept of each guest, in characters.
_LOG_CHARS = 1 << 20
#: They keep the guest's memory, if it has any.
GOING_ON = (PowerAction.START, PowerAction.UNPAUSE, PowerAction.RESUME)
META_DATA = "openstack/latest/meta_data.json"
#: What is on an ephemeral disk that no guest has written to.
EMPTY = b"NOVALITE-FAKE-EPHEMERAL\n"


@dataclass
class Guest:
    """A guest; ``facts`` are of its config drive."""

    id: str
    name: str
    facts: Mapping[str, Any]
    state: PowerState = PowerState.SHUTDOWN
    log: str = ""
    suspended: bool = False
    rescued: bool = False
    # vcpus, memory_mb, root_bytes, swap_bytes, ephemeral_bytes
    size: list[int] = field(default_factory=lambda: [0, 0, 0, 0, 0])
    before: list[int] | None = None  # a resize


def guest_of(plain: dict[str, Any]) -> Guest:
    """Make a guest of what was kept of it; earlier versions knew no ephemeral disks."""
    sizes = {name: plain[name] and [*plain[name], 0][:5] for name in ("size", "before")}
    return Guest(**{**plain, **sizes, "state": PowerState(plain["state"])})


class Kept:
    """Guests as files: a directory each, with a disk, and a state once they are made."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def all(self) -> dict[str, Guest]:
        """Map ids to the guests that are complete."""
        found = (json.loads(path.read_text()) for path in self.directory.glob(f"*/{GUEST}"))
        return {each["id"]: guest_of(each) for each in found}

    def folder(self, instance_id: str) -> Path:
        """Return where all of a guest is."""
        return self.directory / instance_id

    def make_disks(self, spec: InstanceSpec) -> None:
        """Copy the bases, and write the config drive."""
        folder = self.folder(spec.id)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(spec.base.path, folder / DISK)
        if spec.ephemeral_bytes and spec.ephemeral_base is not None:
            shutil.copyfile(spec.ephemeral_base.path, folder / EPHEMERAL)
        elif spec.ephemeral_bytes:
            (folder / EPHEMERAL).write_bytes(EMPTY)
        if spec.config_drive is not None:
            (folder / DRIVE).write_bytes(spec.config_drive.get(META_DATA, b"{}"))

    def disk(self, instance_id: str) -> bytes:
        """Return what is on a guest's disk."""
        return (self.folder(instance_id) / DISK).read_bytes()

    def ephemeral(self, instance_id: str) -> bytes:
        """Return what is on a guest's ephemeral disk."""
        return (self.folder(instance_id) / EPHEMERAL).read_bytes()

    def make_ephemeral(self, instance_id: str) -> None:
        """Make an ephemeral disk; one that is there stays."""
        path = self.folder(instance_id) / EPHEMERAL
        if not path.exists():
            path.write_bytes(EMPTY)

    def drop_ephemeral(self, instance_id: str) -> None:
        """Remove the ephemeral disk, if there is one."""
        (self.folder(instance_id) / EPHEMERAL).unlink(missing_ok=True)

    def write(self, guest: Guest) -> None:
        """Keep a guest as it is now."""
        path = self.folder(guest.id) / GUEST
        fresh = path.with_suffix(".fresh")
        fresh.write_text(json.dumps(asdict(guest)))
        fresh.replace(path)

    def remove(self, instance_id: str) -> None:
        """Remove all of a guest, itself first."""
        folder = self.folder(instance_id)
        (folder / GUEST).unlink(missing_ok=True)
        if folder.exists():
            faults.passing("guest-half-removed")
            shutil.rmtree(folder)


def change(guest: Guest, action: PowerAction) -> None:
    """Change a guest's power state; raise InvalidState for one that is off and is to be halted."""
    if action in (PowerAction.PAUSE, PowerAction.SUSPEND):
        _halt(guest, action)
        return
    if action not in GOING_ON and guest.state is not PowerState.CRASHED:
        guest.state, guest.suspended = PowerState.SHUTDOWN, False
    if action not in (PowerAction.STOP, PowerAction.FORCE_STOP):
        start(guest)


def _halt(guest: Guest, action: PowerAction) -> None:
    if guest.state is PowerState.SHUTDOWN and not (guest.suspended and action is PowerAction.SUSPEND):
        raise InvalidState(f"instance {guest.id} isn't running")
    if action is PowerAction.PAUSE:
        guest.state = PowerState.PAUSED
    else:
        guest.state, guest.suspended = PowerState.SHUTDOWN, True


def start(guest: Guest) -> None:
    """Have a guest run, and print what it does when it boots."""
    if guest.state is PowerState.RUNNING:
        return
    went_on = guest.suspended or guest.state is PowerState.PAUSED
    guest.state, guest.suspended = PowerState.RUNNING, False
    if went_on:
        return
    lines = ["NOVALITE-GUEST init"]
    if guest.rescued:
        lines.append("NOVALITE-GUEST rescued")
    lines.append(f"NOVALITE-GUEST vcpus={guest.size[0]} memory={guest.size[1]}")
    told = {"uuid": guest.id, "name": guest.name, **guest.facts}
    lines.append(f"NOVALITE-GUEST instance-id={told['uuid']} name={told['name']} source=fake")
    lines.append("NOVALITE-GUEST ready uptime=0.00")
    guest.log = (guest.log + "".join(f"{line}\r\n" for line in lines))[-_LOG_CHARS:]
