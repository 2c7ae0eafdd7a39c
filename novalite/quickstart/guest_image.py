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
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from novalite.errors import ConfigError, Unavailable
from novalite.quickstart import guest_scripts, initramfs
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
        apt = _Apt(cache / "apt")
        try:
            package, version = apt.current_kernel()
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
                deb = apt.download(package, Path(folder))
                progress("making the image")
                _make(deb, Path(folder), image)
        return image


def _make(deb: Path, work: Path, image: Path) -> None:
    """Unpack a kernel package and put a disk together, then move it into place."""
    tree = work / "kernel"
    _run(["dpkg", "-x", str(deb), str(tree)])
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
    _run(["mformat", "-i", str(disk), "-v", "NOVALITE", "-T", sectors, "-h", "16", "-s", "63", "::"])
    names = ("vmlinuz", "initrd.gz", "syslinux.cfg")
    _run(["mcopy", "-i", str(disk), *(str(work / name) for name in names), "::"])
    _run(["syslinux", "--install", str(disk)])
    fresh = work / "disk.qcow2"
    qemuimg.to_qcow2(disk, "raw", fresh, DISK_BYTES)
    with fresh.open("rb") as written:
        os.fsync(written.fileno())
    fresh.replace(image)


class _Apt:
    """The package archive, read with lists of our own where the system's are stale."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._options: list[str] = []

    def current_kernel(self) -> tuple[str, str]:
        """Return the name and version of the current kernel's package."""
        try:
            return self._current_kernel()
        except Unavailable:
            self._refresh()
            return self._current_kernel()

    def _current_kernel(self) -> tuple[str, str]:
        told = self._run("apt-cache", "show", "--no-all-versions", KERNEL_PACKAGE)
        needs = re.search(r"^Depends: (linux-image-[^ ,]+)(?: \(= ([^)]+)\))?", told, re.MULTILINE)
        version = re.search(r"^Version: (.+)$", told, re.MULTILINE)
        if needs is None or version is None:
            raise Unavailable(f"package {KERNEL_PACKAGE} names no kernel")
        return needs[1], needs[2] or version[1]

    def download(self, package: str, folder: Path) -> Path:
        """Fetch a package, which apt verifies, into a folder."""
        try:
            self._run("apt-get", "download", package, cwd=folder)
        except Unavailable:
            self._refresh()  # lists that are too old name files the archive no longer has
            self._run("apt-get", "download", package, cwd=folder)
        return next(folder.glob("*.deb"))

    def _refresh(self) -> None:
        """Fetch package lists to a place of our own, and use these from now on."""
        if self._options:
            return
        for name in ("lists/partial", "cache/archives/partial"):
            (self._state / name).mkdir(parents=True, exist_ok=True)
        settings = {
            "Dir::State": self._state,
            "Dir::State::lists": self._state / "lists",
            "Dir::State::status": "/var/lib/dpkg/status",
            "Dir::Cache": self._state / "cache",
        }
        self._options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        self._run("apt-get", "update")

    def _run(self, program: str, *args: str, cwd: Path | None = None) -> str:
        # as root apt downloads as a user who may not see our folder
        options = [*self._options, "-q", "-o", "APT::Sandbox::User=root"]
        try:
            return _run([program, *options, *args], cwd=cwd)
        except ConfigError as exc:
            raise Unavailable(str(exc)) from exc


def _check_tools() -> None:
    missing = {package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    if not _BUSYBOX.exists():
        missing.add("busybox-static")
    if missing:
        raise ConfigError(f"a guest image needs these packages: {' '.join(sorted(missing))}")


def _digest() -> str:
    """Return a name for all of our own that goes into an image."""
    modules: Sequence[ModuleType] = (guest_scripts, initramfs)
    told = "".join([*(inspect.getsource(module) for module in modules), _SYSLINUX, str(DISK_BYTES)])
    return hashlib.sha256(told.encode() + _BUSYBOX.read_bytes()).hexdigest()[:12]


def _run(argv: Sequence[str], *, cwd: Path | None = None) -> str:
    """Run a program and return what it printed; raise ConfigError when it fails."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd=cwd,
            timeout=900,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ConfigError(f"{argv[0]}: {exc}") from exc
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip()
        raise ConfigError(f"{argv[0]} failed with status {done.returncode}: {told[-500:]}")
    return done.stdout.decode(errors="replace")
