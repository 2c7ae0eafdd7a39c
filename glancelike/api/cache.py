"""``/v2/cache``: what this node keeps of images that lie elsewhere."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.api.resource import EMPTY, Resource
from glancelike.errors import InvalidInput
from glancelike.model import CachedImage
from glancelike.web.middleware import caller_of

TARGET = "x-image-cache-clear-target"


class Cache(Resource):
    def show(self, req: falcon.Request, resp: falcon.Response) -> None:
        state = self.service.cache.state(caller_of(req))
        resp.media = {
            "cached_images": [_cached(each) for each in state.cached],
            "queued_images": list(state.queued),
        }

    def clear(self, req: falcon.Request, resp: falcon.Response) -> None:
        target = (req.get_header(TARGET) or "both").strip().lower()
        if target not in ("cache", "queue", "both"):
            raise InvalidInput(f"{TARGET} must be 'cache', 'queue' or 'both', not '{target}'")
        self.service.cache.clear(caller_of(req), cached=target != "queue", queued=target != "cache")
        resp.status = 204

    def queue(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        self.service.cache.queue(caller_of(req), image_id)
        resp.status = 202
        resp.content_type = EMPTY

    def delete(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        self.service.cache.delete(caller_of(req), image_id)
        resp.status = 204

    def nodes(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        resp.media = list(self.service.cache.nodes(caller_of(req), image_id))

    def clean(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.service.cache.clean(caller_of(req))
        resp.content_type = EMPTY

    def prune(self, req: falcon.Request, resp: falcon.Response) -> None:
        pruned = self.service.cache.prune(caller_of(req))
        resp.media = {"total_files_pruned": pruned.files, "total_bytes_pruned": pruned.size}


def _cached(cached: CachedImage) -> dict[str, Any]:
    return {
        "image_id": cached.image_id,
        "hits": cached.hits,
        "last_accessed": cached.last_accessed.timestamp(),
        "last_modified": cached.last_modified.timestamp(),
        "size": cached.size,
    }
