"""Images that nobody wants any more, until they are gone.

One that novalite made for a server (a snapshot, what a shelved server is
kept as) belongs to an order or to the server's record. The transaction that
takes it away from there writes it down here, so that neither a process that
dies next nor an image service that is away leaves it over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.db.engine import Records, now, tried_again
from novalite.db.tables import unwanted_images
from novalite.model import SHELVED_IMAGE, Server, TaskState, VmState

_SNAPSHOTS = (TaskState.IMAGE_SNAPSHOT, TaskState.IMAGE_BACKUP)
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class UnwantedImage:
    """An image to be removed; one with ``unless_filled`` only while it has no data."""

    id: str
    unless_filled: bool


def left_by(server: Server, values: Mapping[str, Any], *, done: bool) -> list[UnwantedImage]:
    """Tell which images a server lets go of when ``values`` are set.

    ``done`` says that its task has come to a good end, and not to a bad one or to none.
    """
    left: list[UnwantedImage] = []
    kept = {} if values.get("vm_state") == VmState.DELETED else values.get("kept", server.kept)
    shelved, stays = server.kept.get(SHELVED_IMAGE), kept.get(SHELVED_IMAGE)
    if shelved is not None and shelved != stays:
        left.append(UnwantedImage(str(shelved), unless_filled=False))
    ordered = server.task_args.get("image_id")
    ends = values.get("task_state", server.task_state) != server.task_state
    if ordered is None or done or not ends:
        return left
    if server.task_state == TaskState.SHELVING:
        left.append(UnwantedImage(str(ordered), unless_filled=False))
    elif server.task_state in _SNAPSHOTS:
        left.append(UnwantedImage(str(ordered), unless_filled=True))
    return left


def note(connection: Connection, server: Server, values: Mapping[str, Any], *, done: bool = False) -> None:
    """Write down what ``left_by`` tells, within the caller's transaction."""
    left = left_by(server, values, done=done)
    if not left:
        return
    # What was called off may be let go of once more.
    again = unwanted_images.c.image_id.in_([image.id for image in left])
    connection.execute(sa.delete(unwanted_images).where(again))
    due = now(connection)
    connection.execute(
        sa.insert(unwanted_images),
        [{"image_id": image.id, "unless_filled": image.unless_filled, "due_at": due} for image in left],
    )


@tried_again
class UnwantedRecords(Records):
    """Queries on them."""

    def take(self, *, seconds: float) -> tuple[UnwantedImage, ...]:
        """Return some that are due; they are so again in so many seconds, unless they are gone by then."""
        with self._engine.reading() as connection:
            due = unwanted_images.c.due_at <= now(connection)
            if connection.execute(sa.select(unwanted_images.c.image_id).where(due).limit(1)).first() is None:
                return ()
        with self._engine.writing() as connection:
            at = now(connection)
            wanted = sa.select(unwanted_images).where(unwanted_images.c.due_at <= at)
            rows = connection.execute(wanted.order_by(unwanted_images.c.due_at).limit(_AT_ONCE)).all()
            taken = unwanted_images.c.image_id.in_([row.image_id for row in rows])
            later = at + timedelta(seconds=seconds)
            connection.execute(sa.update(unwanted_images).where(taken).values(due_at=later))
            return tuple(UnwantedImage(row.image_id, row.unless_filled) for row in rows)

    def gone(self, image_id: str) -> None:
        """Forget an image that isn't there any more."""
        with self._engine.writing() as connection:
            connection.execute(sa.delete(unwanted_images).where(unwanted_images.c.image_id == image_id))
