"""Build a small bootable image from the distribution's packages.

A kernel, busybox and an /init that says on the console who it is: enough to
see a cloud boot, with nothing downloaded from anywhere but the distribution's
archive, no root and no change to the system's package state.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from novalite.errors import ConfigError, Unavailable
from novalite.quickstart import guest_scripts, initramfs
from novalite.quickstart.packages import PackageArchive, run
from novalite.virt import qemuimg

Progress = Callable[[str], None]

#: The package that names the current kernel for virtual machines.
KERNEL_PACKAGE = "linux-image-cloud-amd64"
DISK_BYTES = 24 << 20
_TOOLS = {
    "apt-get": "apt",
    "dpkg": "dpkg",
    "mformat": "mtools",
    "mcopy": "mtools",
    "syslinux": "syslinux",
    "qemu-img": "qemu-utils",
}
_BUSYBOX = Path("/bin/busybox")
# no_timer_check: an emulated timer on a busy host fails the kernel's check, and
# the fallback costs the guest most of a minute
_SYSLINUX = """SERIAL 0 115200
DEFAULT guest
PROMPT 0
TIMEOUT 1
LABEL guest
 LINUX /vmlinuz
 INITRD /initrd.gz
 APPEND console=ttyS0 quiet no_timer_check panic=10
"""


def build(cache: Path, progress: Progress = lambda _line: None) -> Path:
    """Return the path of a bootable qcow2, made now or earlier.

    The image is made anew when the distribution has another kernel or this
    code has changed; without a network the newest earlier one is returned.
    Raises ConfigError naming what isn't installed, and Unavailable when the
    kernel can't be had.
    """
    _check_tools()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "guest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        archive = PackageArchive(cache / "apt")
        try:
            package, version = _current_kernel(archive)
        except Unavailable:
            earlier = sorted(cache.glob(f"guest-*-{_digest()}.qcow2"), key=lambda path: path.stat().st_mtime)
            if not earlier:
                raise
            progress("the package archive can't be asked; using the image made earlier")
            return earlier[-1]
        image = cache / f"guest-{re.sub(r'[^0-9A-Za-z.]', '-', version)}-{_digest()}.qcow2"
        if not image.exists():
            with tempfile.TemporaryDirectory(prefix="guest-", dir=cache) as folder:
                progress(f"fetching {package} {version}")
                deb = archive.download(package, Path(folder))
                progress("making the image")
                _make(deb, Path(folder), image)
        return image


_BESIDE = "its kernel and its initramfs are beside it"  # what else is made goes into the name, too


def kernel_of(image: Path) -> Path:
    """Return the kernel that is in an image, for guests that boot without its disk."""
    return image.with_suffix(".vmlinuz")


def ramdisk_of(image: Path) -> Path:
    """Return the initramfs that is in an image."""
    return image.with_suffix(".initrd")


def _make(deb: Path, work: Path, image: Path) -> None:
    """Unpack a kernel package and put a disk together, then move it into place."""
    tree = work / "kernel"
    run(["dpkg", "-x", str(deb), str(tree)])
    kernels = list((tree / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise Unavailable(f"{deb.name} holds {len(kernels)} kernels; one is needed")
    modules = tree if (tree / "lib" / "modules").is_dir() else tree / "usr"
    scratch = work / "modules"
    scratch.mkdir()
    release = kernels[0].name.removeprefix("vmlinuz-")
    (work / "initrd.gz").write_bytes(initramfs.build(modules, release, _BUSYBOX, scratch))
    (work / "syslinux.cfg").write_text(_SYSLINUX)
    kernels[0].rename(work / "vmlinuz")
    disk = work / "disk.raw"
    with disk.open("wb") as empty:
        empty.truncate(DISK_BYTES)
    sectors = str(DISK_BYTES // 512)
    run(["mformat", "-i", str(disk), "-v", "NOVALITE", "-T", sectors, "-h", "16", "-s", "63", "::"])
    names = ("vmlinuz", "initrd.gz", "syslinux.cfg")
    run(["mcopy", "-i", str(disk), *(str(work / name) for name in names), "::"])
    run(["syslinux", "--install", str(disk)])
    for name, piece in (("vmlinuz", kernel_of(image)), ("initrd.gz", ramdisk_of(image))):
        (work / name).replace(piece)
    fresh = work / "disk.qcow2"
    qemuimg.to_qcow2(disk, "raw", fresh, DISK_BYTES)
    with fresh.open("rb") as written:
        os.fsync(written.fileno())
    fresh.replace(image)


def _current_kernel(archive: PackageArchive) -> tuple[str, str]:
    """Return the name and version of the current kernel's package."""
    told = archive.show(KERNEL_PACKAGE)
    needs = re.search(r"^Depends: (linux-image-[^ ,]+)(?: \(= ([^)]+)\))?", told, re.MULTILINE)
    version = re.search(r"^Version: (.+)$", told, re.MULTILINE)
    if needs is None or version is None:
        raise Unavailable(f"package {KERNEL_PACKAGE} names no kernel")
    return needs[1], needs[2] or version[1]


def _check_tools() -> None:
    missing = {package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    if not _BUSYBOX.exists():
        missing.add("busybox-static")
    if missing:
        raise ConfigError(f"a guest image needs these packages: {' '.join(sorted(missing))}")


def _digest() -> str:
    """Return a name for all of our own that goes into an image."""
    modules: Sequence[ModuleType] = (guest_scripts, initramfs)
    told = "".join([*(inspect.getsource(module) for module in modules), _SYSLINUX, str(DISK_BYTES), _BESIDE])
    return hashlib.sha256(told.encode() + _BUSYBOX.read_bytes()).hexdigest()[:12]
