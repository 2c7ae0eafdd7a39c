"""What the users of this package have raised."""

from __future__ import annotations

from dataclasses import dataclass


class ForeignTable(Exception):
    """Say that a name is taken, by a table that isn't ours; users get ``Errors.failed``."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Classes of the user's own, each made with one message.

    ``unavailable``: the database is away, busy beyond its limits, or hangs.
    ``undone``, a subclass of it: a transaction changed nothing, for a reason
    that may be gone already. ``unknown``: the connection was lost during
    COMMIT, which has been done, or not. ``refused``: a value is none that the
    database can keep, too long for example. ``failed``: all else that it says
    of a statement. ``config``: the options are wrong.
    """

    config: type[Exception]
    failed: type[Exception]
    refused: type[Exception]
    unavailable: type[Exception]
    undone: type[Exception]
    unknown: type[Exception]
