"""Transactions that the database undid are tried again.

A method that is one transaction, values in and out, may be called anew: it
is the same as the first call, as long as that has changed nothing. This is
certain of a transaction that the database chose as the victim of a deadlock
(or, with Galera, that failed certification), and of one whose connection was
lost before COMMIT was sent.

It isn't of a connection lost during COMMIT: the answer is missing, not
the effect. To try again then could report as somebody else's what was our
own doing, a record that is stale or there already; the caller gets
``Errors.unknown``, and what it knows of the record tells what to do.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from itertools import count
from typing import Any, Protocol, TypeVar

from sqlalchemy import exc

from glancelike.sql.errors import Errors

LOG = logging.getLogger(__name__)

T = TypeVar("T", bound=type)
# SQLSTATE of PostgreSQL, numbers of MySQL and MariaDB.
CONFLICTS = frozenset({"40001", "40P01", "55P03", 1205, 1213})
ENDED = frozenset({"57P01", "57P02"})  # an administrator, or a crash, ended the session
FIRST_WAIT, LONGEST_WAIT = 0.01, 1.0  # seconds


class Patient(Protocol):
    """Whose methods are called again."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The values of the database's options."""


def is_undone(error: exc.DBAPIError) -> bool:
    """Tell whether a failure before COMMIT is worth another try."""
    lost = error.connection_invalidated and not _is_timeout(error)
    return lost or not _codes(error).isdisjoint(CONFLICTS | ENDED)


@contextmanager
def committing(where: str, errors: Errors) -> Iterator[None]:
    """Raise ``errors.unknown`` where COMMIT fails and the server hasn't said that it did nothing."""
    try:
        yield
    except exc.DBAPIError as error:
        away = isinstance(error, exc.OperationalError | exc.InterfaceError) or error.connection_invalidated
        if away and _codes(error).isdisjoint(CONFLICTS):
            raise errors.unknown(f"{where}: lost while it committed: {error.orig}") from error
        raise


def retrying(methods: Iterable[str], undone: type[Exception]) -> Callable[[T], T]:
    """Decorate a class (a Patient), so that these methods of its are called again while ``undone``."""

    def decorate(cls: T) -> T:
        for name in methods:
            setattr(cls, name, _retried(getattr(cls, name), undone))
        return cls

    return decorate


def _retried(method: Callable[..., Any], undone: type[Exception]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Patient, *args: Any, **kwargs: Any) -> Any:
        # An iterator would be empty at the second call.
        args = tuple(tuple(each) if isinstance(each, Iterator) else each for each in args)
        until = time.monotonic() + self.settings["statement_timeout"]
        for tries in count(1):
            try:
                return method(self, *args, **kwargs)
            except undone as error:
                if tries > self.settings["db_max_retries"] or time.monotonic() > until:
                    raise
                LOG.info("%s is tried again: %s", method.__name__, error)
            # At random, so that two who were in each other's way won't be again.
            time.sleep(random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**tries)))  # noqa: S311
        raise AssertionError

    return call


def _codes(error: exc.DBAPIError) -> frozenset[object]:
    """Return what the database calls an error: SQLSTATE, number, or both."""
    return frozenset({getattr(error.orig, "sqlstate", None), *getattr(error.orig, "args", ())[:1]})


def _is_timeout(error: exc.DBAPIError) -> bool:
    """Tell whether the client waited for as long as it may: to do so again helps nobody."""
    orig = error.orig
    return orig is not None and isinstance(orig.__cause__ or orig.__context__, TimeoutError)
