"""``image_conversion``: bring imported disks into one format, by qemu-img."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from oslo_config import cfg

from glancelike import qemuimg
from glancelike.errors import FormatMismatch, ImageTooLarge, UnsafeImage
from glancelike.importing.base import ImportPlugin, Subject
from glancelike.qemuimg import GIB, Limits
from glancelike.transfer import BLOCK, Inspection

# disk_format -> qemu-img's own name
QEMU_NAMES = {
    "raw": "raw",
    "gpt": "raw",
    "qcow2": "qcow2",
    "vmdk": "vmdk",
    "vdi": "vdi",
    "vhd": "vpc",
    "vhdx": "vhdx",
    "ploop": "parallels",
}
MIB = 1 << 20


class ImageConversion(ImportPlugin):
    """Convert disks to ``output_format``; ISO images and kernels stay as they are."""

    options = (
        cfg.StrOpt(
            "output_format",
            default="raw",
            choices=("qcow2", "raw", "vmdk"),
            help="Format that imported disks are converted to.",
        ),
        cfg.IntOpt("cpu_seconds", min=1, default=3600, help="Processor time that one conversion may take."),
        cfg.IntOpt("wall_seconds", min=1, default=7200, help="Time that one conversion may take."),
        cfg.IntOpt("memory_mib", min=256, default=2048, help="Address space that one conversion may take."),
    )

    def process(self, subject: Subject) -> None:
        """Convert the staged data; raise FormatMismatch, UnsafeImage, ImageTooLarge."""
        image = subject.image
        target = self.settings["output_format"]
        source = QEMU_NAMES.get(image.disk_format or "")
        if source is None or image.container_format != "bare":
            return
        with subject.local() as path, subject.workspace() as directory:
            # Even what needs no conversion is looked at here: data in one
            # format that claims to be another goes no further.
            virtual_size = inspect(path, str(image.disk_format))
            if source == QEMU_NAMES[target]:
                return
            # A few kilobytes may claim to be a disk of any size, and raw is as large as the disk.
            if target == "raw" and virtual_size > subject.size_cap:
                raise ImageTooLarge(
                    f"A raw disk of {virtual_size} bytes is over image_size_cap, {subject.size_cap} bytes"
                )
            converted = directory / "converted"
            self._convert(path, source, converted, target, virtual_size, subject.confirm)
            inspect(converted, target)
            with converted.open("rb") as file:
                subject.replace_data(
                    file, size=converted.stat().st_size, disk_format=target, container_format="bare"
                )

    def _convert(
        self,
        path: Path,
        source: str,
        converted: Path,
        target: str,
        virtual_size: int,
        beat: Callable[[], None],
    ) -> None:
        told = qemuimg.info(path, source)
        if int(told["virtual-size"]) > virtual_size + MIB:
            raise UnsafeImage("qemu-img finds another virtual size in the image than its header tells")
        for unsafe in ("backing-filename", "full-backing-filename"):
            if unsafe in told:
                raise UnsafeImage("images with a backing file can't be converted")
        if told.get("format-specific", {}).get("data", {}).get("data-file") is not None:
            raise UnsafeImage("images with an external data file can't be converted")
        limits = Limits(
            cpu_seconds=self.settings["cpu_seconds"],
            address_space=self.settings["memory_mib"] * MIB,
            # A format's own tables and rounding come on top of the disk.
            file_bytes=virtual_size + virtual_size // 8 + 64 * MIB,
            wall_seconds=self.settings["wall_seconds"],
        )
        qemuimg.run(["convert", "-f", source, "-O", target, str(path), str(converted)], limits, beat)


def inspect(path: Path, disk_format: str) -> int:
    """Check that a file is what it claims to be; return its virtual size in bytes.

    Raises FormatMismatch or UnsafeImage.
    """
    inspection = Inspection(disk_format, "bare")
    size = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            inspection.feed(block)
            size += len(block)
    _name, virtual_size = inspection.finish(size)
    if virtual_size is None:
        raise FormatMismatch(f"the virtual size of this {disk_format} image can't be told")
    if virtual_size > 1024 * 1024 * GIB:
        raise ImageTooLarge(f"a virtual size of {virtual_size} bytes can't be meant")
    return virtual_size
