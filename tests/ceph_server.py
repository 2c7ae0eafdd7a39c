"""A real Ceph of one monitor and one OSD on free loopback ports, and a manager if one is wanted.

``python -m tests.ceph_server DIRECTORY`` runs one until its standard input ends.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Literal

START_SECONDS = 120.0
STOP_SECONDS = 20.0
PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "rbd", "monmaptool")
DAEMONS = {"mon": "a", "osd": "0", "mgr": "x"}  # in the order in which they start
PORTS = 16  # the OSD listens on four, public and for its peers, the manager on one
MIB = 1 << 20
FIRST_PORT, LAST_PORT = 20_000, 32_000  # below those that the kernel gives to clients

CONF = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{port}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = {auth}
auth service required = {auth}
auth client required = {auth}
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon allow pool delete = true
mon data avail crit = 1
paxos propose interval = 0.02
paxos min wait = 0.01
run dir = {run}
admin socket = {run}/$name-$pid.asok
pid file = {run}/$name.pid
log file = {run}/$name.log
crash dir = {run}
mon data = {directory}/mon
osd data = {directory}/osd
mgr data = {directory}/mgr
osd objectstore = {objectstore}
osd fast shutdown = false
memstore device bytes = {size}
bluestore block size = {size}
bluestore cache autotune = false
bluestore cache size = 67108864
ms bind msgr1 = false
ms bind port min = {first}
ms bind port max = {last}
{more}
[mgr]
mgr initial modules =
[client]
keyring = {directory}/keyring
admin socket =
log file = /dev/null
"""


# What each name may do where keys are asked for.
CAPS = {
    "mon.": [("mon", "allow *")],
    "client.admin": [("mon", "allow *"), ("osd", "allow *"), ("mgr", "allow *")],
    "osd.0": [("mon", "allow profile osd"), ("mgr", "allow profile osd"), ("osd", "allow *")],
    "mgr.x": [("mon", "allow profile mgr"), ("osd", "allow *"), ("mds", "allow *")],
}


def missing(*, manager: bool = False) -> str | None:
    """Tell why there can be no server here, None when there can."""
    wanted = (*PROGRAMS, *(["ceph-mgr"] if manager else []))
    absent = [program for program in wanted if shutil.which(program) is None]
    return f"{', '.join(absent)} not installed" if absent else None


def free_range(count: int) -> int:
    """Find the first of ``count`` ports in a row that nobody listens on."""
    for first in range(FIRST_PORT + uuid.uuid4().int % 4000, LAST_PORT, count):
        try:
            with ExitStack() as stack:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports in a row")


class CephServer:
    """A running Ceph: clients need ``conf``.

    ``manager`` counts what is used and free, without which there are no
    quotas. With ``cephx`` clients need a key; ``conf`` names the keyring of
    ``client.admin``, and ``add_user`` makes others. ``size`` is of the
    OSD's memory, or of its file, which is sparse. What the OSD keeps in
    memory is gone when it has ended in another way than by SIGTERM. Options
    of ``more`` go into the configuration's global section.
    """

    def __init__(
        self,
        directory: Path,
        *,
        manager: bool = False,
        objectstore: Literal["memstore", "bluestore"] = "memstore",
        size: int = 2048 * MIB,
        cephx: bool = False,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.conf = directory / "ceph.conf"
        self._run = directory / "run"
        self._cephx = cephx
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._names = tuple(name for name in DAEMONS if manager or name != "mgr")
        for name in (*DAEMONS, "run"):
            (directory / name).mkdir(parents=True)
        port = free_range(1 + PORTS)
        fsid = str(uuid.uuid4())
        self.conf.write_text(
            CONF.format(
                fsid=fsid,
                port=port,
                first=port + 1,
                last=port + PORTS,
                run=self._run,
                directory=directory,
                auth="cephx" if cephx else "none",
                objectstore=objectstore,
                size=size,
                more="".join(f"{name} = {value}\n" for name, value in (more or {}).items()),
            )
        )
        try:
            self._make(fsid, port)
        except BaseException:
            self.stop()
            raise

    def _make(self, fsid: str, port: int) -> None:
        monmap, keyring = str(self.directory / "monmap"), self.directory / "keyring"
        self._once("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{port}]", monmap)
        keys = []
        if self._cephx:
            keyring.touch()
            for name in ("mon.", "client.admin"):
                caps = [word for who, what in CAPS[name] for word in ("--cap", who, what)]
                self._once("ceph-authtool", str(keyring), "--gen-key", "--name", name, *caps)
            keys = ["--keyring", str(keyring)]
        self._once("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, *keys)
        self.start("mon")
        osd = str(uuid.uuid4())
        self.ceph("osd", "new", osd, "0")
        for name in self._names[1:] if self._cephx else ():
            who = f"{name}.{DAEMONS[name]}"
            self.add_user(who, self.directory / name / "keyring", CAPS[who])
        self._once("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self.ceph("osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h0")
        self.start()

    def start(self, *names: str) -> None:
        """Start ``mon``, ``osd`` or ``mgr``, all if none is named, and wait until they serve."""
        before = self._booted() if "mon" in self._processes else 0
        for name in names or self._names:
            if name in self._processes:
                continue
            with (self._run / f"{name}.out").open("ab") as out:
                self._processes[name] = subprocess.Popen(
                    [f"ceph-{name}", "-c", str(self.conf), "-i", DAEMONS[name], "-f"],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    cwd=self.directory,
                )
        deadline = time.monotonic() + START_SECONDS
        while not self._serves(before):
            assert time.monotonic() < deadline, self.logs()
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} ended: {self.logs()}"
            time.sleep(0.2)

    def _serves(self, before: int) -> bool:
        """Tell whether the OSD has come up since it was last seen, and the manager counts, if they run."""
        try:
            up = self._booted() > before or "osd" not in self._processes
            return up and ("mgr" not in self._processes or self.ceph("mgr", "stat")["available"])
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False

    def _booted(self) -> int:
        """Return the map's epoch at which the OSD came up; 0 when it is down."""
        return max((osd["up_from"] * osd["up"] for osd in self.ceph("osd", "dump")["osds"]), default=0)

    def ceph(self, *words: str) -> Any:
        """Run a ``ceph`` command and return its answer, from JSON where it is some."""
        answer = self._once("ceph", "--connect-timeout", "10", "--format", "json", *words)
        with suppress(ValueError):
            return json.loads(answer)
        return answer

    def add_user(self, who: str, keyring: Path, caps: Iterable[tuple[str, str]]) -> None:
        """Give somebody a key, written to a file of its own, and the permissions of ``caps``."""
        keyring.write_text(self._once("ceph", "auth", "get-or-create", who, *chain.from_iterable(caps)))

    def rbd(self, *words: str) -> str:
        """Run an ``rbd`` command and return what it writes."""
        return self._once("rbd", *words)

    def make_pool(self, name: str) -> None:
        """Make a pool for RBD images."""
        self.ceph("osd", "pool", "create", name, "8", "8")
        self.rbd("pool", "init", name)

    def drop_pool(self, name: str) -> None:
        """Remove a pool with all that is in it."""
        self.ceph("osd", "pool", "rm", name, name, "--yes-i-really-really-mean-it")

    def _once(self, program: str, *words: str) -> str:
        done = subprocess.run(
            [program, "-c", str(self.conf), *words],
            check=True,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            cwd=self.directory,
        )
        return done.stdout

    def kill(self, name: str) -> None:
        """Kill a daemon by SIGKILL; see ``start``."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, *names: str) -> None:
        """End daemons by their pids, all if none is named: clients first, then what they need."""
        for name in names or tuple(reversed(DAEMONS)):
            process = self._processes.pop(name, None)
            if process is None:
                continue
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            if process.poll() is None:
                process.kill()
                process.wait()

    def logs(self) -> str:
        """Return the ends of what the daemons have written."""
        files = [*self._run.glob("*.out"), *self._run.glob("*.log")]
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in files)


def main() -> None:
    server = CephServer(Path(sys.argv[1]))
    print(server.conf, flush=True)
    try:
        sys.stdin.read()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
