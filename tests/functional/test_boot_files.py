"""Images without a boot loader: their kernel and ramdisk are images of their own (aki, ari, ami)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from novalite.errors import FlavorTooSmall, ImageUnusable
from novalite.model import Caller, ImageInfo, NewServer, Rebuild, Server, Status
from novalite.quickstart.guest_image import kernel_of, ramdisk_of
from novalite.quickstart.libvirtd import Hypervisor
from novalite.testing.cloud import Cloud, MemoryImages
from tests.libvirt_fixtures import BOOT_SECONDS
from tests.waiting import wait_for

COMMAND_LINE = "console=ttyS0 quiet no_timer_check panic=10"


def piece(cloud: Cloud, kind: str, data: bytes = b"x" * 100, **values: Any) -> ImageInfo:
    return cloud.images.add(data, **{"disk_format": kind, "container_format": kind, **values})


def machine(cloud: Cloud, **properties: str) -> ImageInfo:
    disk = b"\0" * (1 << 20)
    return cloud.images.add(disk, disk_format="ami", container_format="ami", properties=properties)


def order(cloud: Cloud, image: ImageInfo, **values: Any) -> Server:
    wanted = replace(NewServer("vm", image.id, "42"), **values)
    return cloud.service.servers.create(cloud.admin, wanted)[0]


@pytest.mark.libvirt
@pytest.mark.timeout(600)
def test_boot_files_a_real_guest_boots_from_them(
    private_libvirtd: Hypervisor, guest_image: Path, tmp_path: Path
) -> None:
    options = {
        ("DEFAULT", "compute_driver"): "libvirt",
        ("libvirt", "connection_uri"): private_libvirtd.uri,
        ("libvirt", "virt_type"): "qemu",
        ("libvirt", "shutdown_timeout"): 1,
    }
    with Cloud(tmp_path, options=options) as cloud:
        kernel = piece(cloud, "aki", kernel_of(guest_image).read_bytes())
        ramdisk = piece(cloud, "ari", ramdisk_of(guest_image).read_bytes())
        told = {"kernel_id": kernel.id, "ramdisk_id": ramdisk.id, "os_command_line": COMMAND_LINE}
        image = machine(cloud, **told)
        first = cloud.wait(order(cloud, image).id, Status.ACTIVE)
        marker = f"instance-id={first.id} name=vm source=config-drive"
        wait_for("the guest's word", lambda: marker in output(cloud, first), BOOT_SECONDS)
        second = cloud.wait(order(cloud, image).id, Status.ACTIVE)
        # Fetched and verified once, as bases are.
        assert sorted(cloud.images.fetched) == sorted([kernel.id, ramdisk.id, image.id])
        for server in (first, second):
            cloud.service.servers.delete(cloud.admin, server.id)
            cloud.wait(server.id, None)


def output(cloud: Cloud, server: Server) -> str:
    return cloud.service.servers.console_output(cloud.admin, server.id)


def test_boot_files_what_is_no_kernel_is_refused(tmp_path: Path) -> None:
    with Cloud(tmp_path) as cloud:
        kernel = piece(cloud, "aki").id
        fine = order(cloud, machine(cloud, kernel_id=kernel, ramdisk_id=piece(cloud, "ari").id))
        cloud.wait(fine.id, Status.ACTIVE)
        absent = "0b1c2d3e-9c3b-4f7a-8e5d-6f1d2a4e9c3b"
        for properties, why in (
            ({"kernel_id": absent}, "its kernel_id .* isn't found"),
            ({"kernel_id": "../../etc/passwd"}, "its kernel_id .* isn't found"),
            ({"kernel_id": machine(cloud).id}, "is no aki: it is ami"),
            ({"kernel_id": piece(cloud, "ari").id}, "is no aki: it is ari"),
            ({"kernel_id": piece(cloud, "aki", status="queued").id}, "is queued, not active"),
            ({"kernel_id": piece(cloud, "aki", size=1 << 30).id}, "an aki at most"),
            ({"kernel_id": kernel, "ramdisk_id": kernel}, "is no ari: it is aki"),
        ):
            image = machine(cloud, **properties)
            with pytest.raises(ImageUnusable, match=why):
                order(cloud, image)
            with pytest.raises(ImageUnusable, match=why):
                cloud.service.changes.rebuild(cloud.admin, fine.id, Rebuild(image.id))
            with pytest.raises(ImageUnusable, match=why):
                cloud.service.changes.rescue(cloud.admin, fine.id, "", image.id)
        large = piece(cloud, "ari", size=200 << 20).id
        with pytest.raises(FlavorTooSmall, match="flavor m1.nano has 128 MiB of memory"):
            order(cloud, machine(cloud, kernel_id=kernel, ramdisk_id=large))
        with pytest.raises(ImageUnusable, match="no server boots from container_format aki"):
            order(cloud, cloud.images.show(kernel, cloud.admin))


def test_boot_files_of_others_arent_had_by_naming_them(tmp_path: Path) -> None:
    """The worker fetches as an administrator: it is the caller who has to be allowed to read them."""

    class Private(MemoryImages):
        def show(self, image_id: str, caller: Caller) -> ImageInfo:
            image = super().show(image_id, caller)
            if image.owner is None or caller.admin or caller.project == image.owner:
                return image
            return super().show("absent", caller)

    images = Private()
    with Cloud(tmp_path, images=images) as cloud:
        kernel = images.add(b"x", disk_format="aki", container_format="aki", owner="somebody-else")
        image = images.add(b"\0" * 512, properties={"kernel_id": kernel.id})
        with pytest.raises(ImageUnusable, match="isn't found"):
            cloud.service.servers.create(cloud.caller, NewServer("vm", image.id, "42"))
        cloud.service.servers.create(cloud.admin, NewServer("vm", image.id, "42"))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda images, kernel: images.remove(kernel.id), "not found"),
        (lambda images, kernel: images._images.update({kernel.id: (kernel, b"y" * 100)}), "sha256"),
    ],
)
def test_boot_files_that_went_or_changed_fail_the_build_with_the_reason(
    tmp_path: Path, spoil: Any, why: str
) -> None:
    class Spoilt(MemoryImages):
        """The worker finds another kernel than the service has looked at."""

        looked = False

        def show(self, image_id: str, caller: Caller) -> ImageInfo:
            image = super().show(image_id, caller)
            if image.disk_format == "aki" and not self.looked:
                self.looked = True
                spoil(self, image)
            return image

    images = Spoilt()
    with Cloud(tmp_path, images=images) as cloud:
        kernel = images.add(b"x" * 100, disk_format="aki", container_format="aki")
        image = images.add(b"\0" * 512, properties={"kernel_id": kernel.id})
        server = cloud.wait(order(cloud, image).id, Status.ERROR)
        assert server.fault is not None
        assert kernel.id in server.fault.message
        assert why in server.fault.message
