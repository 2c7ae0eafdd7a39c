"""``make run``'s program, whole: it boots, and leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.waiting import wait_for

pytestmark = [pytest.mark.libvirt, pytest.mark.timeout(600)]


@pytest.fixture
def state(guest_image: Path) -> Iterator[Path]:
    """A state directory whose cache holds the built guest already."""
    folder = Path(tempfile.mkdtemp(prefix="nl-", dir="/tmp"))
    shutil.copytree(guest_image.parent, folder / "cache")
    yield folder
    assert left_running(folder) == []
    shutil.rmtree(folder)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def left_running(state: Path) -> list[str]:
    """Return the command lines of processes that have to do with the state."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(state) in words:
                found.append(f"{entry.name}: {words}")
    return found


class Quickstart:
    def __init__(
        self, state: Path, *arguments: str, ports: list[int] | None = None, within: tuple[str, ...] = ()
    ) -> None:
        self.image_port, self.compute_port, console_port = ports or free_ports(3)
        self.output = state / "output.txt"
        argv = [*within, sys.executable, "-m", "novalite.quickstart", "--state", str(state)]
        argv += ["--image-port", str(self.image_port), "--compute-port", str(self.compute_port)]
        argv += ["--console-port", str(console_port), *arguments]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "COLUMNS": "200"},
            )

    def said(self) -> str:
        return self.output.read_text()

    def wait(self, seconds: float = 400) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(60)
            raise


def demand_removed(state: Path) -> None:
    """Check that nothing is left of the demonstration's image and server."""
    assert list((state / "image" / "images").glob("*-*")) == []
    assert [p for p in (state / "compute" / "instances").iterdir() if p.name != "_base"] == []


def test_it_boots_says_so_and_ends_with_ctrl_c(state: Path) -> None:
    run = Quickstart(state)
    wait_for("the guest is up", lambda: "Ctrl-C ends" in run.said() or run.process.poll() is not None, 400)
    said = run.said()
    assert run.process.poll() is None, said
    marker = re.search(r"NOVALITE-GUEST instance-id=(\S+) name=quickstart", said)
    assert marker
    with closing(
        urllib.request.urlopen(f"http://127.0.0.1:{run.compute_port}/v2.1/servers/detail")
    ) as answer:
        assert marker[1] in answer.read().decode()
    # The commands it proposes work, as one script.
    proposed = re.findall(r"^  ((?:export|glancelike|virsh|openstack|novalite) .*)$", said, re.M)
    assert len(proposed) == 6
    (asks,) = re.findall(r"\$\((openstack console url show .*)\)", said)
    script = "\n".join(["set -eu", *proposed, asks])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert marker[0] in done.stdout
    assert "console: left" in done.stderr
    # And the guest's shell is at the other end of the console, once.
    url = done.stdout.split()[-1]
    assert talk(url, "echo is-$((6 * 7))-said\n", until="is-42-said") == (0, "console: left\n")
    assert talk(url, "", until="") == (1, "novalite: HTTP 403: the token isn't good, or not any more\n")
    # Who has removed the guest by then hears of no fault at the end.
    remove = f"openstack server delete --wait {marker[1]}"
    exports = [each for each in proposed if each.startswith("export")]
    subprocess.run(["bash", "-c", "\n".join([*exports, remove])], check=True, timeout=120)
    run.process.send_signal(signal.SIGINT)
    assert run.wait(60) == 0, run.said()
    assert "could not be removed" not in run.said()
    demand_removed(state)


def talk(url: str, typed: str, *, until: str) -> tuple[int, str]:
    """Type something on a console, and leave it when the guest has said something; tell how that ended."""
    with tempfile.NamedTemporaryFile("wb") as out:
        argv = [sys.executable, "-m", "novalite.cli", "console", url]
        console = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE, text=True)
        assert console.stdin is not None
        console.stdin.write(typed)
        console.stdin.flush()
        said = Path(out.name)
        wait_for("it is said", lambda: until in said.read_text() or console.poll() is not None)
        _, why = console.communicate()
        return console.returncode, why


def test_once_ends_by_itself_and_again(state: Path) -> None:
    run = Quickstart(state, "--once")
    assert run.wait() == 0, run.said()
    assert "The guest is up and knows itself" in run.said()
    assert left_running(state) == []
    demand_removed(state)
    # And so it does after a start in the same place that was killed.
    run = Quickstart(state)
    wait_for("booting", lambda: "SYSLINUX" in run.said() or run.process.poll() is not None, 200)
    run.process.kill()
    run.process.wait()
    wait_for("all have ended", lambda: left_running(state) == [])
    run = Quickstart(state, "--once")
    assert run.wait() == 0, run.said()
    assert "The guest is up and knows itself" in run.said()


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A network namespace: 169.254.169.254 may be somebody's here."""
    name = f"nl-{os.getpid()}"
    if os.geteuid() or not shutil.which("ip") or subprocess.run(["ip", "netns", "add", name]).returncode:
        pytest.skip("no network namespace can be made here")
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield name
    told = subprocess.run(["ip", "-n", name, "address"], capture_output=True, text=True, check=True)
    subprocess.run(["ip", "netns", "del", name], check=True)
    assert "169.254" not in told.stdout, "the address is left behind"


def test_the_guest_asks_the_metadata_service_and_is_told_the_same(state: Path, elsewhere: str) -> None:
    run = Quickstart(state, "--once", within=("ip", "netns", "exec", elsewhere))
    assert run.wait() == 0, run.said()
    assert "NOVALITE-GUEST metadata-service says the same" in run.said()


def test_a_guest_that_does_not_come_up_is_told(state: Path) -> None:
    run = Quickstart(state, "--once", "--timeout", "0.5")
    assert run.wait() == 1
    assert "did not report within" in run.said().splitlines()[-1]


@pytest.mark.parametrize("after", ["finding a libvirt", "uploading", "booting"])
def test_ctrl_c_at_any_time_leaves_nothing(state: Path, after: str) -> None:
    run = Quickstart(state)
    wait_for(after, lambda: after in run.said() or run.process.poll() is not None, 200)
    time.sleep(0.3)
    run.process.send_signal(signal.SIGINT)
    # A guest that was up by then was no less what was wanted.
    assert run.wait(60) == (0 if "Ctrl-C ends" in run.said() else 130), run.said()
    assert "Traceback" not in run.said()


def test_ports_in_use_are_told_at_once(state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        image_port, console_port = free_ports(2)
        ports = [image_port, taken.getsockname()[1], console_port]
        run = Quickstart(state, "--once", ports=ports)
        assert run.wait(60) == 1
        assert f"port {ports[1]}" in run.said()
        assert "--compute-port" in run.said()


def test_a_busy_state_directory_is_told_at_once(state: Path) -> None:
    with (state / "quickstart.lock").open("w") as other:
        other.write("4711\n")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        run = Quickstart(state, "--once")
        assert run.wait(60) == 1
    assert "in use by another quickstart (process 4711)" in run.said()
