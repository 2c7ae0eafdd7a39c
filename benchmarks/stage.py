"""What all work needs: where to write, how much, how often, and servers that are started once."""

from __future__ import annotations

import copy
import os
import random
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import peers
from benchmarks.client import Server
from tests.database_servers import MariaServer

SHM = Path("/dev/shm")


@dataclass
class Stage:
    """The place and the measure of a run."""

    folder: Path
    size_mib: int
    repeats: int
    quick: bool
    stack: ExitStack  # ends what was started
    _database: MariaServer | None = field(default=None, init=False)

    def database(self) -> str:
        """Return the URL of an empty database on the run's MariaDB."""
        if self._database is None:
            self._database = MariaServer(self.folder / "mariadb")
            self.stack.callback(self._database.stop)
        return self._database.make_database(f"b{uuid.uuid4().hex}")

    def source(self, mib: int) -> Path:
        """Return a file of random bytes in memory, so that reading it costs nothing."""
        path = self._memory / f"source-{mib}"
        if not path.exists():
            blocks = [random.randbytes(1 << 20) for _ in range(min(mib, 64))]
            with path.open("wb", buffering=0) as file:
                for number in range(mib):
                    file.write(blocks[number % len(blocks)])
        return path

    @property
    def _memory(self) -> Path:
        if not SHM.is_dir():
            return self.folder
        path = SHM / self.folder.name
        if not path.exists():
            path.mkdir()
            self.stack.callback(shutil.rmtree, path)
        return path

    @contextmanager
    def glances(self, glance: peers.Glance) -> Iterator[list[Server]]:
        """Run a Glance under each of its two servers."""
        with ExitStack() as stack:
            yield [stack.enter_context(copy.copy(glance).running(under)) for under in ("uWSGI", "gunicorn")]

    def say(self, what: str) -> None:
        if sys.stderr.isatty() or os.environ.get("BENCH_VERBOSE"):
            print(f"… {what}", file=sys.stderr, flush=True)


def fastest(servers: list[Server], probe: Callable[[Server], float]) -> Server:
    """Return the server whose probe, a speed, is highest."""
    speeds = {server.name: probe(server) for server in servers}
    return max(servers, key=lambda server: speeds[server.name])
