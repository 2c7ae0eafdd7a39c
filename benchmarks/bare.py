"""The limit of an upload: a WSGI application that hashes and writes, and nothing else.

``PUT /NAME?sha256`` reads steps of 1 MiB, computes each digest that the query
names in a thread of its own, and waits for the disk.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

BLOCK = 1 << 20
AHEAD = 4  # blocks that may wait for each digest
FOLDER = Path(os.environ["BARE_FOLDER"])


class Digest:
    """One digest, computed while the next block is read and written."""

    def __init__(self, name: str) -> None:
        self._state = hashlib.new(name)
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def update(self, block: bytes) -> None:
        self._waiting.append(self._thread.submit(self._state.update, block))
        if len(self._waiting) > AHEAD:
            self._waiting.popleft().result()

    def finish(self) -> str:
        self._thread.shutdown()
        return self._state.hexdigest()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    name, query = environ["PATH_INFO"].strip("/"), environ["QUERY_STRING"]
    digests = [Digest(each) for each in query.split("&") if each]
    with (FOLDER / name).open("wb", buffering=0) as file:
        while block := environ["wsgi.input"].read(BLOCK):
            for digest in digests:
                digest.update(block)
            file.write(block)
        told = [digest.finish() for digest in digests]
        os.fsync(file.fileno())
    start_response("201 Created", [("Content-Type", "text/plain"), ("Content-Length", str(len(str(told))))])
    return [str(told).encode()]
