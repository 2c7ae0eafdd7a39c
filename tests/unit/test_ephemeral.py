"""What an ephemeral disk is made of, and by what."""

from __future__ import annotations

from pathlib import Path

import pytest

from novalite.errors import ConfigError, Unavailable
from novalite.virt import ephemeral, formatting, qemuimg
from novalite.virt.domain import Layout

SIZE = 16 << 20


@pytest.mark.parametrize(
    ("os_type", "default", "expected"),
    [
        ("linux", None, "ext4"),
        ("windows", None, "ntfs"),
        ("", None, "vfat"),
        ("freebsd", None, "vfat"),
        ("windows", "xfs", "xfs"),
    ],
)
def test_the_file_system_goes_by_the_image_unless_the_operator_wants_one(
    os_type: str, default: str | None, expected: str
) -> None:
    assert ephemeral.format_of(os_type, default) == expected


@pytest.mark.parametrize("file_system", ephemeral.FORMATS)
def test_every_file_system_has_the_label(file_system: str, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    size = 320 << 20 if file_system == "xfs" else SIZE  # the least that it takes
    try:
        ephemeral.make(layout, size, file_system)
    except ConfigError as error:
        pytest.skip(str(error))
    told = qemuimg.info(layout.ephemeral, "qcow2")
    assert (told["virtual-size"], told["backing-filename"]) == (size, str(layout.ephemeral_base))
    begin = layout.ephemeral_base.read_bytes()[: 1 << 20]
    assert any(name in begin for name in (b"ephemeral0", "ephemeral0".encode("utf-16-le")))
    assert layout.ephemeral_base.stat().st_blocks * 512 < size // 2, "it takes no more than it needs"
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}


def test_what_a_killed_process_left_is_made_anew_and_what_is_complete_stays(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.ephemeral_base.write_bytes(b"of another size, without what goes upon it")
    layout.ephemeral.with_name(".disk.eph0.fresh").write_bytes(b"half")
    ephemeral.make(layout, SIZE, "ext4")
    assert layout.ephemeral_base.stat().st_size == SIZE
    before = layout.ephemeral_base.stat()
    ephemeral.make(layout, 2 * SIZE, "ext4")
    assert layout.ephemeral_base.stat() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.eph0", "disk.eph0"]


def test_what_is_missing_or_fails_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match=r"mkfs\.ext4 .*base\.eph0: "):
        ephemeral.make(Layout(tmp_path), 4096, "ext4")
    monkeypatch.setattr(formatting, "find", lambda _: None)
    with pytest.raises(ConfigError, match=r"ephemeral disk with vfat needs mkfs\.vfat; install dosfstools"):
        ephemeral.make(Layout(tmp_path), SIZE, "vfat")
    assert ephemeral.missing(None) == ["mkfs.ext4 (e2fsprogs)", "mkfs.vfat (dosfstools)"]
    with pytest.raises(ConfigError, match=r"default_ephemeral_format xfs needs mkfs\.xfs \(xfsprogs\)"):
        ephemeral.missing("xfs")
    assert list(tmp_path.iterdir()) == []
