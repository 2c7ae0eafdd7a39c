"""A web server in a process of its own that stops in the middle of a body, to be killed there.

    python -m tests.dying_store FILE SENT

It prints its port, answers each GET with the first SENT bytes of the file's
promised size, and then says nothing more until somebody kills it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._head()

    def do_GET(self) -> None:
        self._head()
        self.wfile.write(Path(sys.argv[1]).read_bytes()[: int(sys.argv[2])])
        self.wfile.flush()
        time.sleep(3600)

    def _head(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(Path(sys.argv[1]).stat().st_size))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class DyingServer:
    """The running server; ``kill`` ends it as a power cut would."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/image"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def dying_server(file: Path, sent: int) -> Iterator[DyingServer]:
    """Run the server; it is killed at the end, if it wasn't before."""
    command = [sys.executable, "-m", "tests.dying_store", str(file), str(sent)]
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ, "PYTHONPATH": root}
    )
    assert process.stdout is not None
    with process.stdout as said:
        server = DyingServer(process, int(said.readline()))
        try:
            yield server
        finally:
            server.kill()


if __name__ == "__main__":
    made = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(made.server_address[1], flush=True)
    made.serve_forever()
