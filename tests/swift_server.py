"""A real Swift, with S3 in the same proxy, on free loopback ports: one replica of everything.

``python -m tests.swift_server DIRECTORY`` runs one until its standard input ends.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

USER, KEY, ACCOUNT = "test:tester", "testing", "AUTH_test"
START_SECONDS = 60.0
STOP_SECONDS = 15.0
BIN = Path(sys.executable).parent
SERVERS = ("account", "container", "object")

SWIFT = """\
[swift-hash]
swift_hash_path_suffix = test
swift_hash_path_prefix = test
[storage-policy:0]
name = Policy-0
default = yes
# Short pages: a listing of some more blobs has several.
[swift-constraints]
container_listing_limit = 120
"""
STORAGE = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {etc}
devices = {devices}
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_level = WARNING
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
PROXY = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {etc}
log_level = WARNING
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk tempurl
    {before} {auth} copy slo dlo versioned_writes symlink proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:tempurl]
use = egg:swift#tempurl
allowed_digests = sha1 sha256 sha512
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
max_bucket_listing = 100
min_segment_size = 5242880
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
user_other_stranger = stranging .admin
storage_url_scheme = http
[filter:slo]
use = egg:swift#slo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
[filter:proxy-logging]
use = egg:swift#proxy_logging
"""
PLAIN = ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk", "copy", "dlo", "symlink")
KEYSTONE = """\
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
auth_url = {url}
www_authenticate_uri = {url}
auth_type = password
project_domain_name = Default
user_domain_name = Default
project_name = service
username = image
password = {password}
delay_auth_decision = true
cache = swift.cache
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, member
reseller_prefix = AUTH
reseller_admin_role = admin
"""
RINGS = """\
import sys
from swift.common.ring import RingBuilder
for each in sys.argv[2:]:
    name, port = each.split("=")
    builder = RingBuilder(0, 1, 1)
    builder.add_dev(dict(region=1, zone=1, ip="127.0.0.1", port=int(port), replication_ip="127.0.0.1",
                         replication_port=int(port), device="d1", weight=1.0, meta=""))
    builder.rebalance()
    builder.get_ring().save(f"{sys.argv[1]}/{name}.ring.gz")
"""


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on, all of them bound until the last is found."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class SwiftServer:
    """A running Swift: ``auth_url`` for v1 auth, ``url`` for S3.

    v1: USER and KEY own ACCOUNT; the same two are S3's access and secret
    key. With ``keystone`` (url, password of the user ``image``) tokens of
    that Keystone are taken instead, and there is no S3.
    """

    def __init__(self, directory: Path, *, keystone: tuple[str, str] | None = None) -> None:
        self.directory = directory
        self._etc = directory / "etc"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        names = (*SERVERS, "proxy", "memcached")
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._configure(keystone)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ports['proxy']}"

    @property
    def auth_url(self) -> str:
        return f"{self.url}/auth/v1.0"

    def _configure(self, keystone: tuple[str, str] | None) -> None:
        self._etc.mkdir(parents=True)
        (self.directory / "devices" / "d1").mkdir(parents=True)
        user = os.environ.get("USER") or "root"
        common = {"user": user, "etc": self._etc, "devices": self.directory / "devices"}
        (self._etc / "swift.conf").write_text(SWIFT)
        for name in SERVERS:
            text = STORAGE.format(name=name, port=self._ports[name], **common)
            (self._etc / f"{name}.conf").write_text(text)
        auth = ["s3api", "tempauth"] if keystone is None else ["authtoken", "keystoneauth"]
        text = PROXY.format(
            port=self._ports["proxy"],
            memcached=self._ports["memcached"],
            before=auth[0],
            auth=auth[1],
            **common,
        )
        text += "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in PLAIN)
        if keystone is not None:
            text += KEYSTONE.format(url=keystone[0], password=keystone[1])
        (self._etc / "proxy.conf").write_text(text)
        rings = [f"{name}={self._ports[name]}" for name in SERVERS]
        subprocess.run(
            [sys.executable, "-c", RINGS, str(self._etc), *rings], check=True, capture_output=True, timeout=60
        )

    def start(self) -> None:
        """Start what isn't running, on the same ports, and wait until it answers."""
        memcached = shutil.which("memcached")
        assert memcached is not None, "memcached isn't installed"
        as_user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._run(
            "memcached",
            memcached,
            "-l",
            "127.0.0.1",
            "-p",
            str(self._ports["memcached"]),
            "-U",
            "0",
            "-m",
            "16",
            *as_user,
        )
        for name in (*SERVERS, "proxy"):
            self._run(name, str(BIN / f"swift-{name}-server"), str(self._etc / f"{name}.conf"), "-v")
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, self.logs()
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} ended: {self.logs()}"
            time.sleep(0.1)

    def _run(self, name: str, *command: str) -> None:
        if name in self._processes:
            return
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory
            )

    def _answers(self) -> bool:
        ready = [self._open(f"{self.url}/healthcheck")]
        ready += [self._open(f"http://127.0.0.1:{self._ports[name]}/healthcheck") for name in SERVERS]
        return all(ready)

    @staticmethod
    def _open(url: str) -> bool:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def kill(self, *names: str) -> None:
        """Kill servers by SIGKILL (``proxy``, ``object``, …), all if none is named; see ``start``."""
        for name in names or tuple(self._processes):
            process = self._processes.pop(name)
            process.kill()
            process.wait()

    def forget(self, token: str) -> None:
        """Have the proxy refuse a token of v1 authentication that it has given."""
        key = hashlib.md5(f"AUTH_/token/{token}".encode(), usedforsecurity=False).hexdigest()
        with socket.create_connection(("127.0.0.1", self._ports["memcached"]), 5) as connection:
            connection.sendall(f"delete {key}\r\n".encode())
            assert connection.recv(64) == b"DELETED\r\n", "the proxy knows no such token"

    def stop(self) -> None:
        """End all servers by their pids."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            if process.poll() is None:
                process.kill()
                process.wait()
        self._processes.clear()

    def logs(self) -> str:
        """Return what the servers have written."""
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in self.directory.glob("*.log"))


def main() -> None:
    server = SwiftServer(Path(sys.argv[1]))
    print(server.url, flush=True)
    try:
        sys.stdin.read()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
