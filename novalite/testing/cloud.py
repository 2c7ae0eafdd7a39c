"""A whole cloud in one process, for tests: no network, no guest, no root.

::

    with Cloud(tmp_path, hosts=("one", "two")) as cloud:
        image = cloud.images.add(b"\\0" * 1024)
        (server,) = cloud.service.servers.create(cloud.caller, NewServer("vm", image.id, "42"))
        cloud.wait(server.id, Status.ACTIVE)

It is the real thing from the service down to the virt driver, which is the
fake one; the database is SQLite, and the messages stay in the process.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from novalite.compose import Node, build_all
from novalite.config import Settings, load
from novalite.errors import ImageMissing, ServerNotFound
from novalite.images import Images, translated, verifier_of
from novalite.model import Caller, ImageInfo, Server, Status
from novalite.service import ComputeService


class MemoryImages:
    """Images in a dictionary, seen by everybody."""

    def __init__(self) -> None:
        self._images: dict[str, tuple[ImageInfo, bytes]] = {}
        self.fetched: list[str] = []

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def add(self, data: bytes, **values: Any) -> ImageInfo:
        """Keep an image; ``values`` override what ImageInfo would say."""
        told: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "disk_format": "raw",
            "container_format": "bare",
            "size": len(data),
            "hash_algo": "sha256",
            "hash_value": hashlib.sha256(data).hexdigest(),
        }
        image = ImageInfo(**{**told, **values})
        self._images[image.id] = (image, data)
        return image

    def remove(self, image_id: str) -> None:
        """Forget an image."""
        del self._images[image_id]

    def show(self, image_id: str, caller: Caller) -> ImageInfo:
        """Return an image; raise ImageMissing."""
        return self._find(image_id)[0]

    def fetch(self, image: ImageInfo, target: Path, check: Callable[[], None] = lambda: None) -> None:
        """Write an image's verified bytes to a file."""
        check()
        data = self._find(image.id)[1]
        target.write_bytes(data)
        with translated(image.id):
            verifier = verifier_of(image)
            verifier.add(data)
            verifier.finish()
        self.fetched.append(image.id)

    def create(self, values: Mapping[str, Any], caller: Caller) -> str:
        """Keep an image without data."""
        base = {"name", "owner", "disk_format", "container_format", "min_disk", "min_ram", "visibility"}
        known = {name: value for name, value in values.items() if name in base}
        image = ImageInfo(
            **{"id": str(uuid.uuid4()), "owner": caller.project, **known},
            status="queued",
            properties={name: value for name, value in values.items() if name not in base},
        )
        self._images[image.id] = (image, b"")
        return image.id

    def upload(
        self, image_id: str, source: Path, values: Mapping[str, Any], check: Callable[[], None]
    ) -> None:
        """Make a file the image's data."""
        check()
        image, data = self._find(image_id)[0], source.read_bytes()
        told = {"status": "active", "size": len(data), "hash_algo": "sha256"}
        digest = hashlib.sha256(data).hexdigest()
        self._images[image_id] = (replace(image, **{**values, **told, "hash_value": digest}), data)

    def delete(self, image_id: str, *, unless_filled: bool = False) -> None:
        """Forget an image, or keep it if it has data and shouldn't go; no error when it's gone."""
        if not (unless_filled and image_id in self._images and self._images[image_id][0].status == "active"):
            self._images.pop(image_id, None)

    def with_properties(self, **properties: str) -> tuple[str, ...]:
        """Return the ids of the images with all of the properties, newest first."""
        found = [
            image for image, _ in self._images.values() if properties.items() <= image.properties.items()
        ]
        return tuple(image.id for image in reversed(found))

    def data(self, image_id: str) -> bytes:
        """Return an image's bytes."""
        return self._find(image_id)[1]

    def _find(self, image_id: str) -> tuple[ImageInfo, bytes]:
        try:
            return self._images[image_id]
        except KeyError:
            raise ImageMissing(f"image {image_id} not found") from None


class Cloud:
    """Nodes on one database and one queue; the first serves and schedules.

    ``options`` maps (section, option) to values, as ``config.load`` takes
    them; ``host_options`` maps a host's name to what differs there. A
    stopped cloud may be made again on the same directory.
    """

    def __init__(
        self,
        directory: Path,
        *,
        hosts: Sequence[str] = ("host1",),
        images: Images | None = None,
        options: Mapping[tuple[str, str], Any] | None = None,
        host_options: Mapping[str, Mapping[tuple[str, str], Any]] | None = None,
    ) -> None:
        self.memory_images = MemoryImages()
        self.caller = Caller("tester", "project", frozenset({"member", "reader"}))
        self.admin = Caller.administrator("project")
        self._directory = directory
        self._options = dict(options or {})
        self._host_options = dict(host_options or {})
        self._queue = f"kombu+inprocess:///{uuid.uuid4().hex}"
        self.nodes: dict[str, Node] = {}
        for host in hosts:
            roles = frozenset({"compute"} if self.nodes else {"compute", "scheduler"})
            self.nodes[host] = build_all(
                self.settings(host), roles=roles, images=images or self.memory_images
            )

    @property
    def images(self) -> MemoryImages:
        """The images in memory, unless the cloud was made with others."""
        return self.memory_images

    @property
    def service(self) -> ComputeService:
        """The first node's service."""
        return next(iter(self.nodes.values())).service

    def settings(self, host: str) -> Settings:
        """Return the settings of one host."""
        fast: dict[tuple[str, str], Any] = {
            ("DEFAULT", "host"): host,
            ("DEFAULT", "state_path"): str(self._directory / host),
            ("DEFAULT", "compute_driver"): "fake",
            ("DEFAULT", "transport_url"): self._queue,
            ("DEFAULT", "redrive_interval"): 0.2,
            ("DEFAULT", "report_interval"): 0.5,
            ("DEFAULT", "sync_power_state_interval"): 0.2,
            ("DEFAULT", "reserved_host_memory_mb"): 0,
            ("DEFAULT", "max_concurrent_builds"): 4,
            ("database", "connection"): f"sqlite:///{self._directory / 'novalite.sqlite'}",
            ("database", "auto_upgrade"): True,
        }
        return load(
            [], config_files=[], overrides={**fast, **self._options, **self._host_options.get(host, {})}
        )

    def wait(self, server_id: str, status: Status | None, *, seconds: float = 90.0) -> Server:
        """Wait until a server has a status and no task, or with None, is gone.

        Returns its last record; raises TimeoutError saying how it stands.
        """
        until = time.monotonic() + seconds
        server: Server | None = None
        while time.monotonic() < until:
            try:
                server = self.service.servers.show(self.admin, server_id)
            except ServerNotFound:
                if status is None and server is not None:
                    return server
                raise
            if server.status == status and server.task_state is None:
                return server
            time.sleep(0.01)
        raise TimeoutError(f"server {server_id} isn't {status or 'gone'}: {server}")

    def open(self) -> None:
        """Start all nodes."""
        for node in self.nodes.values():
            node.open()

    def close(self) -> None:
        """Stop all nodes, at the same time as it takes each a second."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: node.close(), self.nodes.values()))

    def __enter__(self) -> Cloud:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
