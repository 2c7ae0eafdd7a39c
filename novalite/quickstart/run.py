"""Serve an image and boot it: the whole way, on one machine, for real.

Starts the image API and the all-in-one compute on loopback, builds a small
guest from the distribution's packages, uploads it, boots it and follows its
serial console until the guest itself says which instance it is.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from novalite.errors import ConfigError, NovaliteError
from novalite.quickstart import guest_image, libvirtd, metadata_address
from novalite.quickstart.cloud import Cloud
from novalite.quickstart.processes import QuickstartError, check_port_free

OUT = Console(highlight=False)
NAME = "quickstart"
MARKER = re.compile(r"NOVALITE-GUEST instance-id=(?P<id>\S+) name=(?P<name>\S+)")
READY = "NOVALITE-GUEST ready"
ASKED = "NOVALITE-GUEST metadata-service"
# The longest path of a unix socket is 107 bytes, and libvirt adds some.
LONGEST_STATE = 70


class Interrupted(Exception):
    """Somebody asked us to end."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run; return 0, or 1 when the guest did not come up."""
    arguments = _arguments(argv)
    logging.basicConfig(format="    %(message)s")
    logging.getLogger("novalite.quickstart").setLevel(logging.INFO)  # which libvirt, and why
    _raise_on(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        with ExitStack() as stack:
            _run(arguments, stack)
    except Interrupted:
        OUT.print("stopped: nothing is left running")
        return 0 if arguments.served else 130
    except NovaliteError as error:
        OUT.print(f"quickstart: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make run", description="Serve an image and boot it.")
    parser.add_argument("--once", action="store_true", help="end when the guest has come up")
    parser.add_argument(
        "--state", type=Path, default=Path("var"), help="directory for all state (%(default)s)"
    )
    parser.add_argument("--image-port", type=int, default=9292, help="of the image API (%(default)s)")
    parser.add_argument("--compute-port", type=int, default=8774, help="of the compute API (%(default)s)")
    parser.add_argument("--console-port", type=int, default=6083, help="of serial consoles (%(default)s)")
    parser.add_argument("--libvirt-uri", default="", help="use this libvirt, and no other")
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds for the boot (%(default)s)")
    arguments = parser.parse_args(argv)
    arguments.served = False
    return arguments


def _raise_on(*signals: signal.Signals) -> None:
    def handler(number: int, _frame: FrameType | None) -> None:
        # A second one must not break off the cleaning up.
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name)

    for each in signals:
        signal.signal(each, handler)


class Steps:
    """Tells what is done and how long it took."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.times: list[tuple[str, float]] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        OUT.print(f"[bold]==>[/] {what} …")
        yield
        self.times.append((what, time.monotonic() - began))


def _run(arguments: argparse.Namespace, stack: ExitStack) -> None:
    steps = Steps()
    state: Path = arguments.state.absolute()
    _claim(state, stack)
    check_port_free(arguments.image_port, "image API", "--image-port")
    check_port_free(arguments.compute_port, "compute API", "--compute-port")
    check_port_free(arguments.console_port, "serial consoles", "--console-port")
    cloud = Cloud(state, arguments.image_port, arguments.compute_port, arguments.console_port)

    with steps.step("building a guest from the distribution's kernel and busybox"):
        image = guest_image.build(state / "cache", lambda line: OUT.print(f"    [dim]{line}[/]"))
    with steps.step("finding a libvirt, or starting one"):
        hypervisor = libvirtd.choose(_libvirt_state(state), uri=arguments.libvirt_uri, place=state)
        stack.callback(hypervisor.stop)
    with steps.step("starting the image API and the compute"):
        metadata = _offer_metadata(stack)
        stack.callback(cloud.stop)
        cloud.start(hypervisor.uri, metadata=metadata)
    made: dict[str, str | None] = {"server": None, "image": None}
    stack.callback(_remove, cloud, made)
    with steps.step("uploading it through the image API"):
        record = cloud.upload(image, NAME)
        made["image"] = record["id"]
        _verify(image, record)
    with steps.step("booting it, to its own word on the serial console"):
        server_id = made["server"] = cloud.boot(NAME, str(record["id"]))
        _follow(cloud, server_id, arguments.timeout, asks=metadata)
    _report(cloud, steps, server_id, str(record["id"]), hypervisor.uri, state)
    arguments.served = True
    if not arguments.once:
        OUT.print("Ctrl-C ends everything and removes the demonstration.")
    while not arguments.once:
        cloud.check()
        time.sleep(0.5)


def _claim(state: Path, stack: ExitStack) -> None:
    """Make the state directory ours alone."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context((state / "quickstart.lock").open("a+"))
    except OSError as error:
        raise ConfigError(f"--state {state} can't be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        raise ConfigError(
            f"{state} is in use by another quickstart (process {lock.read().strip()}): "
            f"choose another with --state"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()


def _libvirt_state(state: Path) -> Path:
    """Keep libvirt's sockets where their paths are short enough."""
    own = state / "libvirt"
    if len(os.fsencode(own)) <= LONGEST_STATE:
        return own
    return Path(tempfile.gettempdir()) / f"novalite-{hashlib.sha256(os.fsencode(own)).hexdigest()[:12]}"


def _verify(image: Path, record: dict[str, object]) -> None:
    """Compare the digest the service computed with the file's own."""
    with image.open("rb") as file:
        digest = hashlib.file_digest(file, str(record["os_hash_algo"])).hexdigest()
    if digest != record["os_hash_value"]:
        raise QuickstartError(f"the image service has {record['os_hash_value']}, the file {digest}")


def _offer_metadata(stack: ExitStack) -> bool:
    """Have 169.254.169.254 here where that disturbs nobody; the config drive is there anyway."""
    if why_not := metadata_address.hindrance():
        OUT.print(f"    [dim]no metadata service for guests: {why_not}[/]")
        return False
    stack.callback(metadata_address.give_back)
    metadata_address.take()
    return True


def _follow(cloud: Cloud, server_id: str, seconds: float, *, asks: bool) -> None:
    """Print the console until the guest has said who it is, rightly, and is ready.

    One that ``asks`` the metadata service has to have got the same answer there.
    """
    told = ready = False
    for line in cloud.follow(server_id, seconds):
        OUT.print(f"    [dim]{line.rstrip()}[/]" if line.strip() else "", markup=True)
        found = MARKER.search(line)
        if found:
            if (found["id"], found["name"]) != (server_id, NAME):
                raise QuickstartError(f"the guest says it is {found[0]}, but it is {server_id} {NAME}")
            told = True
        ready = ready or READY in line
        asks = asks and ASKED not in line
        if told and ready and not asks:
            return


def _remove(cloud: Cloud, made: dict[str, str | None]) -> None:
    try:
        cloud.remove(made["server"], made["image"])
    except NovaliteError as error:
        OUT.print(f"quickstart: the demonstration could not be removed: {error}", markup=False)


def _report(cloud: Cloud, steps: Steps, server_id: str, image_id: str, uri: str, state: Path) -> None:
    table = Table("What", "Seconds", box=None)
    for what, seconds in steps.times:
        table.add_row(what, f"{seconds:.1f}")
    table.add_row("all", f"{time.monotonic() - steps.began:.1f}")
    OUT.print(table)
    bin_dir = Path(sys.executable).parent
    OUT.print(
        f"\n[bold green]The guest is up and knows itself:[/] instance {server_id}, image {image_id}\n\n"
        f"image API    {cloud.image_url}\n"
        f"compute API  {cloud.compute_url}\n"
        f"libvirt      {uri}\n\n"
        f"Try next (in another shell):\n"
        f"  export PATH={bin_dir}:$PATH OS_CLIENT_CONFIG_FILE={state}/clouds.yaml OS_CLOUD=quickstart\n"
        f"  glancelike --url {cloud.image_url} image list\n"
        f"  virsh -c '{uri}' list\n"
        f"  pip install python-openstackclient\n"
        f"  openstack server show {NAME}\n"
        f"  openstack console log show {NAME}\n"
        f"  novalite console $(openstack console url show --serial -c url -f value {NAME})\n\n"
        f"Logs are in {state}/log.",
        soft_wrap=True,
    )
