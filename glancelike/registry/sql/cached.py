"""Which node caches what, in SQL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import sqlalchemy as sa

from glancelike.model import CachedImage
from glancelike.registry import values
from glancelike.registry.parts import CacheRecords
from glancelike.registry.sql.database import Database, insert_new
from glancelike.registry.sql.records import batches
from glancelike.registry.sql.tables import cached_images

c = cached_images.c


class CachedSql(CacheRecords, Database):
    """Keep what nodes say of their caches, one row a node and image."""

    def put_cached(self, cached: CachedImage) -> None:
        row = asdict(values.checked_cached(cached))
        here = (c.image_id == cached.image_id) & (c.node == cached.node)
        replaced = sa.update(cached_images).where(here).values(row)
        with self._writing() as connection:
            # The node's other process may come first with either.
            if not connection.execute(replaced).rowcount and not insert_new(connection, cached_images, row):
                connection.execute(replaced)

    def delete_cached(self, node: str, image_ids: Iterable[str]) -> None:
        if not values.storable(node):
            return
        with self._writing() as connection:
            for batch in batches(filter(values.storable, image_ids)):
                connection.execute(sa.delete(cached_images).where(c.image_id.in_(batch), c.node == node))

    def cached_nodes(self, image_id: str) -> tuple[str, ...]:
        if not values.storable(image_id):
            return ()
        with self._looking() as connection:
            found = sa.select(c.node).where(c.image_id == image_id).order_by(c.node)
            return tuple(connection.execute(found).scalars())
