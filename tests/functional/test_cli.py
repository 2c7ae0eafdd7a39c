"""The ``glancelike`` command, on a server and on its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tests.server_fixtures import PASSWORD, Server, start, write_config, write_users

BIN = Path(sys.executable).parent
DATA = os.urandom(1_500_000)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("cli"), upgrade=False)


def call(*words: str, check: bool = True, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLANCELIKE_")}
    environment.update(kwargs.pop("env", {}), COLUMNS="200")
    done = warm.run([str(BIN / "glancelike"), *words], env=environment, **kwargs)
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module", params=["embedded", "server"])
def run(request: pytest.FixtureRequest, config_file: Path) -> Any:
    """The command on the configured service, and on a server over HTTP."""
    call("--config-file", str(config_file), "db", "upgrade")
    if request.param == "embedded":
        yield lambda *words, **kwargs: call("--config-file", str(config_file), *words, **kwargs)
        return
    server = start(config_file)
    yield lambda *words, **kwargs: call("--url", server.url, *words, **kwargs)
    server.stop()


def test_an_images_life(run: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(DATA)
    created = json.loads(
        run(
            *("image", "create", "first", "--disk-format", "raw", "--file", str(source)),
            *("--property", "os_distro=debian", "--tag", "t", "--min-ram", "64", "--json"),
        ).stdout
    )
    assert (created["status"], created["size"], created["os_distro"]) == ("active", len(DATA), "debian")
    shown = json.loads(run("image", "show", "first", "--json").stdout)
    assert shown["id"] == created["id"]
    assert created["id"] in run("image", "list").stdout
    assert [
        each["name"] for each in json.loads(run("image", "list", "--name", "first", "--json").stdout)
    ] == ["first"]
    target.write_bytes(b"old")
    done = run("image", "save", "first", "--file", str(target))
    assert target.read_bytes() == DATA
    assert "download" in done.stderr
    run("image", "delete", "first")
    missing = run("image", "show", "first", check=False)
    assert (missing.returncode, "first" in missing.stderr) == (1, True)


def test_data_through_pipes(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(DATA)
    with source.open("rb") as data:
        run("image", "create", "piped", "--disk-format", "raw", "--file", "-", stdin=data)
    pipe = subprocess.Popen(["cat", str(source)], stdout=subprocess.PIPE)
    run("image", "create", "piped2", "--disk-format", "raw", "--file", "-", stdin=pipe.stdout)
    pipe.wait()
    assert pipe.stdout
    pipe.stdout.close()
    sizes = {each["name"]: each["size"] for each in json.loads(run("image", "list", "--json").stdout)}
    assert sizes["piped"] == sizes["piped2"] == len(DATA)
    run("image", "delete", "piped", "piped2")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("image", "create", "x", "--file", "/nope", "--disk-format", "raw"), "/nope"),
        (("image", "create", "x", "--file", "/etc/hostname"), "--disk-format"),
        (("image", "create", "x", "--property", "odd"), "KEY=VALUE"),
        (("image", "create", "x", "--disk-format", "qcow2", "--file", "/bin/ls"), "qcow2"),
        (("image", "create", "x", "--disk-format", "floppy"), "disk_format|disk format|floppy"),
        (("image", "save", "absent", "--file", "/tmp/never"), "absent"),
        (("image", "delete", "absent"), "absent"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(run: Run, words: tuple[str, ...], says: str) -> None:
    done = run(*words, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("glancelike: ")
    assert any(word in done.stderr for word in says.split("|"))
    assert "Traceback" not in done.stderr
    assert json.loads(run("image", "list", "--json").stdout) == []
    assert not Path("/tmp/never").exists()


def test_upkeep(config_file: Path) -> None:
    def here(*words: str, **kwargs: Any) -> str:
        return call("--config-file", str(config_file), *words, **kwargs).stdout

    assert "is what this version needs" in here("db", "upgrade") + here("db", "check")
    report = here("store", "check")
    assert "broken" not in report
    assert "bytes used" in here("store", "check", "disk", "--json")
    (config_file.parent / "images" / "12345678-1234-1234-1234-123456789abc-0123456789ab").write_bytes(b"lost")
    assert "0 blobs" in here("gc")
    assert "orphan disk 12345678" in here("gc", "--grace", "0", "--dry-run")
    assert "removed disk 12345678" in here("gc", "--grace", "0")
    assert "0 blobs" in here("gc", "--grace", "0")
    assert "#image_size_cap = " in here("config", "sample")
    assert '#"get_image"' in here("policy", "sample")


def test_what_stops_the_start(tmp_path: Path) -> None:
    fresh = write_config(tmp_path, upgrade=False)
    done = call("--config-file", str(fresh), "image", "list", check=False)
    assert done.returncode == 1
    assert "glancelike db upgrade" in done.stderr
    bad = tmp_path / "bad.conf"
    bad.write_text("[DEFAULT]\nbind_prot = 1\n")
    done = call("--config-file", str(bad), "image", "list", check=False)
    assert (done.returncode, "bind_prot" in done.stderr) == (2, True)


def test_a_server_that_is_not_there() -> None:
    command = [str(BIN / "glancelike"), "--url", "http://127.0.0.1:1", "image", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Connection refused" in done.stderr


def test_basic_credentials(run_server: Callable[..., Server], tmp_path: Path) -> None:
    users = write_users(tmp_path / "users")
    server = run_server(extra=f"auth_strategy = basic\nhttp_basic_auth_user_file = {users}")
    env = {"GLANCELIKE_PASSWORD": PASSWORD}
    call("--url", server.url, "--user", "alice", "image", "create", "hers", env=env)
    assert "hers" in call("--url", server.url, "--user", "alice", "image", "list", env=env).stdout
    assert "hers" not in call("--url", server.url, "--user", "bob", "image", "list", env=env).stdout
    refused = call("--url", server.url, "--user", "bob", "image", "list", env={}, check=False)
    assert (refused.returncode, "401" in refused.stderr) == (1, True)


def test_ctrl_c_during_an_upload_leaves_nothing(run_server: Callable[..., Server], tmp_path: Path) -> None:
    server = run_server()
    fifo = tmp_path / "slow"
    os.mkfifo(fifo)
    command = ["image", "create", "slow", "--disk-format", "raw", "--file", str(fifo)]
    # Who runs the tests as a shell's background job has them ignore SIGINT, and their children as well.
    default = ["env", "--default-signal=INT"]
    child = subprocess.Popen(
        [*default, str(BIN / "glancelike"), "--url", server.url, *command], stderr=subprocess.PIPE
    )
    with fifo.open("wb") as feed:
        feed.write(DATA)
        feed.flush()
        deadline = time.monotonic() + 60
        while "saving" not in call("--url", server.url, "image", "list").stdout:
            assert time.monotonic() < deadline
        child.send_signal(signal.SIGINT)
        child.wait(60)
    assert child.returncode == 130
    assert child.stderr
    child.stderr.close()
    assert json.loads(call("--url", server.url, "image", "list", "--json").stdout) == []
    deadline = time.monotonic() + 60
    while any(path.is_file() for path in (server.config_file.parent / "images").iterdir()):
        assert time.monotonic() < deadline
