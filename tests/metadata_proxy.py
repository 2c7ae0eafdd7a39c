"""A proxy that says which server asks and signs it, as Neutron's metadata agent does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3

from novalite.api.metadata.identity import sign


@contextmanager
def signing(target: str, secret: str, server_id: str) -> Iterator[str]:
    """Pass requests on as those of a server; yields the URL to ask at."""
    http = urllib3.PoolManager(retries=False)

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            headers |= {
                "X-Forwarded-For": self.client_address[0],
                "X-Instance-ID": server_id,
                "X-Instance-ID-Signature": sign(secret.encode(), server_id),
            }
            answer = http.request(self.command, target + self.path, headers=headers)
            self.send_response(answer.status)
            for name in ("Content-Type", "X-aws-ec2-metadata-token-ttl-seconds"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(answer.data)))
            self.end_headers()
            self.wfile.write(answer.data)

        do_GET = do_PUT = _pass_on

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            http.clear()
