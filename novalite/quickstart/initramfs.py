"""Make an initramfs out of busybox, kernel modules and scripts, without root."""

from __future__ import annotations

import gzip
import lzma
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from novalite.errors import ConfigError
from novalite.quickstart import guest_scripts

#: Loaded in this order. Buses before disks, disks before file systems.
MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "ata_piix",
    "ahci",
    "sr_mod",
    "isofs",
    "button",
    "evdev",
    "virtio_net",
    "virtio_rng",
    "e1000",
)
_DIRECTORY, _FILE = 0o040755, 0o100000
_MODULE_SUFFIXES = (".ko", ".ko.xz", ".ko.gz")


@dataclass
class Archive:
    """A cpio archive in the "newc" form, all of it root's."""

    members: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def add(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Add a file, and the directories it is in."""
        folder = ""
        for part in path.split("/")[:-1]:
            folder = f"{folder}/{part}" if folder else part
            self.members.setdefault(folder, (_DIRECTORY, b""))
        self.members[path] = (_FILE | mode, data)

    def pack(self) -> bytes:
        """Return the archive's bytes; the same members give the same bytes."""
        chunks = []
        names = [*self.members.items(), ("TRAILER!!!", (0, b""))]
        for inode, (path, (mode, data)) in enumerate(names):
            name = path.encode() + b"\0"
            numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
            header = b"070701" + b"".join(b"%08X" % number for number in numbers)
            chunks += [_pad(header + name), _pad(data)]
        return b"".join(chunks)


def build(modules_root: Path, release: str, busybox: Path, scratch: Path) -> bytes:
    """Return a gzipped initramfs whose /init is the guest's.

    ``modules_root`` holds ``lib/modules/RELEASE`` as the kernel package has it;
    ``scratch`` is an empty directory. Raises ConfigError when a tool fails.
    """
    archive = Archive()
    archive.add("bin/busybox", busybox.read_bytes(), mode=0o755)
    archive.add("init", guest_scripts.INIT.encode(), mode=0o755)
    archive.add("udhcpc", guest_scripts.UDHCPC.encode(), mode=0o755)
    archive.add("etc/acpi/PWRF/00000080", guest_scripts.POWER_BUTTON.encode(), mode=0o755)
    _depmod(busybox, modules_root, release)
    tree = modules_root / "lib" / "modules" / release
    wanted = _closure(_dependencies(tree / "modules.dep"))
    archive.add("modules", " ".join(module for module in MODULES if module in wanted).encode())
    for path in sorted({path for paths in wanted.values() for path in paths}):
        data = _decompressed(tree / path)
        plain = path.removesuffix(".xz").removesuffix(".gz")
        copy = scratch / "lib" / "modules" / release / plain
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
        archive.add(f"lib/modules/{release}/{plain}", data)
    _depmod(busybox, scratch, release)
    told = scratch / "lib" / "modules" / release / "modules.dep"
    archive.add(f"lib/modules/{release}/modules.dep", told.read_bytes())
    return gzip.compress(archive.pack(), 9, mtime=0)


def _depmod(busybox: Path, root: Path, release: str) -> None:
    done = subprocess.run(
        [str(busybox), "depmod", "-b", str(root), release], capture_output=True, check=False, timeout=120
    )
    if done.returncode:
        raise ConfigError(f"busybox depmod: {done.stderr.decode(errors='replace').strip()}")


def _dependencies(modules_dep: Path) -> dict[str, list[str]]:
    """Map a module's path to those of the modules it needs."""
    needs = {}
    for line in modules_dep.read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    return needs


def _closure(needs: Mapping[str, list[str]]) -> dict[str, set[str]]:
    """Map each wanted module's name to all paths it takes; built-in ones are left out."""
    by_name = {_module_name(path): path for path in needs}
    wanted: dict[str, set[str]] = {}
    for name in MODULES:
        if name in by_name:
            paths, todo = set(), [by_name[name]]
            while todo:
                path = todo.pop()
                if path not in paths:
                    paths.add(path)
                    todo += needs[path]
            wanted[name] = paths
    return wanted


def _module_name(path: str) -> str:
    name = path.rpartition("/")[2]
    for suffix in _MODULE_SUFFIXES:
        name = name.removesuffix(suffix)
    return name.replace("-", "_")


def _decompressed(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _pad(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
