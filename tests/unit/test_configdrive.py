"""Config drives: files become an iso, all or nothing."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest

from novalite.errors import InvalidInput, Unavailable
from novalite.virt import configdrive

needs_tool = pytest.mark.skipif(shutil.which("genisoimage") is None, reason="genisoimage isn't installed")


@needs_tool
def test_the_drive_is_an_iso_with_the_label_and_the_bytes(tmp_path: Path) -> None:
    files = {"openstack/latest/meta_data.json": b'{"a": 1}', "openstack/latest/user_data": os.urandom(5000)}
    target = tmp_path / "config.iso"
    configdrive.build(files, target)
    image = target.read_bytes()
    # the primary volume descriptor is sector 16; its label is at 40, its root directory's record at 156
    descriptor = image[16 * 2048 : 17 * 2048]
    assert descriptor[1:6] == b"CD001"
    assert descriptor[40:72].rstrip() == b"config-2"
    assert struct.unpack("<I", descriptor[80:84])[0] * 2048 <= len(image)
    for content in files.values():
        assert content in image
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


@needs_tool
def test_building_again_replaces_the_drive(tmp_path: Path) -> None:
    target = tmp_path / "config.iso"
    configdrive.build({"a": b"first-content"}, target)
    configdrive.build({"a": b"second-content"}, target)
    assert b"second-content" in target.read_bytes()
    assert b"first-content" not in target.read_bytes()


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../up", "a/../../b", "nul\0"])
@needs_tool
def test_a_path_out_of_the_drive_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        configdrive.build({name: b""}, tmp_path / "config.iso")
    assert list(tmp_path.iterdir()) == []


@needs_tool
def test_a_missing_directory_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="absent"):
        configdrive.build({"a": b""}, tmp_path / "absent" / "config.iso")
