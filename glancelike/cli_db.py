"""``glancelike db …``: the registry's schema, and what keeps it small."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from glancelike.cli_purge import add_purge_arguments, batches, cutoff
from glancelike.errors import InvalidInput

if TYPE_CHECKING:
    from glancelike.config import Config
    from glancelike.registry.base import Registry

# Exit statuses of ``check``, as glance-manage's.
NEXT = {"expand": 3, "migrate": 4, "contract": 5}


def add_commands(group: Any, config: Callable[[argparse.Namespace], Config]) -> None:
    """Add the commands to a group of argparse's."""

    def command(name: str, run: Callable[..., int | None], text: str, *aliases: str) -> Any:
        parser = group.add_parser(name, help=text, description=text, aliases=aliases)
        parser.set_defaults(step=name, run=lambda arguments: run(_registry(config(arguments)), arguments))
        return parser

    command("upgrade", _upgrade, "create the schema or bring it up to date, all at once", "sync")
    command("expand", _step, "add what this version needs, beside running servers of the one before")
    command("migrate", _step, "bring rows into the form that this version needs, beside running servers")
    command("contract", _step, "drop what only older versions need: none of them may run any more")
    command(
        "check",
        _check,
        "tell whether the schema is what this version needs: status 0, or "
        + ", ".join(f"{status} if `db {step}` is next" for step, status in NEXT.items()),
    )
    command("version", _version, "print the schema's revision")
    purge = command("purge", _purge, "drop what is left of deleted images, and what has run out")
    add_purge_arguments(purge, "records of each kind")


def _registry(config: Config) -> Registry:
    from glancelike.config import build_registry

    return build_registry(config)


def _upgrade(registry: Registry, _arguments: argparse.Namespace) -> None:
    registry.upgrade()


def _step(registry: Registry, arguments: argparse.Namespace) -> None:
    from glancelike.registry.base import Step

    step = Step(arguments.step)
    done = registry.upgrade_by(step)
    print(f"{done} {'rows moved' if step is Step.MIGRATE else 'revisions run'}; {_what_next(registry)}")


def _check(registry: Registry, _arguments: argparse.Namespace) -> int:
    print(_what_next(registry))
    step = registry.next_step()
    return 0 if step is None else NEXT[step]


def _what_next(registry: Registry) -> str:
    revision, _newest = registry.schema_version()
    where = "there are no tables yet" if revision is None else f"the schema is at revision {revision}"
    match registry.next_step():
        case None:
            return f"{where}, which is what this version needs" if revision else "there is nothing to do"
        case "expand":
            return f"{where}: run `glancelike db upgrade`, or `glancelike db expand` beside running servers"
        case step:
            last = " once no older server runs" if step == "contract" else ""
            return f"{where}: run `glancelike db {step}`{last}"


def _version(registry: Registry, _arguments: argparse.Namespace) -> None:
    revision, _needed = registry.schema_version()
    print(revision or "none")


def _purge(registry: Registry, arguments: argparse.Namespace) -> None:
    from dataclasses import fields

    before = cutoff(arguments, InvalidInput)
    registry.open()
    total: dict[str, int] = {}
    try:
        for limit in batches(arguments):
            purged = registry.purge(before, limit=limit)
            counts = {each.name: getattr(purged, each.name) for each in fields(purged)}
            total = {name: total.get(name, 0) + count for name, count in counts.items()}
            if max(counts.values()) < limit:
                break
    finally:
        registry.close()
    print("purged " + ", ".join(f"{count} {name}" for name, count in total.items()))
