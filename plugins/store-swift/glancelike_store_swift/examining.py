"""Trying what the driver counts on, for ``glancelike store check``."""

from __future__ import annotations

from contextlib import suppress

from glancelike.errors import StoreError
from glancelike_store_swift.layout import new_id
from glancelike_store_swift.objects import Cluster, Objects

# What /info calls them; the driver does without, more slowly or knowing less.
_BESIDES = {
    "bulk_delete": "bulk delete",
    "container_quotas": "container quotas",
    "account_quotas": "account quotas",
}


def probe(cluster: Cluster, objects: Objects, container: str) -> dict[str, str]:
    """Look at ``/info`` and try the two things that a race of writers is decided by."""
    found = {"static large objects": f"ok, {cluster.max_segments} segments of {cluster.max_file} bytes"}
    if not cluster.told:
        found["static large objects"] = "unknown: the cluster doesn't tell what it has"
    for feature, name in _BESIDES.items():
        found[name] = "ok" if feature in cluster.features else "not offered"
    found["PUT if there is none"], found["listings at once"] = _try(objects, container)
    return found


def _try(objects: Objects, container: str) -> tuple[str, str]:
    name = f".probe-{new_id()}"
    path, once = f"{container}/{name}", {"If-None-Match": "*"}
    try:
        objects.client.call("PUT", path, headers=once)
        listed = [entry.name for entry in objects.list(container, name)]
        again = objects.client.call("PUT", path, headers=once, expect={412})
    except StoreError as error:
        return str(error), "not tried"
    finally:
        with suppress(StoreError):
            objects.delete(container, name)
    return (
        "ok" if again.status == 412 else "ignored: of two writers of a key the last may win",
        "ok" if listed else "late: two racing writers of a key may both win",
    )
