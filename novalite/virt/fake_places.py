"""Where guests of the fake hypervisor arrive that run on: directories that another one's guests are put into.

A guest is a file, and changes hands by being renamed: it is on the one host
or on the other, whoever is killed when. So both are on one machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from novalite.errors import HypervisorDown

GUEST = "guest.json"
DISK = "disk"
EPHEMERAL = "ephemeral"
DRIVE = "config"
_EXPECTED = "expected"


class Inbox:
    """Guests that are to come here; made again upon the same directory it knows them still."""

    def __init__(self, directory: Path, kept: Path | None) -> None:
        """What comes with a guest is moved into the directory ``kept``, if there is one."""
        self.directory = directory
        self._kept = kept
        self._expected = {path.parent.name for path in directory.glob(f"*/{_EXPECTED}")}

    def expect(self, instance_id: str, config_drive: Path | None) -> None:
        """Make a place ready for a guest; what is there of it goes."""
        self.forget(instance_id)
        place = self.directory / instance_id
        place.mkdir(parents=True)
        if config_drive is not None:
            shutil.move(config_drive, place / DRIVE)
        (place / _EXPECTED).touch()
        self._expected.add(instance_id)

    def forget(self, instance_id: str) -> None:
        """Expect a guest no more."""
        self._expected.discard(instance_id)
        shutil.rmtree(self.directory / instance_id, ignore_errors=True)

    def arrived(self) -> dict[str, dict[str, Any]]:
        """Take in what has come, by the guests' ids."""
        found = {}
        for instance_id in list(self._expected):
            place = self.directory / instance_id
            if (place / GUEST).exists():
                found[instance_id] = json.loads((place / GUEST).read_text())
                if self._kept is not None:
                    shutil.rmtree(self._kept / instance_id, ignore_errors=True)
                    self._kept.mkdir(parents=True, exist_ok=True)
                    place = Path(shutil.move(place, self._kept / instance_id))
                    (place / _EXPECTED).unlink()
                else:
                    shutil.rmtree(place)
                self._expected.discard(instance_id)
        return found


def hand_over(instance_id: str, there: str, kept: Path | None, guest: Mapping[str, Any]) -> None:
    """Give a guest to whoever expects it in the directory ``there``.

    ``kept`` is the directory that it is kept in here, whose file of it goes; the rest
    is left. Raises HypervisorDown where it isn't expected, and it is here still.
    """
    place = Path(there) / instance_id
    if not (place / _EXPECTED).exists():
        raise HypervisorDown(f"instance {instance_id} isn't expected in {there}, on this machine")
    try:
        if kept is None:
            leaving = place / f"{GUEST}.leaving"
            leaving.write_text(json.dumps(guest))
        else:
            leaving = kept / GUEST
            for name in (DISK, EPHEMERAL):
                if (kept / name).exists():
                    shutil.copyfile(kept / name, place / name)
        leaving.replace(place / GUEST)
    except OSError as error:
        raise HypervisorDown(f"instance {instance_id} can't get to {there}: {error}") from error
