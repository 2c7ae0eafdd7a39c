"""Tokens for servers' consoles: each is good once, and for a while."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from novalite.db.engine import Records, now, tried_again
from novalite.db.tables import console_tokens


@tried_again
class ConsoleRecords(Records):
    """Queries on tokens, of which only a digest is known here; one method is one transaction.

    They expire by the database's clock.
    """

    def add(self, token_hash: str, server_id: str, *, seconds: float) -> None:
        """Keep a token for so long; what has expired goes."""
        with self._engine.writing() as connection:
            time = now(connection)
            connection.execute(sa.delete(console_tokens).where(console_tokens.c.expires_at <= time))
            connection.execute(
                sa.insert(console_tokens).values(
                    token_hash=token_hash,
                    server_id=server_id,
                    expires_at=time + timedelta(seconds=seconds),
                )
            )

    def take(self, token_hash: str) -> str | None:
        """Use a token up and return its server; None when there is no such token any more.

        Of several who come with one at the same time one gets it.
        """
        with self._engine.writing() as connection:
            here = console_tokens.c.token_hash == token_hash
            row = connection.execute(sa.select(console_tokens).where(here)).first()
            gone = connection.execute(sa.delete(console_tokens).where(here))
            if row is None or gone.rowcount != 1 or row.expires_at <= now(connection):
                return None
            return str(row.server_id)
