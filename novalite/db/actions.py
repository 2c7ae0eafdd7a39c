"""What was ordered of servers, and the steps of it.

An order is written in the transaction that changes the server for it. The
steps follow from the work: a worker that begins a task opens one, and its
outcome closes it (see ``db.work``), so the list is never behind the truth.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.db.engine import Records, tried_again
from novalite.db.tables import server_action_events as events
from novalite.db.tables import server_actions as actions
from novalite.errors import InvalidInput, NotFound
from novalite.model import Action, ActionEvent, ActionQuery, Fault, Order, Page, Server, TaskState, utcnow

# Task -> the step's name, as Nova's workers call it.
EVENTS = {
    TaskState.SCHEDULING: "conductor_schedule_and_build_instances",
    TaskState.SPAWNING: "compute__do_build_and_run_instance",
    TaskState.POWERING_ON: "compute_start_instance",
    TaskState.POWERING_OFF: "compute_stop_instance",
    TaskState.REBOOTING: "compute_reboot_instance",
    TaskState.REBOOTING_HARD: "compute_reboot_instance",
    TaskState.PAUSING: "compute_pause_instance",
    TaskState.UNPAUSING: "compute_unpause_instance",
    TaskState.SUSPENDING: "compute_suspend_instance",
    TaskState.RESUMING: "compute_resume_instance",
    TaskState.REBUILDING: "compute_rebuild_instance",
    TaskState.RESCUING: "compute_rescue_instance",
    TaskState.UNRESCUING: "compute_unrescue_instance",
    TaskState.IMAGE_SNAPSHOT: "compute_snapshot_instance",
    TaskState.IMAGE_BACKUP: "compute_backup_instance",
    TaskState.RESIZE_PREP: "conductor_migrate_server",
    TaskState.RESIZE_MIGRATING: "compute_resize_instance",
    TaskState.RESIZE_MIGRATED: "compute_finish_resize",
    TaskState.RESIZE_FINISH: "compute_finish_resize",
    TaskState.RESIZE_CONFIRMING: "compute_confirm_resize",
    TaskState.RESIZE_REVERTING: "compute_finish_revert_resize",
    TaskState.SHELVING: "compute_shelve_instance",
    TaskState.SHELVING_OFFLOADING: "compute_shelve_offload_instance",
    TaskState.UNSHELVING: "compute_unshelve_instance",
    TaskState.EVACUATING: "conductor_rebuild_server",
    TaskState.REBUILD_SPAWNING: "compute_rebuild_instance",
    TaskState.LIVE_PREP: "conductor_live_migrate_instance",
    TaskState.LIVE_LEAVING: "compute_check_can_live_migrate_source",
    TaskState.LIVE_PREPARING: "compute_pre_live_migration",
    TaskState.MIGRATING: "compute_live_migration",
    TaskState.LIVE_ARRIVED: "compute_post_live_migration_at_destination",
    TaskState.LIVE_CANCELLING: "compute_live_migration_abort",
    TaskState.DELETING: "compute_terminate_instance",
}
SUCCESS, ERROR = "Success", "Error"


def record(connection: Connection, server_id: str, order: Order, *, failed: bool = False) -> None:
    """Write down an order, within the caller's transaction.

    One request orders one thing of a server; a repeat of it changes nothing.
    """
    known = sa.select(actions.c.server_id).where(*_is(server_id, order.request_id))
    if connection.scalar(known) is not None:
        return
    now = utcnow()
    connection.execute(
        sa.insert(actions).values(
            server_id=server_id,
            request_id=order.request_id,
            action=order.action,
            user=order.user,
            project=order.project,
            started_at=now,
            updated_at=now,
            message=ERROR if failed else None,
        )
    )


def begin_step(connection: Connection, server: Server) -> None:
    """Open the step of a server's task; one that a killed worker left open goes on."""
    if server.request_id is None or server.task_state is None:
        return
    name = EVENTS[server.task_state]
    step = (*_step(server), events.c.event == name)
    if connection.scalar(sa.select(events.c.id).where(*step).limit(1)) is None:
        connection.execute(
            sa.insert(events).values(
                server_id=server.id,
                request_id=server.request_id,
                event=name,
                host=server.host,
                started_at=utcnow(),
            )
        )


def end_step(connection: Connection, server: Server, fault: Fault | None = None) -> None:
    """Close the step of a server's task; a fault is told in the action, too."""
    if server.request_id is None:
        return
    now = utcnow()
    connection.execute(
        sa.update(events)
        .where(*_step(server))
        .values(
            finished_at=now,
            result=SUCCESS if fault is None else ERROR,
            details=None if fault is None else fault.message,
        )
    )
    told = {} if fault is None else {"message": ERROR}
    connection.execute(
        sa.update(actions).where(*_is(server.id, server.request_id)).values(updated_at=now, **told)
    )


@tried_again
class ActionRecords(Records):
    """Queries on actions; one method is one transaction."""

    def list(self, server_id: str, query: ActionQuery) -> Page[Action]:
        """Return one page, newest first, without events; raise InvalidInput for a bad marker."""
        conditions = [actions.c.server_id == server_id]
        if query.changes_since is not None:
            conditions.append(actions.c.updated_at >= query.changes_since)
        if query.changes_before is not None:
            conditions.append(actions.c.updated_at <= query.changes_before)
        keys = (actions.c.started_at, actions.c.request_id)
        with self._engine.reading() as connection:
            if query.marker is not None:
                at = connection.execute(sa.select(*keys).where(*_is(server_id, query.marker))).first()
                if at is None:
                    raise InvalidInput(f"Marker {query.marker} could not be found.")
                older = sa.and_(keys[0] == at[0], keys[1] < at[1])
                conditions.append(sa.or_(keys[0] < at[0], older))
            rows = connection.execute(
                sa.select(actions)
                .where(*conditions)
                .order_by(*(key.desc() for key in keys))
                .limit(query.limit + 1)
            ).mappings()
            found = [Action(**row) for row in rows]
        items = tuple(found[: query.limit])
        return Page(items, items[-1].request_id if len(found) > query.limit and items else None)

    def get(self, server_id: str, request_id: str) -> Action:
        """Return an action with its events, newest first; raise NotFound."""
        with self._engine.reading() as connection:
            row = connection.execute(sa.select(actions).where(*_is(server_id, request_id))).mappings().first()
            if row is None:
                raise NotFound(f"Action {request_id} not found")
            steps = connection.execute(
                sa.select(events)
                .where(events.c.server_id == server_id, events.c.request_id == request_id)
                .order_by(events.c.id.desc())
            )
            return Action(
                **row,
                events=tuple(
                    ActionEvent(
                        each.event, each.host, each.started_at, each.finished_at, each.result, each.details
                    )
                    for each in steps
                ),
            )


def _is(server_id: str, request_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return actions.c.server_id == server_id, actions.c.request_id == request_id


def _step(server: Server) -> tuple[sa.ColumnElement[bool], ...]:
    """Say which the open steps of a server's present order are."""
    return (
        events.c.server_id == server.id,
        events.c.request_id == server.request_id,
        events.c.finished_at.is_(None),
    )
