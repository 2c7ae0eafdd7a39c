"""Ephemeral disks: a qcow2 file upon a formatted one, or upon what came from another host.

The upper file is made last and removed first, so it is what tells whether there
is such a disk. As it goes by name, whatever is below it without it is made anew.
"""

from __future__ import annotations

from novalite.errors import ConfigError
from novalite.virt import formatting, qemuimg
from novalite.virt.base import BaseImage
from novalite.virt.domain import Layout
from novalite.virt.files import link

#: What guests find it by, as in Nova.
_LABEL = "ephemeral0"
#: File system -> how it is made, and of what package that is.
_MAKING = {
    **{
        # The file is new, so what these would write zeros to has them.
        each: ((f"mkfs.{each}", "-q", "-F", "-E", "lazy_journal_init=1", "-L", _LABEL), "e2fsprogs")
        for each in ("ext2", "ext3", "ext4")
    },
    "xfs": (("mkfs.xfs", "-q", "-f", "-L", _LABEL), "xfsprogs"),
    "ntfs": (("mkfs.ntfs", "-F", "--quick", "-L", _LABEL), "ntfs-3g"),
    "vfat": (("mkfs.vfat", "-n", _LABEL), "dosfstools"),
}
FORMATS = tuple(_MAKING)
_BY_OS_TYPE = {"linux": "ext4", "windows": "ntfs"}
_OTHERWISE = "vfat"


def format_of(os_type: str, default: str | None) -> str:
    """Return the file system for a guest; ``os_type`` is its image's, empty where it tells none.

    ``default`` is what the operator wants for all. Nova's rule:
    https://docs.openstack.org/nova/latest/admin/configuration/
    """
    return default or _BY_OS_TYPE.get(os_type, _OTHERWISE)


def missing(default: str | None) -> list[str]:
    """Say which programs aren't there that servers may need, with their packages.

    Raises ConfigError when it is that of ``default``.
    """
    told = []
    for each in {default} if default else {"ext4", _OTHERWISE}:
        (name, *_), package = _MAKING[each]
        if formatting.find(name) is None:
            told.append(f"{name} ({package})")
    if default and told:
        raise ConfigError(f"default_ephemeral_format {default} needs {told[0]}, which isn't installed")
    return sorted(told)


def make(layout: Layout, size: int, file_system: str) -> None:
    """Make an empty disk of ``size`` bytes, all or nothing; one that is there stays.

    Raises ConfigError without the program that it takes, and Unavailable.
    """
    if layout.ephemeral.exists():
        return
    what = f"an ephemeral disk with {file_system}"
    formatting.make(what, layout.ephemeral_base, size, *_MAKING[file_system])
    _put_upon(layout, BaseImage(layout.ephemeral_base, "raw", size), size)


def take(layout: Layout, came: BaseImage, size: int) -> None:
    """Have what came from another host as the disk, which is ``size`` bytes large, or as large as that."""
    base = link(came.path, layout.ephemeral_base)
    _put_upon(layout, BaseImage(base, came.format, came.virtual_size), max(size, came.virtual_size))


def _put_upon(layout: Layout, base: BaseImage, size: int) -> None:
    fresh = layout.ephemeral.with_name(f".{layout.ephemeral.name}.fresh")
    fresh.unlink(missing_ok=True)
    qemuimg.overlay(fresh, base.path, base.format, size)
    fresh.replace(layout.ephemeral)
