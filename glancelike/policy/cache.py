"""Rules of the local cache of image data."""

from __future__ import annotations

from glancelike.policy.base import ADMIN, Rule, rule

CACHED = "/v2/cache/{image_id}"

RULES: tuple[Rule, ...] = (
    rule("manage_image_cache", ADMIN, "Manage the cache; asked by nothing here, kept for policy files"),
    rule("cache_image", ADMIN, "Have an image cached", f"PUT {CACHED}"),
    rule("cache_list", ADMIN, "List what is cached and what is to be", "GET /v2/cache"),
    rule("cache_delete", ADMIN, "Take images out of the cache", "DELETE /v2/cache", f"DELETE {CACHED}"),
    rule("cache_clean", ADMIN, "Remove what is invalid or stalled in the cache", "POST /v2/cache/clean"),
    rule("cache_prune", ADMIN, "Shrink the cache to its size", "POST /v2/cache/prune"),
    rule(
        "list_cached_nodes",
        ADMIN,
        "List the nodes that have an image cached",
        "GET /v2/cache/nodes/{image_id}",
    ),
)
