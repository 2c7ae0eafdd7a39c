"""Points at which a test may have a process killed; nothing happens at them otherwise.

The environment variable NOVALITE_FAULTS names a directory. A process that
passes a point whose name is a file there removes the file and kills itself,
as ``kill -9`` would: once, so that its successor passes. The table in
docs/compute-faults.md says how each ends.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "NOVALITE_FAULTS"


@dataclass(frozen=True, slots=True)
class Point:
    """Where it is: in which process, during which orders, after what."""

    process: str
    orders: tuple[str, ...]
    after: str


ALL = ("boot", "stop", "start", "delete")
#: Orders of a server that is on one host, and of one that goes to another.
CHANGES = ("rebuild", "rescue", "unrescue", "image", "shelve", "unshelve", "resize", "confirm", "revert")
MOVES = ("migrate", "confirm the move", "revert the move", "evacuate")
#: Of a guest that runs; needs a hypervisor that can do it.
LIVE = ("live migration",)
#: Nobody's order: the image of a guest that runs already can't come any more.
LOST = ("image lost",)
ORDERS = (*ALL, *CHANGES, *MOVES)
POINTS: Mapping[str, Point] = {
    "order-recorded": Point("api", (*ALL, "migrate"), "the order is in the database, nobody has been told"),
    "order-told": Point("api", ALL, "the message is on its way, the caller has no answer"),
    "placing-begun": Point(
        "scheduler", ("boot", "migrate", "evacuate"), "the scheduler holds the server's lease"
    ),
    "host-claimed": Point(
        "scheduler",
        ("boot", "resize", "migrate", "evacuate"),
        "the host is claimed, no worker has been told",
    ),
    "host-told": Point("scheduler", ("boot",), "the message to the host's worker is on its way"),
    "task-begun": Point(
        "compute", (*ALL, "migrate", "revert the move"), "the first worker holds the server's lease"
    ),
    "image-ready": Point("compute", ("boot",), "the base image is in the cache, verified"),
    "disk-waits": Point(
        "compute", ("migrate",), "the old host has made a file of the disk, the database doesn't know"
    ),
    "disk-fetched": Point("compute", ("migrate",), "the new host has that file, verified"),
    "guest-half-made": Point(
        "compute",
        ("boot", "rebuild", "unshelve", "migrate", "evacuate"),
        "the guest has a disk, the hypervisor doesn't know it",
    ),
    "guest-made": Point("compute", ("boot", "unshelve"), "the guest runs, the database doesn't know"),
    "guest-arrived": Point(
        "compute", ("migrate",), "the guest runs on the new host, the database doesn't know"
    ),
    "guest-made-anew": Point(
        "compute", ("rebuild", "evacuate"), "the guest runs anew, the database doesn't know"
    ),
    "guest-rebooted": Point(
        "compute", ("rescue", "unrescue"), "the guest has another first disk, the database doesn't know"
    ),
    "guest-resized": Point("compute", ("resize",), "the guest has another size, the database doesn't know"),
    "resize-ended": Point(
        "compute",
        ("confirm", "revert"),
        "what the guest was is gone, or is what it is again; the database doesn't know",
    ),
    "guest-is-back": Point(
        "compute", ("revert the move",), "the guest runs on the old host, the database doesn't know"
    ),
    "disk-copied": Point("compute", ("image", "shelve"), "there is a copy of the disk, not yet uploaded"),
    "image-filled": Point("compute", ("image", "shelve"), "the image is active, the database doesn't know"),
    "power-changed": Point("compute", ("stop", "start"), "the guest is off or on, the database doesn't know"),
    "guest-half-removed": Point(
        "compute",
        ("delete", "rebuild", "confirm the move", "evacuate"),
        "the guest is gone, its disk is left",
    ),
    "guest-removed": Point(
        "compute", ("delete", "shelve"), "nothing is left of the guest, the database doesn't know"
    ),
    "place-ready": Point(
        "compute", LIVE, "the new host has made all ready for the guest, the database doesn't know"
    ),
    "guest-leaves": Point("compute", LIVE, "the hypervisors are sending the guest"),
    "guest-sent": Point("compute", LIVE, "the guest runs on the new host, the database doesn't know"),
    "loss-told": Point("compute", LOST, "the database knows why, the guest isn't stopped yet"),
    "outcome-recorded": Point(
        "compute",
        (*ALL, "unshelve", "migrate", "confirm the move", "evacuate"),
        "the database knows, of the first half at least",
    ),
}


def passing(point: str) -> None:
    """Die here if a test wants it."""
    directory = os.environ.get(VARIABLE)
    if directory is not None:
        with suppress(FileNotFoundError):
            (Path(directory) / point).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
