"""Namespaces from files and back, and those that come with the package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glancelike.errors import InvalidInput, NamespaceExists, StaleNamespace
from glancelike.model import Namespace, Viewer
from glancelike.registry.base import ADMIN, Registry
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import metadef_loading as loading
from glancelike.service.metadef_loading import Mode

PROPERTY = {"title": "P", "type": "string"}
NEW = {"title": "new", "type": "integer"}
FILE: dict[str, Any] = {
    "namespace": "A",
    "display_name": "file",
    "visibility": "public",
    "protected": True,
    "resource_type_associations": [{"name": "R", "prefix": "r_"}],
    "properties": {"p": NEW, "q": NEW},
    "objects": [{"name": "o", "properties": {"x": NEW}}],
    "tags": [{"name": "t"}],
}


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = MemoryRegistry({})
    registry.open()
    yield registry
    registry.close()


def write(path: Path, *bodies: Any) -> Path:
    path.mkdir(exist_ok=True)
    for number, body in enumerate(bodies):
        (path / f"{number}.json").write_text(body if isinstance(body, str) else json.dumps(body))
    return path


def load(registry: Registry, path: Path, mode: Mode = Mode.KEEP) -> dict[str, str]:
    return dict(loading.load(registry, loading.read([path]), mode))


def made(registry: Registry) -> Namespace:
    """Make a namespace A that differs from the file's."""
    return registry.create_namespace(
        Namespace(
            "A",
            display_name="old",
            owner="p-alice",
            properties={"old": PROPERTY, "p": PROPERTY},
            tags={"old": {"created_at": "2026-01-01T00:00:00Z"}},
        )
    )


def test_what_comes_with_the_package(registry: Registry) -> None:
    found = load(registry, loading.packaged())
    assert len(found) >= 4
    assert set(found.values()) == {"added"}
    for name in found:
        namespace = registry.get_namespace(name, Viewer())  # they are public
        assert namespace.protected
        assert namespace.properties
        assert namespace.resource_types
        assert namespace.description
        for each in namespace.properties.values():
            assert each["description"].endswith(".")
            assert each.get("default") in (None, *each.get("enum", [each.get("default")]))


def test_new_namespaces(registry: Registry, tmp_path: Path) -> None:
    path = write(tmp_path / "files", FILE, {"namespace": "B", "owner": "p-bob"})
    assert load(registry, path) == {"A": "added", "B": "added"}
    found = registry.get_namespace("A", ADMIN)
    assert (found.display_name, found.protected, found.owner) == ("file", True, "admin")
    assert list(found.properties) == ["p", "q"]
    assert found.objects["o"]["properties"] == {"x": NEW}
    assert registry.get_namespace("B", ADMIN).owner == "p-bob"
    assert registry.get_namespace("B", ADMIN).visibility == "private"


def test_what_is_there_is_kept(registry: Registry, tmp_path: Path) -> None:
    before = made(registry)
    assert load(registry, write(tmp_path / "files", FILE)) == {"A": "is there already"}
    assert registry.get_namespace("A", ADMIN) == before


def test_merge_adds_what_is_missing(registry: Registry, tmp_path: Path) -> None:
    before = made(registry)
    path = write(tmp_path / "files", FILE)
    assert load(registry, path, Mode.MERGE) == {"A": "merged"}
    found = registry.get_namespace("A", ADMIN)
    assert (found.display_name, found.protected, found.owner) == ("old", False, "p-alice")
    assert found.properties == {"old": PROPERTY, "p": PROPERTY, "q": NEW}
    assert found.tags.keys() == {"old", "t"}
    assert found.tags["old"] == before.tags["old"]
    assert load(registry, path, Mode.MERGE) == {"A": "unchanged"}
    assert registry.get_namespace("A", ADMIN) == found


def test_prefer_new_replaces_what_the_file_has(registry: Registry, tmp_path: Path) -> None:
    made(registry)
    path = write(tmp_path / "files", FILE)
    assert load(registry, path, Mode.PREFER_NEW) == {"A": "merged"}
    found = registry.get_namespace("A", ADMIN)
    assert (found.display_name, found.protected, found.owner) == ("file", True, "p-alice")
    assert found.properties == {"old": PROPERTY, "p": NEW, "q": NEW}
    assert load(registry, path, Mode.PREFER_NEW) == {"A": "unchanged"}
    assert registry.get_namespace("A", ADMIN).version == found.version


def test_overwrite_leaves_nothing_of_the_old(registry: Registry, tmp_path: Path) -> None:
    before = made(registry)
    assert load(registry, write(tmp_path / "files", FILE), Mode.OVERWRITE) == {"A": "overwritten"}
    found = registry.get_namespace("A", ADMIN)
    assert found.properties == {"p": NEW, "q": NEW}
    assert found.tags.keys() == {"t"}
    assert (found.owner, found.created_at) == ("admin", before.created_at)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "isn't JSON"),
        ("[" * 100_000, "isn't JSON"),
        ("[]", "schema 'namespace'"),
        ({"display_name": "no name"}, "'namespace' is a required property"),
        ({**FILE, "tags": [{"name": "t"}, {"name": "t"}]}, "tag t exists"),
        ({**FILE, "properties": {"p": {"title": "no type"}}}, "'type' is a required property"),
        (FILE, "is in both"),
    ],
)
def test_one_bad_file_spoils_all(registry: Registry, tmp_path: Path, body: Any, said: str) -> None:
    path = write(tmp_path / "files", FILE, body)
    with pytest.raises(InvalidInput, match=said) as caught:
        load(registry, path)
    assert "1.json" in str(caught.value)
    assert list(loading.names(registry)) == []


def test_no_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no \.json files"):
        loading.read([write(tmp_path / "empty")])
    (tmp_path / "latin.json").write_bytes(b'{"namespace": "\xe9"}')
    with pytest.raises(InvalidInput, match=r"latin\.json isn't JSON"):
        loading.read([tmp_path / "latin.json"])
    with pytest.raises(FileNotFoundError):
        loading.read([tmp_path / "missing"])


class Busy(MemoryRegistry):
    """Somebody else is always a little faster, a few times."""

    losses = 3

    def _lose(self) -> bool:
        self.losses -= 1
        return self.losses >= 0

    def create_namespace(self, namespace: Namespace) -> Namespace:
        if self._lose():
            raise NamespaceExists("lost")
        return super().create_namespace(namespace)

    def update_namespace(self, name: str, namespace: Namespace, *, expect: int) -> Namespace:
        if self._lose():
            raise StaleNamespace("lost")
        return super().update_namespace(name, namespace, expect=expect)

    def delete_namespace(self, name: str, *, expect: int) -> None:
        if self._lose():
            raise StaleNamespace("lost")
        super().delete_namespace(name, expect=expect)


def test_a_lost_race_is_run_again(tmp_path: Path) -> None:
    registry = Busy({})
    path = write(tmp_path / "files", FILE)
    assert load(registry, path) == {"A": "added"}
    registry.losses = 3
    (path / "0.json").write_text(json.dumps({**FILE, "description": "changed"}))
    assert load(registry, path, Mode.PREFER_NEW) == {"A": "merged"}
    registry.losses = 3
    assert dict(loading.unload(registry, ["A", "A"])) == {"A": "isn't there"}


def test_export_and_back(registry: Registry, tmp_path: Path) -> None:
    odd = ["OS::A", "OS:A", "os::a", "../../etc/passwd", "日本語", "🦊", ".", "é" * 80]
    for name in odd:
        registry.create_namespace(Namespace(name, owner="p-alice", properties={name: PROPERTY}))
    load(registry, write(tmp_path / "files", FILE))
    before = {name: registry.get_namespace(name, ADMIN) for name in loading.names(registry)}
    written = dict(loading.export(registry, tmp_path / "out"))
    assert written.keys() == before.keys() == {*odd, "A"}
    files = sorted((tmp_path / "out").iterdir())
    assert sorted(written.values()) == [str(file) for file in files], "all in one directory, no draft left"
    assert "created_at" not in "".join(file.read_text() for file in files)
    assert set(dict(loading.unload(registry, list(before))).values()) == {"removed"}, "also the protected"
    with pytest.raises(InvalidInput, match="schema 'namespace'"):
        load(registry, tmp_path / "out")  # the API refuses slashes, so does the loader
    Path(written["../../etc/passwd"]).unlink()
    assert set(load(registry, tmp_path / "out").values()) == {"added"}
    for name in odd:
        if "/" not in name:
            found = registry.get_namespace(name, ADMIN)
            assert loading.body(found) == loading.body(before[name])
            assert found.owner == "p-alice"


def test_an_export_that_fails_leaves_the_old_file(registry: Registry, tmp_path: Path) -> None:
    load(registry, write(tmp_path / "files", FILE))
    ((name, file),) = loading.export(registry, tmp_path / "out")
    Path(file).unlink()
    Path(file).mkdir()  # what a rename can't replace
    with pytest.raises(OSError, match=r"a\.json"):
        list(loading.export(registry, tmp_path / "out"))
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["a.json"], f"no draft of {name} is left"


def test_many_namespaces(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "PAGE", 2)
    for number in range(5):
        registry.create_namespace(Namespace(f"{number}"))
    assert list(loading.names(registry)) == ["0", "1", "2", "3", "4"]
