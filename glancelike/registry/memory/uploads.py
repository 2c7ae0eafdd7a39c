"""Uploads in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from glancelike.errors import ImageNotFound, StaleUpload, UploadNotFound
from glancelike.model import Upload, UploadState, utcnow
from glancelike.registry import values
from glancelike.registry.memory.state import State
from glancelike.registry.parts import UploadRecords


class UploadMemory(UploadRecords, State):
    """Keep uploads."""

    def create_upload(self, upload: Upload) -> Upload:
        upload = replace(values.checked_upload(upload), version=1)
        with self._lock:
            if upload.image_id not in self._images:
                raise ImageNotFound(f"image {upload.image_id!r} not found")
            if upload.id in self._uploads:
                raise values.upload_exists(upload.id)
            self._uploads[upload.id] = upload
        return upload

    def get_upload(self, upload_id: str) -> Upload:
        with self._lock:
            found = self._uploads.get(upload_id)
        if found is None:
            raise UploadNotFound(f"upload {upload_id!r} not found")
        return found

    def update_upload(self, upload: Upload, *, expect: int) -> Upload:
        upload = values.checked_upload(upload)
        with self._lock:
            found = self._expect_upload(upload.id, expect)
            upload = replace(upload, image_id=found.image_id, created_at=found.created_at, version=expect + 1)
            self._uploads[upload.id] = upload
        return upload

    def delete_upload(self, upload_id: str, *, expect: int) -> None:
        with self._lock:
            self._expect_upload(upload_id, expect)
            del self._uploads[upload_id]

    def uploads_of(self, image_ids: Iterable[str]) -> tuple[Upload, ...]:
        wanted = set(image_ids)
        with self._lock:
            return _oldest(each for each in self._uploads.values() if each.image_id in wanted)

    def expired_uploads(self, limit: int) -> tuple[Upload, ...]:
        now = utcnow()
        with self._lock:
            expired = [
                each
                for each in self._uploads.values()
                if each.expires_at <= now and each.state is not UploadState.FINISHING
            ]
        return tuple(sorted(expired, key=lambda each: (each.expires_at, each.id)))[:limit]

    def uploads_in(self, state: UploadState, limit: int) -> tuple[Upload, ...]:
        with self._lock:
            return _oldest(each for each in self._uploads.values() if each.state is state)[:limit]

    def _expect_upload(self, upload_id: str, version: int) -> Upload:
        found = self.get_upload(upload_id)
        if found.version != version:
            raise StaleUpload(f"upload {upload_id} is at version {found.version}, not {version}")
        return found


def _oldest(found: Iterable[Upload]) -> tuple[Upload, ...]:
    return tuple(sorted(found, key=lambda each: (each.created_at, each.id)))
