"""Records of another registry, many in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from glancelike.errors import RegistryUnavailable
from glancelike.model import Status
from glancelike.registry import values
from glancelike.registry.parts import Adopted, Upkeep
from glancelike.registry.sql import records as rows
from glancelike.registry.sql.database import Database
from glancelike.registry.sql.tables import DELETED, images, members

ATTEMPTS = 5


class AdoptionSql(Upkeep, Database):
    """Add records as they are."""

    def adopt(self, records: Sequence[Adopted]) -> frozenset[str]:
        checked = {each.image.id: _checked(each) for each in records}
        for _attempt in range(ATTEMPTS):
            with self._writing() as connection:
                try:
                    return _added(connection, checked)
                except IntegrityError:
                    connection.rollback()  # somebody else has just made one of them
        raise RegistryUnavailable(f"{self._where}: others are making the same images: try again")


def _checked(adopted: Adopted) -> Adopted:
    deleted_at = adopted.deleted_at
    return Adopted(
        replace(values.checked_image(adopted.image), version=1),
        tuple(values.checked_member(member) for member in adopted.members),
        None if deleted_at is None else values.in_utc("deleted_at", deleted_at),
    )


def _added(connection: Connection, records: dict[str, Adopted]) -> frozenset[str]:
    new = dict(records)
    for batch in rows.batches(records):
        for taken in connection.execute(sa.select(images.c.id).where(images.c.id.in_(batch))).scalars():
            del new[taken]
    inserts: defaultdict[sa.Table, list[dict[str, Any]]] = defaultdict(list)
    for each in new.values():
        inserts[images].append(_row(each))
        if each.deleted_at is None:
            for table, found in rows.new_children(each.image).items():
                inserts[table] += found
            made = each.image.created_at
            inserts[members] += (rows.row_of_member(member, made) for member in each.members)
    for table, found in inserts.items():
        if found:
            connection.execute(sa.insert(table), found)
    return frozenset(new)


def _row(adopted: Adopted) -> dict[str, Any]:
    image = adopted.image
    row = rows.scalars_of(image)
    row.update(version=1, created_at=image.created_at, updated_at=image.updated_at, deleted_at=None)
    if adopted.deleted_at is not None:
        row.update(shelf=DELETED, status=Status.DELETED.value, deleted_at=adopted.deleted_at)
    return row
