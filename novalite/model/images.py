"""What compute needs to know of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from novalite.errors import ImageUnusable
from novalite.model.basics import MIB


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What compute needs to know of an image; sizes in bytes.

    ``min_disk`` is GiB and ``min_ram`` MiB, as in the Image API.
    """

    id: str
    name: str | None = None
    status: str = "active"
    owner: str | None = None
    visibility: str = "private"
    disk_format: str | None = None
    container_format: str | None = None
    size: int | None = None
    virtual_size: int | None = None
    min_disk: int = 0
    min_ram: int = 0
    hash_algo: str | None = None
    hash_value: str | None = None
    checksum: str | None = None  # MD5, used only where there is no better digest
    properties: Mapping[str, str] = field(default_factory=dict)


#: Properties of an image that name what its guests start with, and of which format each has to be.
BOOT_FILES_OF = {"kernel_id": "aki", "ramdisk_id": "ari"}
LARGEST_BOOT_FILE = 512 * MIB


def check_boot_file(image: ImageInfo, kind: str) -> None:
    """Raise ImageUnusable unless an image is a kernel ("aki") or a ramdisk ("ari") that can be loaded."""
    if image.status != "active":
        raise ImageUnusable(f"image {image.id} is {image.status}, not active")
    if kind not in (image.disk_format, image.container_format):
        raise ImageUnusable(f"image {image.id} is no {kind}: it is {image.disk_format}")
    if (image.size or 0) > LARGEST_BOOT_FILE:
        raise ImageUnusable(f"image {image.id} has {image.size} bytes, an {kind} at most {LARGEST_BOOT_FILE}")
