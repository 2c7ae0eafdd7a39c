"""Make disk images of every format, good ones and dangerous ones, with qemu-img.

The manifest is in the form of OpenStack's os-test-images.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

SIZE = "8M"
# name, format as the Image API says it, qemu-img's format, its options
GOOD = (
    ("qcow2", "qcow2", "qcow2", "compat=1.1"),
    ("qcow2-v2", "qcow2", "qcow2", "compat=0.10"),
    ("vdi", "vdi", "vdi", ""),
    ("vhd", "vhd", "vpc", ""),
    ("vhdx", "vhdx", "vhdx", ""),
    ("vmdk-sparse", "vmdk", "vmdk", "subformat=monolithicSparse"),
    ("vmdk-stream", "vmdk", "vmdk", "subformat=streamOptimized"),
)


def make_images(directory: Path) -> Path:
    """Write the images and ``manifest.yaml`` into a directory; return the manifest's path."""
    directory.mkdir()
    raw = directory / "image.raw"
    raw.write_bytes(os.urandom(1 << 20) + bytes(1 << 20))
    images = [_described("raw", "raw", raw)]
    for name, disk_format, kind, options in GOOD:
        target = directory / f"{name}.img"
        words = ["-o", options] if options else []
        _qemu_img("convert", "-f", "raw", "-O", kind, *words, str(raw), str(target))
        images.append(_described(name, disk_format, target))
    images.append(_described("iso", "iso", _iso(directory)))
    images += _dangerous(directory)
    os.link(directory / "qcow2.img", directory / "image.qcow2")
    manifest = directory / "manifest.yaml"
    manifest.write_text(yaml.safe_dump({"images": images}))
    return manifest


def _dangerous(directory: Path) -> list[dict[str, object]]:
    """Make images that refer to other files: nobody may take them."""
    backed, outside, flat = (directory / f"{name}.img" for name in ("backed", "outside", "flat"))
    _qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", "/etc/hostname", "-u", str(backed), SIZE)
    _qemu_img(
        "create", "-f", "qcow2", "-o", f"data_file={directory}/data,data_file_raw=on", str(outside), SIZE
    )
    _qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", str(flat), SIZE)
    return [
        _described("qcow2-backing-file", "qcow2", backed, usable=False),
        _described("qcow2-data-file", "qcow2", outside, usable=False),
        _described("vmdk-flat", "vmdk", flat, usable=False),
    ]


def _iso(directory: Path) -> Path:
    """Write the smallest ISO 9660 image: the descriptor that names it, and the end of the list."""
    block = 2048
    primary = b"\x01CD001\x01".ljust(block, b"\0")
    end = b"\xffCD001\x01".ljust(block, b"\0")
    path = directory / "iso.img"
    path.write_bytes(bytes(16 * block) + primary + end + bytes(64 * block))
    return path


def _described(name: str, disk_format: str, path: Path, *, usable: bool = True) -> dict[str, object]:
    return {"name": name, "format": disk_format, "filename": path.name, "usable": usable}


def _qemu_img(*words: str) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True, timeout=60)
