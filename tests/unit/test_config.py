"""The configuration: read once, and wrong ones stop the start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glancelike import config
from glancelike.errors import ConfigError, StoreError
from glancelike.vfs import MountOptions
from tests.broken_plugins import MODULES, write_distribution


def load(tmp_path: Path, text: str) -> config.Config:
    file = tmp_path / "glancelike.conf"
    file.write_text(text)
    return config.load(["--config-file", str(file)])


def test_defaults_keep_all_under_one_directory(tmp_path: Path) -> None:
    loaded = load(tmp_path, f"[DEFAULT]\nstate_path = {tmp_path}\n")
    assert (loaded.bind_host, loaded.bind_port) == ("127.0.0.1", 9292)
    assert loaded.registry.settings["connection"] == f"sqlite:///{tmp_path}/glancelike.db"
    assert loaded.stores["file"].settings["filesystem_store_datadir"] == f"{tmp_path}/images"
    assert loaded.auth.name == "none"


def test_several_stores(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        f"""[DEFAULT]
enabled_backends = fast:file, scratch:memory
image_size_cap = 1000
[glance_store]
default_backend = scratch
[fast]
filesystem_store_datadir = {tmp_path}/fast
store_description = quick disks
[image_format]
disk_formats = raw, qcow2
""",
    )
    assert {name: store.name for name, store in loaded.stores.items()} == {
        "fast": "file",
        "scratch": "memory",
    }
    assert loaded.default_store == "scratch"
    assert loaded.store_options["fast"] == MountOptions("quick disks", type="file")
    assert (loaded.limits.image_size_cap, loaded.limits.disk_formats) == (1000, ("raw", "qcow2"))


def test_several_directories_stand_for_the_one(tmp_path: Path) -> None:
    lines = f"filesystem_store_datadirs = {tmp_path}/a:2\nfilesystem_store_datadirs = {tmp_path}/b\n"
    settings = load(tmp_path, f"[file]\n{lines}").stores["file"].settings
    assert settings["filesystem_store_datadirs"] == [f"{tmp_path}/a:2", f"{tmp_path}/b"]
    assert settings["filesystem_store_datadir"] is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[DEFAULT]\nimage_size_kap = 1\n", r"glancelike.conf: unknown option image_size_kap in \[DEFAULT\]"),
        ("[nonsense]\nx = 1\n", r"nothing reads the section \[nonsense\]"),
        ("[file]\nfilesystem_store_dir = /x\n", r"unknown option filesystem_store_dir in \[file\]"),
        ("[DEFAULT]\nbind_port = many\n", "bind_port"),
        ("[DEFAULT]\nbind_port = 70000\n", "bind_port"),
        ("[DEFAULT]\nworkers = 0\n", "workers"),
        ("[DEFAULT]\nenabled_backends = a:nowhere\n", "'nowhere' isn't installed .*file, http, memory"),
        ("[DEFAULT]\nenabled_backends = database:file\n", "database"),
        ("[DEFAULT]\nenabled_backends = os_glance_x:file\n", "os_glance_ is reserved"),
        ("[DEFAULT]\nstaging_backend = magic\n", "'magic' isn't installed"),
        ("[DEFAULT]\nauth_strategy = magic\n", "'magic' isn't installed"),
        ("[DEFAULT]\nregistry = magic\n", "'magic' isn't installed"),
        ("[DEFAULT]\nhashing_algorithm = rot13\n", "rot13"),
        ("no section\n", "glancelike.conf"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.conf"):
        config.load(["--config-file", str(tmp_path / "nope.conf")])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[DEFAULT]\nenabled_backends = a:memory\n[glance_store]\ndefault_backend = b\n", "'b'"),
        ("[oslo_policy]\npolicy_file = /nope.yaml\n", "/nope.yaml"),
    ],
)
def test_what_does_not_fit_together_is_named(tmp_path: Path, text: str, names: str) -> None:
    loaded = load(tmp_path, text)
    with pytest.raises(ConfigError, match=names):
        config.build(loaded)


def test_every_option_is_in_the_sample() -> None:
    sample = config.sample()
    for _group, opts in config.list_opts():
        for opt in opts:
            assert f"#{opt.name} =" in sample or f"#{opt.dest} =" in sample, opt.name


def test_staging_has_a_directory_and_options_of_its_own(tmp_path: Path) -> None:
    plain = load(tmp_path, f"[DEFAULT]\nstate_path = {tmp_path}\n")
    assert plain.staging.settings["filesystem_store_datadir"] == f"{tmp_path}/staging"
    told = load(
        tmp_path,
        "[os_glance_staging_store]\nfilesystem_store_datadir = /x\n[file]\nweight = 3\nread_only = yes\n",
    )
    assert told.staging.settings["filesystem_store_datadir"] == "/x"
    assert told.store_options["file"] == MountOptions(weight=3, read_only=True, type="file")


def test_the_rules_for_urls_as_glance_writes_them(tmp_path: Path) -> None:
    text = (
        "[import_filtering_opts]\nallowed_schemes = [https]\nallowed_ports = []\n"
        "disallowed_ports = [22, 25]\nallowed_networks = 10.2.0.0/16\n[outbound]\nretries = 7\n"
    )
    limits = load(tmp_path, text).limits
    assert limits.url_rules.allowed_schemes == ("https",)
    assert limits.url_rules.allowed_ports == ()
    assert limits.url_rules.disallowed_ports == (22, 25)
    assert str(limits.url_rules.allowed_networks[0]) == "10.2.0.0/16"
    assert limits.fetch_limits.retries == 7
    with pytest.raises(ConfigError, match="allowed_networks"):
        load(tmp_path, "[import_filtering_opts]\nallowed_networks = [everything]\n")


@pytest.fixture
def broken_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(write_distribution(tmp_path / "broken")))
    yield
    for name in MODULES:
        sys.modules.pop(f"broken_{name}", None)


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        ("needslibrary", "No module named 'no_such_library_at_all'"),
        ("assertsonimport", "not today"),
        ("exitsonimport", "3"),
        ("notastore", "isn't a subclass"),
        ("incomplete", "lacks read"),
        ("oddcapabilities", "isn't a Cap"),
        ("oddoptions", "oddoptions"),
        ("raisesinit", "its constructor raised RuntimeError"),
    ],
)
def test_a_broken_driver_is_its_own_stores_trouble(
    broken_plugins: None, tmp_path: Path, driver: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    section = "broken_password = s3cret\n" if driver == "raisesinit" else "whatever = it reads\n"
    text = (
        f"[DEFAULT]\nstate_path = {tmp_path}\nregistry = memory\nenabled_backends = disk:file, bad:{driver}\n"
        f"[bad]\nweight = 3\n{section}"
    )
    service = config.build(load(tmp_path, text))
    assert "store 'bad' can't be used, the others can: " in caplog.text
    assert "s3cret" not in caplog.text
    mounts = service._context.mounts
    assert (mounts.default, mounts["bad"].type, mounts["bad"].weight) == ("disk", driver, 3)
    with pytest.raises(StoreError, match=says):
        mounts["bad"].store.driver.open()
    with pytest.raises(StoreError, match=says):
        mounts["bad"].store.driver.stat("key")
    mounts["disk"].store.open()
    mounts["disk"].store.close()


@pytest.mark.parametrize(
    "text",
    [
        "enabled_backends = bad:incomplete, disk:file\n",
        "enabled_backends = disk:file, bad:raisesinit\n[glance_store]\ndefault_backend = bad\n",
        "enabled_backends = web:http, bad:needslibrary, disk:file\n",
        "staging_backend = incomplete\n",
        "staging_backend = raisesinit\n",
    ],
)
def test_a_broken_driver_of_a_needed_store_stops_the_start(
    broken_plugins: None, tmp_path: Path, text: str
) -> None:
    with pytest.raises(ConfigError, match="incomplete|raised RuntimeError|no_such_library"):
        config.build(load(tmp_path, f"[DEFAULT]\nregistry = memory\n{text}"))
