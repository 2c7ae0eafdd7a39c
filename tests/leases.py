"""Leases and heartbeats that run out when a test says so, not when the machine was busy.

A lease that is short enough to be waited for is also lost whenever its
holder, or the whole machine, stands still for that long. So those of tests
are long, and their time is moved instead.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from glancelike.registry.sql.tables import leases, reservations
from novalite.db.tables import hosts, servers

MEMORY = "glancelike.registry.memory"
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


class StandingClock:
    """The time that registries in memory go by; it stands still until it is moved."""

    def __init__(self) -> None:
        self._now = 1000.0

    def monotonic(self) -> float:
        """Return seconds since some moment, as ``time.monotonic`` does."""
        return self._now

    def move(self, seconds: float) -> None:
        """Let seconds pass."""
        self._now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StandingClock:
    """Stop the clock of all registries in memory of this process."""
    made = StandingClock()
    for name, module in list(sys.modules.items()):
        if name.startswith(MEMORY) and hasattr(module, "time"):
            monkeypatch.setattr(module, "time", made)
    return made


def run_out(url: str) -> None:
    """Have all leases and reservations in a database run out, as if their time had passed.

    Those of processes that live are lost as well, unless these renew them at the same moment.
    """
    with _database(url) as connection:
        for table in (leases, reservations):
            connection.execute(sa.update(table).values(expires_at=LONG_AGO))


def run_out_of(url: str, pid: int) -> None:
    """Have all leases run out that a process of the compute held, which is dead."""
    with _database(url) as connection:
        held = servers.c.lease_holder.like(f"%/{pid}/%")
        connection.execute(sa.update(servers).where(held).values(lease_until=LONG_AGO))


def go_silent(url: str, host: str) -> None:
    """Have a compute host's last heartbeat be long ago, so that it is down until it has another."""
    with _database(url) as connection:
        connection.execute(sa.update(hosts).where(hosts.c.name == host).values(heartbeat_at=LONG_AGO))


def ends(url: str) -> dict[str, datetime]:
    """Return when each lease in a database runs out, by name."""
    with _database(url) as connection:
        return {row.name: row.expires_at for row in connection.execute(sa.select(leases))}


@contextmanager
def _database(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url, connect_args={"timeout": 30} if url.startswith("sqlite:") else {})
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()
