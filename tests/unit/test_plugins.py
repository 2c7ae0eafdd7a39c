"""Loading plugins by name, and what is said when that fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from glancelike import plugins
from glancelike.errors import ConfigError, PluginError
from glancelike.registry.base import Registry
from glancelike.stores.base import Store
from glancelike.stores.file import FileStore
from glancelike.stores.memory import MemoryStore

NAMESPACE = "glancelike.stores"


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution with broken plugins."""
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{NAMESPACE}]\n"
        "needs_library = broken_plugins_missing:Store\n"
        "not_a_store = broken_plugins:NotAStore\n"
        "incomplete = broken_plugins:Incomplete\n"
        "memory = broken_plugins:Incomplete\n"
    )
    (tmp_path / "broken_plugins_missing.py").write_text("import no_such_library_at_all\n")
    (tmp_path / "broken_plugins.py").write_text(
        "from glancelike.stores.base import Store\n"
        "class NotAStore: pass\n"
        "class Incomplete(Store):\n"
        "    def stat(self, key): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path
    for name in ("broken_plugins", "broken_plugins_missing"):
        sys.modules.pop(name, None)


def test_loads_by_name_and_by_uri() -> None:
    assert plugins.load(NAMESPACE, "memory", Store) is MemoryStore
    plugin, settings = plugins.for_uri(NAMESPACE, "file:///srv/images", Store)
    assert (plugin, settings["filesystem_store_datadir"]) == (FileStore, "/srv/images")
    sql, _settings = plugins.for_uri("glancelike.registries", "sqlite:///x.db", Registry)
    assert sql.__name__ == "SqlRegistry"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent", "'absent' isn't installed"),
        ("needs_library", "can't be loaded: No module named 'no_such_library_at_all'"),
        ("not_a_store", "isn't a subclass of glancelike.stores.base.Store"),
        ("incomplete", "Incomplete lacks read"),
        ("memory", "is provided 2 times"),
    ],
)
def test_says_what_is_wrong_with_a_plugin(distribution: Path, name: str, says: str) -> None:
    with pytest.raises(PluginError, match=says):
        plugins.load(NAMESPACE, name, Store)


def test_an_unused_broken_plugin_hurts_nobody(distribution: Path) -> None:
    assert plugins.load(NAMESPACE, "file", Store) is FileStore


@pytest.mark.parametrize(
    ("uri", "says"),
    [("/srv/images", "no scheme"), ("gopher://x", "no glancelike.stores plugin for gopher://")],
)
def test_uris_that_lead_nowhere(uri: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        plugins.for_uri(NAMESPACE, uri, Store)


def test_settings_are_checked_against_the_options() -> None:
    with pytest.raises(ConfigError, match="MemoryStore: unknown option bucket"):
        MemoryStore({"bucket": "x"})
