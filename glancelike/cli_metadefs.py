"""``glancelike metadefs …``: namespaces of metadata definitions from files and back."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glancelike.config import Config
    from glancelike.registry.base import Registry

Configured = Callable[[argparse.Namespace], "Config"]


def add_commands(group: Any, configured: Configured) -> None:
    """Add the commands; ``configured`` makes the configuration of a call."""

    def add(name: str, run: Callable[[argparse.Namespace, Registry], int | None], text: str) -> Any:
        def work(arguments: argparse.Namespace) -> int | None:
            with _registry(configured(arguments)) as registry:
                return run(arguments, registry)

        command = group.add_parser(name, help=text, description=text)
        command.set_defaults(run=work)
        return command

    load = add("load", _load, "write namespaces from JSON files; by default those of this package")
    load.add_argument("path", nargs="*", type=Path, metavar="DIR|FILE")
    load.add_argument("--merge", action="store_true", help="add what a namespace that is there lacks")
    choice = load.add_mutually_exclusive_group()
    choice.add_argument("--prefer-new", action="store_true", help="and replace what it has")
    choice.add_argument("--overwrite", action="store_true", help="replace namespaces that are there")
    unload = add("unload", _unload, "delete the namespaces that files define, protected or not")
    which = unload.add_mutually_exclusive_group(required=True)
    which.add_argument("path", nargs="*", type=Path, metavar="DIR|FILE", default=[])
    which.add_argument("--all", action="store_true", help="delete all namespaces there are")
    export = add("export", _export, "write all namespaces to a directory, a JSON file each")
    export.add_argument("directory", type=Path, metavar="DIR")


@contextmanager
def _registry(config: Config) -> Iterator[Registry]:
    from glancelike.config import build_registry

    registry = build_registry(config)
    registry.open()
    try:
        yield registry
    finally:
        registry.close()


def _load(arguments: argparse.Namespace, registry: Registry) -> None:
    from glancelike.service import metadef_loading as loading

    mode = loading.Mode.MERGE if arguments.merge else loading.Mode.KEEP
    if arguments.prefer_new:
        mode = loading.Mode.PREFER_NEW
    if arguments.overwrite:
        mode = loading.Mode.OVERWRITE
    namespaces = loading.read(arguments.path or [loading.packaged()])
    _tell(loading.load(registry, namespaces, mode))


def _unload(arguments: argparse.Namespace, registry: Registry) -> None:
    from glancelike.service import metadef_loading as loading

    if arguments.all:
        names: Iterable[str] = list(loading.names(registry))
    else:
        names = [namespace.name for namespace in loading.read(arguments.path)]
    _tell(loading.unload(registry, names))


def _export(arguments: argparse.Namespace, registry: Registry) -> None:
    from glancelike.service import metadef_loading as loading

    _tell(loading.export(registry, arguments.directory))


def _tell(outcomes: Iterable[tuple[str, str]]) -> None:
    for name, outcome in outcomes:
        print(f"{name}: {outcome}")
