"""``glancelike db …``: the registry's schema, and what keeps it small."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from glancelike.errors import InvalidInput, SchemaOutdated
from glancelike.model import utcnow

if TYPE_CHECKING:
    from glancelike.config import Config
    from glancelike.registry.base import Registry

OUTDATED = 3  # the exit status of glance-manage for a schema that is older than the code
BATCH = 1000  # records of each kind in one transaction
EVERYTHING = -1


def add_commands(group: Any, config: Callable[[argparse.Namespace], Config]) -> None:
    """Add the commands to a group of argparse's."""

    def command(name: str, run: Callable[..., int | None], text: str, *aliases: str) -> Any:
        parser = group.add_parser(name, help=text, description=text, aliases=aliases)
        parser.set_defaults(run=lambda arguments: run(_registry(config(arguments)), arguments))
        return parser

    command("upgrade", _upgrade, "create the schema or bring it up to date", "sync")
    command(
        "check",
        _check,
        f"tell whether the schema is what this version needs: status 0, or {OUTDATED} if it is older",
    )
    command("version", _version, "print the schema's revision")
    purge = command("purge", _purge, "drop what is left of deleted images, and what has run out")
    purge.add_argument(
        "--age-in-days",
        "--age_in_days",
        type=int,
        default=30,
        metavar="DAYS",
        help="spare what was deleted since (30)",
    )
    purge.add_argument(
        "--max-rows",
        "--max_rows",
        type=int,
        default=EVERYTHING,
        metavar="N",
        help="no more records of each kind than that; -1 drops all (-1)",
    )


def _registry(config: Config) -> Registry:
    from glancelike.config import build_registry

    return build_registry(config)


def _upgrade(registry: Registry, _arguments: argparse.Namespace) -> None:
    registry.upgrade()


def _check(registry: Registry, _arguments: argparse.Namespace) -> int:
    try:
        registry.open()
    except SchemaOutdated as error:
        print(error)
        return OUTDATED
    registry.close()
    print("the schema is what this version needs")
    return 0


def _version(registry: Registry, _arguments: argparse.Namespace) -> None:
    revision, _needed = registry.schema_version()
    print(revision or "none")


def _purge(registry: Registry, arguments: argparse.Namespace) -> None:
    days, rows = arguments.age_in_days, arguments.max_rows
    if rows < EVERYTHING:
        raise InvalidInput(f"--max-rows must be {EVERYTHING} or more, not {rows}")
    if days < 0:
        raise InvalidInput(f"--age-in-days must not be negative: {days}")
    try:
        before = utcnow() - timedelta(days=days)
    except OverflowError:
        raise InvalidInput(f"--age-in-days: no date lies {days} days back") from None
    registry.open()
    total: dict[str, int] = {}
    try:
        done = 0
        while rows == EVERYTHING or done < rows:
            limit = BATCH if rows == EVERYTHING else min(BATCH, rows - done)
            purged = registry.purge(before, limit=limit)
            counts = {each.name: getattr(purged, each.name) for each in fields(purged)}
            total = {name: total.get(name, 0) + count for name, count in counts.items()}
            done += limit
            if max(counts.values()) < limit:
                break
    finally:
        registry.close()
    print("purged " + ", ".join(f"{count} {name}" for name, count in total.items()))
