"""Uploads in pieces, in SQL."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from glancelike.errors import ImageNotFound, StaleUpload, UploadNotFound
from glancelike.model import Upload, UploadKind, UploadState
from glancelike.registry import values
from glancelike.registry.parts import UploadRecords
from glancelike.registry.sql.database import Database, now
from glancelike.registry.sql.records import batches
from glancelike.registry.sql.tables import DELETED, images, uploads

u, i = uploads.c, images.c
PLAIN = (
    "owner", "store", "home", "key", "session", "length", "part_size", "parts", "metadata", "task_id",
    "expires_at",
)  # fmt: skip


class UploadSql(UploadRecords, Database):
    """Keep uploads, one row each."""

    def create_upload(self, upload: Upload) -> Upload:
        upload = replace(values.checked_upload(upload), version=1)
        own = {"id": upload.id, "image_id": upload.image_id, "created_at": upload.created_at, "version": 1}
        with self._writing() as connection:
            # The image's row is the lock: no upload outlives its image.
            alive = sa.select(i.id).where(i.id == upload.image_id, i.shelf != DELETED).with_for_update()
            if connection.scalar(alive) is None:
                raise ImageNotFound(f"image {upload.image_id!r} not found")
            try:
                connection.execute(sa.insert(uploads), {**own, **_row(upload)})
            except IntegrityError:
                raise values.upload_exists(upload.id) from None
        return upload

    def get_upload(self, upload_id: str) -> Upload:
        if values.storable(upload_id):
            with self._looking() as connection:
                row = connection.execute(sa.select(uploads).where(u.id == upload_id)).first()
                if row is not None:
                    return _to_upload(row)
        raise UploadNotFound(f"upload {upload_id!r} not found")

    def update_upload(self, upload: Upload, *, expect: int) -> Upload:
        upload = replace(values.checked_upload(upload), version=expect + 1)
        with self._writing() as connection:
            here = sa.update(uploads).where(u.id == upload.id, u.version == expect)
            done = connection.execute(here.values(version=expect + 1, **_row(upload)))
            found = _expected(connection, upload.id, expect, changed=done.rowcount == 1)
        return replace(upload, image_id=found.image_id, created_at=found.created_at)

    def delete_upload(self, upload_id: str, *, expect: int) -> None:
        if not values.storable(upload_id):
            raise UploadNotFound(f"upload {upload_id!r} not found")
        with self._writing() as connection:
            gone = sa.delete(uploads).where(u.id == upload_id, u.version == expect)
            if connection.execute(gone).rowcount != 1:
                _expected(connection, upload_id, expect, changed=False)

    def uploads_of(self, image_ids: Iterable[str]) -> tuple[Upload, ...]:
        found: list[Upload] = []
        with self._reading() as connection:
            for batch in batches(filter(values.storable, image_ids)):
                rows = connection.execute(sa.select(uploads).where(u.image_id.in_(batch)))
                found += map(_to_upload, rows)
        return tuple(sorted(found, key=lambda each: (each.created_at, each.id)))

    def expired_uploads(self, limit: int) -> tuple[Upload, ...]:
        with self._reading() as connection:
            expired = sa.select(uploads).where(
                u.expires_at <= now(connection), u.state != UploadState.FINISHING.value
            )
            rows = connection.execute(expired.order_by(u.expires_at, u.id).limit(limit))
            return tuple(map(_to_upload, rows))

    def uploads_in(self, state: UploadState, limit: int) -> tuple[Upload, ...]:
        found = sa.select(uploads).where(u.state == state.value).order_by(u.created_at, u.id).limit(limit)
        with self._looking() as connection:
            return tuple(map(_to_upload, connection.execute(found)))


def _expected(connection: Connection, upload_id: str, expect: int, *, changed: bool) -> Any:
    """Return what doesn't change of an upload; raise what kept it from being changed."""
    fixed = sa.select(u.version, u.image_id, u.created_at).where(u.id == upload_id)
    found = connection.execute(fixed).first()
    if found is None:
        raise UploadNotFound(f"upload {upload_id!r} not found")
    if not changed:
        raise StaleUpload(f"upload {upload_id} is at version {found.version}, not {expect}")
    return found


def _row(upload: Upload) -> dict[str, Any]:
    return {
        **{name: getattr(upload, name) for name in PLAIN},
        "kind": upload.kind.value,
        "state": upload.state.value,
        "tail": values.document("upload tail", upload.tail),
        "joins": values.document("upload joins", upload.joins),
    }


def _to_upload(row: Any) -> Upload:
    return Upload(
        id=row.id,
        image_id=row.image_id,
        kind=UploadKind(row.kind),
        state=UploadState(row.state),
        tail=tuple((key, size) for key, size in json.loads(row.tail)),
        joins=tuple(json.loads(row.joins)),
        created_at=row.created_at,
        version=row.version,
        **{name: getattr(row, name) for name in PLAIN},
    )
