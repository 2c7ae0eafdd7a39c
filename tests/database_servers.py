"""A real PostgreSQL and a real MariaDB on free loopback ports, made to be killed and paused.

``python -m tests.database_servers postgresql|mariadb DIRECTORY`` runs one until its standard input ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import sqlalchemy as sa

from tests.processes import Breakable, freeze
from tests.swift_server import free_ports

START_SECONDS = 60.0
STOP_SECONDS = 20.0
USER, PASSWORD = "app", "s3cret-pw"
POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")
NOBODY = 65534
# A killed process must keep what it has committed, so each commit is written;
# that it is on the disk matters to a machine that is killed only.
POSTGRES = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
}
MARIA = {
    "bind-address": "127.0.0.1",
    "skip-name-resolve": "1",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "32M",
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-flush-method": "nosync",
    "skip-log-bin": "1",
    "performance-schema": "off",
    "max-connections": "200",
}
MARIA_USERS = f"""\
CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
GRANT ALL ON *.* TO '{USER}'@'127.0.0.1' WITH GRANT OPTION;
"""


class DatabaseServer(Breakable):
    """A running server: ``url`` of a database; USER, with PASSWORD, may do everything.

    What has been committed survives ``kill``. ``options`` are the server's
    own settings, over those that the class sets.
    """

    name: ClassVar[str]
    driver: ClassVar[str]
    first: ClassVar[str]  # a database that is always there

    def __init__(self, directory: Path, options: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(directory)
        self.options = dict(options)
        (self.port,) = free_ports(1)
        directory.mkdir(parents=True, exist_ok=True)
        self._make()
        try:
            self.start()
        except BaseException:
            self.kill()
            raise

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """Tell why there can be no server here, None when there can."""

    @abstractmethod
    def _make(self) -> None:
        """Make what the server needs on disk."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command line of the server."""

    def url(self, database: str) -> str:
        """Return the URL of a database, there or not."""
        return f"{self.driver}://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def make_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @abstractmethod
    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""

    def execute(self, statement: str, database: str | None = None) -> list[Any]:
        """Run one statement outside of any transaction; return its rows."""
        engine = sa.create_engine(
            self.url(database or self.first), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            done = connection.exec_driver_sql(statement)
            return list(done) if done.returns_rows else []

    def start(self) -> None:
        """Start the server on its port and wait until it serves."""
        with (self.directory / "out").open("ab") as out:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.directory
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self._process.poll() is None, f"the server ended: {self.log()}"
            try:
                self.execute("SELECT 1")
                return
            except sa.exc.OperationalError:
                assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def stop(self) -> None:
        """End the server by its pid."""
        process = self._process
        if process is None:
            return
        process.send_signal(self._stop_signal())
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        self.kill()

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM

    def kill(self) -> None:
        """Kill the server, all of its processes, as a power cut would."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            for pid in freeze(process.pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()


class PostgresServer(DatabaseServer):
    """A running PostgreSQL, which won't run as root: it runs as nobody then."""

    name = "postgresql"
    driver = "postgresql+psycopg"
    first = "postgres"

    @classmethod
    def missing(cls) -> str | None:
        return None if (POSTGRES_BIN / "initdb").exists() else f"no PostgreSQL in {POSTGRES_BIN}"

    def _make(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.directory, NOBODY, NOBODY)
        options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        command = self._unprivileged("initdb", "-D", str(self.directory / "data"), *options)
        subprocess.run(command, check=True, capture_output=True, cwd=self.directory, timeout=START_SECONDS)

    def _command(self) -> list[str]:
        options = {**POSTGRES, "port": str(self.port), **self.options}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return self._unprivileged("postgres", "-D", str(self.directory / "data"), *words)

    def drop_database(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGINT  # doesn't wait for clients

    @staticmethod
    def _unprivileged(program: str, *words: str) -> list[str]:
        command = [str(POSTGRES_BIN / program), *words]
        if os.geteuid() != 0:
            return command
        # The directories above, made for root, have to be passed.
        passing = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *passing, *command]


class MariaServer(DatabaseServer):
    """A running MariaDB."""

    name = "mariadb"
    driver = "mysql+pymysql"
    first = "mysql"

    @classmethod
    def missing(cls) -> str | None:
        absent = [each for each in ("mariadbd", "mariadb-install-db") if shutil.which(each) is None]
        return f"{', '.join(absent)} not installed" if absent else None

    def _make(self) -> None:
        (self.directory / "users.sql").write_text(MARIA_USERS)
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        subprocess.run(
            ["mariadb-install-db", *self._common(), *options],
            check=True,
            capture_output=True,
            timeout=START_SECONDS,
        )

    def _common(self) -> list[str]:
        settings = {name: value for name, value in MARIA.items() if name.startswith("innodb-")}
        as_root = ["--user=root"] if os.geteuid() == 0 else []
        return [
            "--no-defaults",
            f"--datadir={self.directory / 'data'}",
            *as_root,
            *(f"--{name}={value}" for name, value in settings.items()),
        ]

    def _command(self) -> list[str]:
        options = {
            **MARIA,
            "port": str(self.port),
            "socket": "s",
            "pid-file": str(self.directory / "pid"),
            "init-file": str(self.directory / "users.sql"),
            **self.options,
        }
        return ["mariadbd", *self._common(), *(f"--{name}={value}" for name, value in options.items())]

    def drop_database(self, name: str) -> None:
        for row in self.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"):
            with suppress(sa.exc.OperationalError):  # gone by now
                self.execute(f"KILL {row.id}")
        self.execute(f"DROP DATABASE IF EXISTS {name}")


SERVERS: tuple[type[DatabaseServer], ...] = (PostgresServer, MariaServer)


def main() -> None:
    kinds = {kind.name: kind for kind in SERVERS}
    server = kinds[sys.argv[1]](Path(sys.argv[2]))
    print(server.make_database("glancelike"), flush=True)
    try:
        sys.stdin.read()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
