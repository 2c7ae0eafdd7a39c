"""What servers are, what is being done to them, and what is shown of it."""

from __future__ import annotations

import enum


class VmState(enum.StrEnum):
    """What a server is, apart from what is being done to it."""

    BUILDING = "building"
    ACTIVE = "active"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    RESCUED = "rescued"
    RESIZED = "resized"
    SHELVED = "shelved"
    SHELVED_OFFLOADED = "shelved_offloaded"
    ERROR = "error"
    DELETED = "deleted"


class TaskState(enum.StrEnum):
    """What is being done to a server; a worker owes the end of it.

    A server without a task needs nobody. One with a task is unfinished
    work, found and driven on by the scheduler (``SCHEDULING`` of a server
    without a host, and ``OF_SCHEDULER``) or by the compute manager of its
    host (all others).
    """

    SCHEDULING = "scheduling"
    SPAWNING = "spawning"
    POWERING_ON = "powering-on"
    POWERING_OFF = "powering-off"
    REBOOTING = "rebooting"
    REBOOTING_HARD = "rebooting_hard"
    PAUSING = "pausing"
    UNPAUSING = "unpausing"
    SUSPENDING = "suspending"
    RESUMING = "resuming"
    REBUILDING = "rebuilding"
    RESCUING = "rescuing"
    UNRESCUING = "unrescuing"
    IMAGE_SNAPSHOT = "image_snapshot"
    IMAGE_BACKUP = "image_backup"
    RESIZE_PREP = "resize_prep"
    RESIZE_MIGRATING = "resize_migrating"
    RESIZE_MIGRATED = "resize_migrated"
    RESIZE_FINISH = "resize_finish"
    RESIZE_CONFIRMING = "resize_confirming"
    RESIZE_REVERTING = "resize_reverting"
    SHELVING = "shelving"
    SHELVING_OFFLOADING = "shelving_offloading"
    UNSHELVING = "unshelving"
    EVACUATING = "evacuating"
    REBUILD_SPAWNING = "rebuild_spawning"
    LIVE_PREP = "live_prep"
    LIVE_LEAVING = "live_leaving"
    LIVE_PREPARING = "live_preparing"
    MIGRATING = "migrating"
    LIVE_ARRIVED = "live_arrived"
    LIVE_CANCELLING = "live_cancelling"
    DELETING = "deleting"


#: Tasks of servers that have a host, for which the scheduler is to find room.
OF_SCHEDULER = (TaskState.RESIZE_PREP, TaskState.EVACUATING, TaskState.LIVE_PREP)

#: While one of these goes on the guest runs on the one host or the other; nobody but their worker touches it.
LIVE = (
    *(TaskState.LIVE_LEAVING, TaskState.LIVE_PREPARING, TaskState.MIGRATING, TaskState.LIVE_ARRIVED),
    TaskState.LIVE_CANCELLING,
)

#: What ``task_args`` say of a live migration that is to end soon, at the price of a pause.
FORCE_COMPLETE = "force_complete"

# Keys of ``Server.kept``.
RESIZED_FROM = "resized_from"
SHELVED_IMAGE = "shelved_image"


class Status(enum.StrEnum):
    """What the Compute API shows as ``status``."""

    BUILD = "BUILD"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    SUSPENDED = "SUSPENDED"
    SHUTOFF = "SHUTOFF"
    RESCUE = "RESCUE"
    REBUILD = "REBUILD"
    RESIZE = "RESIZE"
    VERIFY_RESIZE = "VERIFY_RESIZE"
    REVERT_RESIZE = "REVERT_RESIZE"
    SHELVED = "SHELVED"
    SHELVED_OFFLOADED = "SHELVED_OFFLOADED"
    REBOOT = "REBOOT"
    HARD_REBOOT = "HARD_REBOOT"
    MIGRATING = "MIGRATING"
    ERROR = "ERROR"
    DELETED = "DELETED"


STATUS_OF_STATE = {
    VmState.BUILDING: Status.BUILD,
    VmState.ACTIVE: Status.ACTIVE,
    VmState.PAUSED: Status.PAUSED,
    VmState.SUSPENDED: Status.SUSPENDED,
    VmState.STOPPED: Status.SHUTOFF,
    VmState.RESCUED: Status.RESCUE,
    VmState.RESIZED: Status.VERIFY_RESIZE,
    VmState.SHELVED: Status.SHELVED,
    VmState.SHELVED_OFFLOADED: Status.SHELVED_OFFLOADED,
    VmState.ERROR: Status.ERROR,
    VmState.DELETED: Status.DELETED,
}

# What a task shows instead, whatever the server is.
STATUS_OF_TASK = {
    TaskState.REBOOTING: Status.REBOOT,
    TaskState.REBOOTING_HARD: Status.HARD_REBOOT,
    TaskState.REBUILDING: Status.REBUILD,
    TaskState.EVACUATING: Status.REBUILD,
    TaskState.LIVE_PREP: Status.MIGRATING,
    **dict.fromkeys(LIVE, Status.MIGRATING),
    TaskState.REBUILD_SPAWNING: Status.REBUILD,
    TaskState.RESIZE_PREP: Status.RESIZE,
    TaskState.RESIZE_MIGRATING: Status.RESIZE,
    TaskState.RESIZE_MIGRATED: Status.RESIZE,
    TaskState.RESIZE_FINISH: Status.RESIZE,
    TaskState.RESIZE_REVERTING: Status.REVERT_RESIZE,
}
