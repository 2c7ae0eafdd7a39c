"""The demonstration guest's image: its archive, and what is done without a network."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from novalite.errors import ConfigError, Unavailable
from novalite.quickstart import guest_image, initramfs

needs_tools = pytest.mark.skipif(
    not Path("/bin/busybox").exists() or shutil.which("syslinux") is None,
    reason="the packages a guest image is made of aren't installed",
)


@needs_tools
def test_the_archive_is_one_that_busybox_unpacks(tmp_path: Path) -> None:
    archive = initramfs.Archive()
    archive.add("init", b"#!/bin/sh\n", mode=0o755)
    archive.add("etc/deep/file", b"odd")
    subprocess.run(["/bin/busybox", "cpio", "-i", "-d"], input=archive.pack(), cwd=tmp_path, check=True)
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "etc" / "deep" / "file").read_bytes() == b"odd"


@needs_tools
def test_modules_bring_along_what_they_need(tmp_path: Path) -> None:
    root, scratch = tmp_path / "root", tmp_path / "scratch"
    tree = root / "lib" / "modules" / "6.0.0"
    scratch.mkdir()
    tree.mkdir(parents=True)
    source = tree / "isofs.ko.gz"
    source.write_bytes(gzip.compress(b"a module"))
    packed = gzip.decompress(initramfs.build(root, "6.0.0", Path("/bin/busybox"), scratch))
    assert b"lib/modules/6.0.0/isofs.ko\0" in packed
    assert b"a module" in packed
    assert b"NOVALITE-GUEST ready" in packed


def broken_archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every question to the package archive fail."""
    folder.mkdir()
    for name in ("apt-get", "apt-cache"):
        (folder / name).write_text("#!/bin/sh\necho 'no network' >&2\nexit 100\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@needs_tools
def test_without_a_network_the_newest_earlier_image_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_archive(tmp_path / "bin", monkeypatch)
    cache = tmp_path / "cache"
    with pytest.raises(Unavailable, match="no network"):
        guest_image.build(cache)
    for age, version in enumerate(("6.2", "6.1", "6.3")):
        image = cache / f"guest-{version}-{guest_image._digest()}.qcow2"
        image.touch()
        os.utime(image, (time.time() - age, time.time() - age))
    (cache / "guest-9.9-0123456789ab.qcow2").touch()  # of other code
    told: list[str] = []
    assert guest_image.build(cache, told.append).name.startswith("guest-6.2-")
    assert told


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="mtools.*syslinux"):
        guest_image.build(tmp_path / "cache")
