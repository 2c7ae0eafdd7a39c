"""A real RabbitMQ on free loopback ports, made to be killed, paused and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.processes import Breakable, children
from tests.swift_server import free_ports

START_SECONDS = 90.0
STOP_SECONDS = 20.0
# That of /usr/sbin would change the user.
BIN = Path("/usr/lib/rabbitmq/bin")
HELLO = b"AMQP\0\0\x09\x01"
CONFIG = """\
listeners.tcp.default = 127.0.0.1:{port}
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
log.file.level = warning
"""
TLS = """\
listeners.ssl.default = 127.0.0.1:{port}
ssl_options.cacertfile = {authority}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
"""


class RabbitServer(Breakable):
    """A running broker: ``url`` for oslo.messaging; what is durable survives ``kill``.

    With ``tls``, paths of the authority's certificate, the server's own and
    its key, it speaks TLS at ``tls_url`` as well. ``directory`` must be short.
    """

    def __init__(self, directory: Path, tls: tuple[Path, Path, Path] | None = None) -> None:
        super().__init__(directory)
        self.port, tls_port, distribution, self._epmd_port = free_ports(4)
        self.url = f"rabbit://guest:guest@127.0.0.1:{self.port}//"
        self.tls_url = f"rabbit://guest:guest@127.0.0.1:{tls_port}//"
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        config = CONFIG.format(port=self.port)
        if tls is not None:
            authority, certificate, key = tls
            config += TLS.format(port=tls_port, authority=authority, certificate=certificate, key=key)
        (directory / "rabbitmq.conf").write_text(config)
        (directory / "plugins").write_text("[].")
        told = {
            "NODENAME": f"r{self.port}@localhost",
            "DIST_PORT": str(distribution),
            "MNESIA_BASE": "mnesia",
            "LOG_BASE": "log",
            "PID_FILE": "pid",
            "GENERATED_CONFIG_DIR": "gen",
            "SCHEMA_DIR": "schema",
            "ENABLED_PLUGINS_FILE": "plugins",
            "CONFIG_FILE": "rabbitmq",
            "ADVANCED_CONFIG_FILE": "advanced",
            "CONF_ENV_FILE": os.devnull,
            "SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
        }
        files = {name for name in told if name.endswith(("_BASE", "_FILE", "_DIR"))} - {"CONF_ENV_FILE"}
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            **{
                f"RABBITMQ_{name}": str(directory / value) if name in files else value
                for name, value in told.items()
            },
        }
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def missing() -> str | None:
        """Tell why there can be no broker here, None when there can."""
        return None if (BIN / "rabbitmq-server").exists() else f"no RabbitMQ in {BIN}"

    def start(self) -> None:
        """Start the broker on its ports and wait until it serves."""
        with (self.directory / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [str(BIN / "rabbitmq-server")],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.directory,
                env=self._environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._serves():
            assert self._process.poll() is None, f"the broker ended: {self.log()}"
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def _serves(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.settimeout(5)
            connection.sendall(HELLO)
            return connection.recv(1) == b"\x01"
        return False

    def stop(self) -> None:
        """End the broker by its pid, and the port mapper that it has started."""
        process = self._process
        if process is not None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        self.kill()
        with suppress(FileNotFoundError):
            subprocess.run(
                ["epmd", "-port", str(self._epmd_port), "-kill"],
                env=self._environment,
                capture_output=True,
                timeout=STOP_SECONDS,
                check=False,
            )

    def kill(self) -> None:
        """Kill the broker and its helpers, as a power cut would."""
        process, self._process = self._process, None
        if process is None:
            return
        for pid in self._pids(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def _pids(self, pid: int) -> list[int]:
        try:
            below = children(pid)
        except FileNotFoundError:
            return []
        return [pid, *(each for child in below for each in self._pids(child))]
