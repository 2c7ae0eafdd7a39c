"""The stores that are measured, each with the bare client of the same backend.

One entry a driver: what it needs, how its server is started, its settings,
and its peer. A peer writes and reads as the client library's manual says.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 1 << 20
CONTAINER = "bench"
PEERS = f"{CONTAINER}-peer"  # the container of the bare clients' own


@dataclass
class Backend:
    """A backend that runs: the driver's settings, and its peer."""

    settings: dict[str, Any]
    peer: Any
    below: dict[str, Any] = field(default_factory=dict)  # settings of a file store below


class Missing(Exception):
    """What is measured isn't installed."""


def needs(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Missing(str(error)) from error


class FilePeer:
    """A plain copy with fsync; ``hashed``: with the SHA-256 of each block, both ways."""

    def __init__(self, directory: Path, *, hashed: bool = False) -> None:
        self.directory = directory
        self._seen = (lambda block: hashlib.sha256(block).digest()) if hashed else (lambda block: None)
        directory.mkdir()

    def write(self, name: str, source: Any, _size: int) -> None:
        with (self.directory / name).open("wb", buffering=0) as file:
            while block := source.read(BLOCK):
                self._seen(block)
                file.write(block)
            os.fsync(file.fileno())

    def read(self, name: str) -> int:
        count = 0
        with (self.directory / name).open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                self._seen(block)
                count += len(block)
        return count

    def delete(self, name: str) -> None:
        (self.directory / name).unlink()


class SwiftPeer:
    """swiftclient, one object."""

    def __init__(self, server: Any, user: str, key: str) -> None:
        self._client = needs("swiftclient").Connection(server.auth_url, user, key)
        self._client.put_container(PEERS)

    def write(self, name: str, source: Any, size: int) -> None:
        self._client.put_object(PEERS, name, source, content_length=size, chunk_size=BLOCK)

    def read(self, name: str, container: str = PEERS) -> int:
        _, body = self._client.get_object(container, name, resp_chunk_size=BLOCK)
        return sum(map(len, body))

    def read_span(self, name: str, offset: int, length: int, container: str = PEERS) -> int:
        span = {"Range": f"bytes={offset}-{offset + length - 1}"}
        _, body = self._client.get_object(container, name, headers=span)
        return len(body)

    def found(self, container: str, prefix: str) -> str:
        """Return the object whose name begins so."""
        return str(self._client.get_container(container, prefix=prefix)[1][0]["name"])

    def delete(self, name: str) -> None:
        self._client.delete_object(PEERS, name)


class S3Peer:
    """boto3's upload_fileobj as it comes, and get_object.

    It sends parts of the driver's size, ten at a time; with as many as the
    driver it's as fast. Both hash each part once, for the signature.
    """

    def __init__(self, server: Any, user: str, key: str) -> None:
        config = needs("botocore.config").Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self._client = needs("boto3").client(
            "s3",
            endpoint_url=server.url,
            aws_access_key_id=user,
            aws_secret_access_key=key,
            region_name="us-east-1",
            config=config,
        )
        self._client.create_bucket(Bucket=PEERS)

    def write(self, name: str, source: Any, _size: int) -> None:
        self._client.upload_fileobj(source, PEERS, name)

    def read(self, name: str, container: str = PEERS) -> int:
        body = self._client.get_object(Bucket=container, Key=name)["Body"]
        return sum(map(len, body.iter_chunks(BLOCK)))

    def read_span(self, name: str, offset: int, length: int, container: str = PEERS) -> int:
        span = f"bytes={offset}-{offset + length - 1}"
        found = self._client.get_object(Bucket=container, Key=name, Range=span)
        return len(found["Body"].read())

    def found(self, container: str, prefix: str) -> str:
        """Return the object whose name begins so."""
        return str(self._client.list_objects_v2(Bucket=container, Prefix=prefix)["Contents"][0]["Key"])

    def delete(self, name: str) -> None:
        self._client.delete_object(Bucket=PEERS, Key=name)


class RbdPeer:
    """The bindings of librbd, block after block."""

    def __init__(self, conf: Path, pool: str) -> None:
        found = needs("glancelike_store_rbd.bindings").load()
        self._rbd = found.rbd
        self._cluster = found.rados.Rados(conffile=str(conf))
        self._cluster.connect()
        self._io = self._cluster.open_ioctx(pool)

    def write(self, name: str, source: Any, size: int) -> None:
        self._rbd.RBD().create(self._io, f"peer-{name}", size)
        with self._rbd.Image(self._io, f"peer-{name}") as image:
            at = 0
            while block := source.read(8 * BLOCK):
                at += image.write(block, at)
            image.flush()

    def read(self, name: str) -> int:
        count = 0
        with self._rbd.Image(self._io, f"peer-{name}", read_only=True) as image:
            while block := image.read(count, min(8 * BLOCK, image.size() - count)):
                count += len(block)
        return count

    def delete(self, name: str) -> None:
        self._rbd.RBD().remove(self._io, f"peer-{name}")


@contextmanager
def file(folder: Path) -> Iterator[Backend]:
    yield Backend({"filesystem_store_datadir": str(folder / "store")}, FilePeer(folder / "peer"))


@contextmanager
def chunks(folder: Path) -> Iterator[Backend]:
    below = {"filesystem_store_datadir": str(folder / "below")}
    # There is no client of such a store: anybody who verifies what is read has to hash it.
    yield Backend({"chunk_store_over": "below"}, FilePeer(folder / "peer", hashed=True), below)


@contextmanager
def swift(folder: Path) -> Iterator[Backend]:
    with running("tests.swift_server", "SwiftServer", folder / "server") as (module, server):
        settings = {
            "swift_store_auth_address": server.auth_url,
            "swift_store_user": module.USER,
            "swift_store_key": module.KEY,
            "swift_store_container": CONTAINER,
            "swift_store_create_container_on_put": True,
            "swift_store_auth_version": "1",
        }
        yield Backend(settings, SwiftPeer(server, module.USER, module.KEY))


@contextmanager
def s3(folder: Path) -> Iterator[Backend]:
    with running("tests.swift_server", "SwiftServer", folder / "server") as (module, server):
        settings = {
            "s3_store_host": server.url,
            "s3_store_access_key": module.USER,
            "s3_store_secret_key": module.KEY,
            "s3_store_bucket": CONTAINER,
            "s3_store_create_bucket_on_put": True,
            "s3_store_bucket_url_format": "path",
            "s3_store_region_name": "us-east-1",
        }
        yield Backend(settings, S3Peer(server, module.USER, module.KEY))


@contextmanager
def rbd(folder: Path) -> Iterator[Backend]:
    # Room for the image of --rss and for what is still being freed of the one before it.
    disk = {"objectstore": "bluestore", "size": 16 << 30}
    with running("tests.ceph_server", "CephServer", folder / "server", **disk) as (_, server):
        server.make_pool(CONTAINER)
        settings = {"rbd_store_ceph_conf": str(server.conf), "rbd_store_pool": CONTAINER}
        yield Backend(settings, RbdPeer(server.conf, CONTAINER))


@contextmanager
def running(module: str, name: str, folder: Path, **how: Any) -> Iterator[tuple[Any, Any]]:
    """Run one of the tests' servers for the length of a ``with``."""
    found = needs(module)
    missing = getattr(found, "missing", lambda: None)()
    if missing:
        raise Missing(missing)
    with ExitStack() as stack:
        server = getattr(found, name)(folder, **how)
        stack.callback(server.stop)
        yield found, server


BACKENDS: dict[str, Callable[[Path], Any]] = {
    "file": file,
    "swift": swift,
    "s3": s3,
    "rbd": rbd,
    "chunks": chunks,
}
