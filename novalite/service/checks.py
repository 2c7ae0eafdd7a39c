"""Checks of what callers send, shared by the use cases."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping

from novalite.errors import FlavorTooSmall, ImageMissing, ImageUnusable, InvalidInput
from novalite.images import Images
from novalite.model import BOOT_FILES_OF, GIB, MIB, Caller, Flavor, ImageInfo, check_boot_file
from novalite.policy import Policy

MAX_CHARS = 255
_BOOTABLE = frozenset({"raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi", "iso", "ami"})
_CONTAINERS = frozenset({"bare", "ami"})
MAX_TAGS = 50
MAX_TAG_CHARS = 60
_USER_DATA_CHARS = 65535


def check_name(what: str, text: str) -> None:
    """Raise InvalidInput unless the text can be a name."""
    if not text or not text.strip():
        raise InvalidInput(f"{what} must not be empty")
    if len(text) > MAX_CHARS:
        raise InvalidInput(f"{what} has {len(text)} characters, more than {MAX_CHARS}")
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise InvalidInput(f"{what} must not have control characters")


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raise InvalidInput unless keys and values are short texts."""
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidInput(f"metadata item {key!r} isn't text")
        if not 1 <= len(key) <= MAX_CHARS:
            raise InvalidInput(f"metadata key {key[:40]!r} must have 1 to {MAX_CHARS} characters")
        if len(value) > MAX_CHARS:
            raise InvalidInput(f"metadata item {key} has {len(value)} characters, more than {MAX_CHARS}")
        if "\0" in key + value:
            raise InvalidInput(f"metadata item {key!r} has a NUL character")


def check_tags(tags: Collection[str]) -> None:
    """Raise InvalidInput unless these can be all tags of a server."""
    for tag in tags:
        if not 1 <= len(tag) <= MAX_TAG_CHARS or "/" in tag or "," in tag:
            raise InvalidInput(
                f"Tag '{tag[:80]}' is invalid. It must be a non empty string of at most {MAX_TAG_CHARS} "
                f"characters without '/' and ','"
            )
    if len(tags) > MAX_TAGS:
        raise InvalidInput(f"The number of tags exceeded the per-server limit {MAX_TAGS}")


def check_image(image: ImageInfo, flavor: Flavor) -> None:
    """Raise ImageUnusable or FlavorTooSmall when the two don't go together."""
    if image.status != "active":
        raise ImageUnusable(f"image {image.id} is {image.status}, not active")
    for what, found, bootable in (
        ("container_format", image.container_format, _CONTAINERS),
        ("disk_format", image.disk_format, _BOOTABLE),
    ):
        if found not in bootable:
            raise ImageUnusable(f"image {image.id}: no server boots from {what} {found}")
    size = max(image.size or 0, image.virtual_size or 0)
    disk = flavor.disk_gb or max(image.min_disk, -(-size // GIB))  # 0: as large as the image
    for what, unit, needed, offered in (
        ("memory", "MiB", image.min_ram, flavor.memory_mb),
        ("disk", "GiB", image.min_disk, disk),
        ("disk", "bytes", size, disk * GIB),
    ):
        if needed > offered:
            raise FlavorTooSmall(
                f"image {image.id} needs {needed} {unit} of {what}, flavor {flavor.name} has {offered}"
            )


def check_disk(flavor: Flavor, caller: Caller, policy: Policy) -> None:
    """Raise Forbidden for a disk as large as any image is, unless a rule lets the caller.

    Whoever brings the image says how much of the host it takes then.
    """
    if flavor.disk_gb == 0:
        policy.check(caller, "os_compute_api:servers:create:zero_disk_flavor")


def check_boot_files(images: Images, image: ImageInfo, flavor: Flavor, caller: Caller) -> None:
    """Raise ImageUnusable unless the caller may have the kernel and the ramdisk that an image names.

    They are the guest's from its start on, so whoever may not read them may not boot
    from them. Raises FlavorTooSmall when they don't fit into its memory.
    """
    total = 0
    for name, kind in BOOT_FILES_OF.items():
        image_id = image.properties.get(name)
        if not image_id:
            continue
        try:
            found = images.show(image_id, caller)
        except ImageMissing as error:
            raise ImageUnusable(f"image {image.id}: its {name} {image_id} isn't found") from error
        check_boot_file(found, kind)
        total += found.size or 0
    if total > flavor.memory_mb * MIB:
        raise FlavorTooSmall(
            f"image {image.id}: kernel and ramdisk have {total} bytes, flavor {flavor.name} has "
            f"{flavor.memory_mb} MiB of memory"
        )


def check_user_data(user_data: str) -> None:
    """Raise InvalidInput unless it is base64 of a bearable size."""
    if len(user_data) > _USER_DATA_CHARS:
        raise InvalidInput(f"user_data has {len(user_data)} characters, more than {_USER_DATA_CHARS}")
    try:
        base64.b64decode("".join(user_data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"user_data isn't base64: {error}") from error


def packed(user_data: str | None) -> str | None:
    """Return user data, which is base64, without blanks; None when there is nothing of it."""
    return "".join(user_data.split()) or None if user_data else None
