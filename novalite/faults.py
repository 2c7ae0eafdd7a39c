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
POINTS: Mapping[str, Point] = {
    "order-recorded": Point("api", ALL, "the order is in the database, nobody has been told"),
    "order-told": Point("api", ALL, "the message is on its way, the caller has no answer"),
    "placing-begun": Point("scheduler", ("boot",), "the scheduler holds the server's lease"),
    "host-claimed": Point("scheduler", ("boot",), "the host is claimed, its worker has not been told"),
    "host-told": Point("scheduler", ("boot",), "the message to the host's worker is on its way"),
    "task-begun": Point("compute", ALL, "the worker holds the server's lease"),
    "image-ready": Point("compute", ("boot",), "the base image is in the cache, verified"),
    "guest-half-made": Point("compute", ("boot",), "the guest has a disk, the hypervisor doesn't know it"),
    "guest-made": Point("compute", ("boot",), "the guest runs, the database doesn't know"),
    "power-changed": Point("compute", ("stop", "start"), "the guest is off or on, the database doesn't know"),
    "guest-half-removed": Point("compute", ("delete",), "the guest is gone, its disk is left"),
    "guest-removed": Point("compute", ("delete",), "nothing is left of the guest, the database doesn't know"),
    "outcome-recorded": Point("compute", ALL, "the database knows"),
}


def passing(point: str) -> None:
    """Die here if a test wants it."""
    directory = os.environ.get(VARIABLE)
    if directory is not None:
        with suppress(FileNotFoundError):
            (Path(directory) / point).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
