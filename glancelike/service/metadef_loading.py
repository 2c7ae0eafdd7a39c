"""Namespaces from JSON files and back: what an operator does once for a cloud.

A file holds one namespace in the form that POST of the Image API takes.
Nobody is asked whether they may, and ``protected`` protects against users
of the API alone: this is for whoever has the database in hand.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from glancelike.errors import (
    Conflict,
    GlancelikeError,
    InvalidInput,
    NamespaceExists,
    NamespaceNotFound,
    StaleNamespace,
)
from glancelike.model import Namespace, NamespaceQuery, SortKey
from glancelike.registry.base import ADMIN, Registry
from glancelike.service import metadef_forms as forms
from glancelike.service.context import AMEND_ATTEMPTS
from glancelike.service.metadef_schema import NAMESPACE, check

OWNER = "admin"  # of namespaces whose file names none
PAGE = 100


class Mode(enum.Enum):
    """What becomes of a namespace that is there already."""

    KEEP = "keep"  # nothing
    MERGE = "merge"  # definitions that it lacks are added
    PREFER_NEW = "prefer new"  # and those it has are replaced
    OVERWRITE = "overwrite"  # it becomes what the file says


def packaged() -> Path:
    """Return the directory of the namespaces that come with this package."""
    return Path(str(resources.files("glancelike.service"))) / "namespaces"


def read(paths: Iterable[Path]) -> list[Namespace]:
    """Read files, and the ``*.json`` of directories; all of them or none.

    Raises InvalidInput naming the file, OSError.
    """
    found: dict[str, tuple[Path, Namespace]] = {}
    for path in paths:
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not files:
            raise InvalidInput(f"{path} has no .json files")
        for file in files:
            namespace = _read(file)
            if namespace.name in found:
                other, _ = found[namespace.name]
                raise InvalidInput(f"namespace {namespace.name} is in both {other} and {file}")
            found[namespace.name] = (file, namespace)
    return [namespace for _, namespace in found.values()]


def _read(path: Path) -> Namespace:
    try:
        return forms.new_namespace(check(NAMESPACE, json.loads(path.read_text("utf-8"))), OWNER)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} isn't JSON: {error}") from None
    except GlancelikeError as error:
        raise InvalidInput(f"{path}: {error}") from None


def load(registry: Registry, namespaces: Iterable[Namespace], mode: Mode) -> Iterator[tuple[str, str]]:
    """Write namespaces, each in one transaction; tell name and outcome of each."""
    for namespace in namespaces:
        yield namespace.name, _load(registry, namespace, mode)


def _load(registry: Registry, new: Namespace, mode: Mode) -> str:
    for _attempt in range(AMEND_ATTEMPTS):
        try:
            old = registry.get_namespace(new.name, ADMIN)
        except NamespaceNotFound:
            try:
                registry.create_namespace(new)
            except NamespaceExists:
                continue
            return "added"
        if mode is Mode.KEEP:
            return "is there already"
        changed = new if mode is Mode.OVERWRITE else merged(old, new, prefer_new=mode is Mode.PREFER_NEW)
        if body(changed) == body(old) and changed.owner == old.owner:
            return "unchanged"
        try:
            registry.update_namespace(new.name, changed, expect=old.version)
        except (StaleNamespace, NamespaceNotFound):
            continue
        return "overwritten" if mode is Mode.OVERWRITE else "merged"
    raise Conflict(f"namespace {new.name} is being changed by too many at once: try again")


def merged(old: Namespace, new: Namespace, *, prefer_new: bool) -> Namespace:
    """Return the union of two namespaces; ``prefer_new`` says whose fields and definitions win."""
    result = replace(new, owner=old.owner) if prefer_new else old
    for kind in forms.KINDS:
        before, after = kind.of(old), kind.of(new)
        result = kind.within(result, {**before, **after} if prefer_new else {**after, **before})
    return result


def unload(registry: Registry, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Delete namespaces, protected or not; tell name and outcome of each."""
    for name in names:
        yield name, _unload(registry, name)


def _unload(registry: Registry, name: str) -> str:
    for _attempt in range(AMEND_ATTEMPTS):
        try:
            version = registry.get_namespace(name, ADMIN).version
            registry.delete_namespace(name, expect=version)
        except NamespaceNotFound:
            return "isn't there"
        except StaleNamespace:
            continue
        return "removed"
    raise Conflict(f"namespace {name} is being changed by too many at once: try again")


def names(registry: Registry) -> Iterator[str]:
    """Yield the names of all namespaces, sorted."""
    query = NamespaceQuery(sort=(SortKey("name", descending=False),), limit=PAGE)
    while True:
        page = registry.list_namespaces(query, ADMIN)
        yield from (each.name for each in page.namespaces)
        if page.next_marker is None:
            return
        query = replace(query, marker=page.next_marker)


def export(registry: Registry, directory: Path) -> Iterator[tuple[str, str]]:
    """Write each namespace to a file of the directory; tell name and file of each.

    A file is there wholly or not at all. Raises OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for name in names(registry):
        try:
            namespace = registry.get_namespace(name, ADMIN)
        except NamespaceNotFound:
            continue  # deleted since it was listed
        file = directory / _file_name(name, taken)
        draft = file.with_name(f".{file.name}.new")
        text = json.dumps({**body(namespace), "owner": namespace.owner}, indent=2, ensure_ascii=False)
        try:
            draft.write_text(text + "\n", "utf-8")
            draft.replace(file)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        yield name, str(file)


def body(namespace: Namespace) -> dict[str, Any]:
    """Return the namespace as its file has it: without times and owner."""
    return {
        "namespace": namespace.name,
        **{
            field: value
            for field in ("display_name", "description")
            if (value := getattr(namespace, field)) is not None
        },
        "visibility": namespace.visibility,
        "protected": namespace.protected,
        "resource_type_associations": _listed(namespace.resource_types),
        "properties": dict(namespace.properties),
        "objects": _listed(namespace.objects),
        "tags": _listed(namespace.tags),
    }


def _listed(definitions: forms.Definitions) -> list[Mapping[str, Any]]:
    return [
        {
            "name": name,
            **{key: value for key, value in each.items() if key not in ("created_at", "updated_at")},
        }
        for name, each in definitions.items()
    ]


def _file_name(name: str, taken: set[str]) -> str:
    """Make a file name of a namespace's that no other has, whatever the file system."""
    stem = re.sub(r"[^\w.-]+", "-", name).strip("-.").lower() or "namespace"
    number, found = 1, stem
    while found in taken:
        number += 1
        found = f"{stem}-{number}"
    taken.add(found)
    return f"{found}.json"
