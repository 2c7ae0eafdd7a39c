"""What travels when a guest moves as it runs, seen on the wire: openly or not, to whom, for how long."""

from __future__ import annotations

import ctypes
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from novalite.errors import HypervisorDown, MigrationTimedOut
from novalite.quickstart.libvirtd import Hypervisor, start_private
from novalite.virt.base import Arrival, BaseImage, InstanceSpec, PowerState
from novalite.virt.libvirt import LibvirtDriver
from tests.certificates import Authority
from tests.libvirt_fixtures import TINY_MARKER, make_driver, make_spec, writing_disk
from tests.waiting import wait_for

pytestmark = pytest.mark.libvirt
#: An address of the loopback that nothing else here is at.
ADDRESS = "127.0.7.2"
TLS = {"live_migration_with_native_tls": True}
HANDSHAKE = b"\x16\x03"  # the head of a TLS record
SO_ATTACH_FILTER, SO_RCVBUFFORCE, ETH_P_IP = 26, 33, 0x0800
STARTTLS = b"IHAVEOPT\0\0\0\x05\0\0\0\0"  # of an NBD client, openly by its protocol


@dataclass
class Pair:
    """Two hosts with certificates of one authority, and an authority that they don't know."""

    east: LibvirtDriver
    west: LibvirtDriver
    right: Authority
    wrong: Authority
    certificates: dict[str, Path]

    def equip(self, host: str, by: Authority, **further: Any) -> None:
        by.equip_qemu(self.certificates[host], host, ADDRESS, "::1", **further)

    def guest(self, base: BaseImage) -> InstanceSpec:
        """Start a guest in the east, and return it when it runs."""
        spec = make_spec(base)
        self.east.spawn(spec)
        wait_for("it boots", lambda: TINY_MARKER in self.east.console_log(spec.id))
        return spec


@pytest.fixture(scope="module")
def libvirtds(
    private_libvirtd: Hypervisor, qemu_certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, Hypervisor], dict[str, Path]]]:
    if "socket=" not in private_libvirtd.uri:
        pytest.skip("a second libvirtd needs root")
    west = tmp_path_factory.mktemp("west")
    short = Path(private_libvirtd.uri.partition("socket=")[2]).parents[2] / "west"
    with start_private(short, name="west", certificates=west) as second:
        yield {"east": private_libvirtd, "west": second}, {"east": qemu_certificates, "west": west}


@pytest.fixture
def pair(libvirtds: tuple[dict[str, Hypervisor], dict[str, Path]], tmp_path: Path) -> Iterator[Pair]:
    hypervisors, certificates = libvirtds
    drivers = {
        host: make_driver(
            each,
            tmp_path / host,
            live_migration_inbound_uri=each.uri,
            live_migration_inbound_addr=ADDRESS,
        )
        for host, each in hypervisors.items()
    }
    made = Pair(
        **drivers,
        right=Authority(tmp_path, "right"),
        wrong=Authority(tmp_path, "wrong"),
        certificates=certificates,
    )
    for host, driver in drivers.items():
        driver.open()
        made.equip(host, made.right)
    yield made
    for driver in drivers.values():
        for instance_id in driver.list_states():
            driver.destroy(instance_id)
        driver.close()


@dataclass
class Wire:
    """What clients sent to ADDRESS by port, and the addresses that were listened at on these ports."""

    sent: dict[int, bytearray] = field(default_factory=dict)
    _listeners: set[tuple[str, int]] = field(default_factory=set)

    @property
    def addresses(self) -> dict[int, set[str]]:
        return {each: {address for address, port in self._listeners if port == each} for each in self.sent}

    def stream(self, head: bytes) -> bytes:
        """Return the one stream with ``head`` at its very begin, or behind the 4 bytes of an NBD client."""
        (found,) = [bytes(each) for each in self.sent.values() if head in each[: len(head) + 4]]
        return found

    def take(self, packet: bytes) -> None:
        """Keep the data of a packet that came to ADDRESS."""
        if packet[9] != socket.IPPROTO_TCP:
            return
        if not self.sent:  # the disk's first: both of QEMU's ports are listened at
            self._look()
        tcp = packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4])]
        (port,) = struct.unpack_from("!H", tcp, 2)
        self.sent.setdefault(port, bytearray()).extend(tcp[(tcp[12] >> 4) * 4 :])

    def _look(self) -> None:
        for path in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(path).read_text().splitlines():
                if " 0A " in line:  # it listens
                    address, _, port = line.split()[1].partition(":")
                    self._listeners.add((address, int(port, 16)))


def as_kernel(address: str) -> str:
    """Return an address as /proc/net/tcp has it."""
    return socket.inet_aton(address)[::-1].hex().upper()


@contextmanager
def listening_in() -> Iterator[Wire]:
    """See all that passes over the loopback to ADDRESS while the block runs."""
    wire, done = Wire(), threading.Event()
    wanted = int.from_bytes(socket.inet_aton(ADDRESS))
    # The kernel's filter: where IPv4's target is the one wanted the whole packet, else nothing.
    program = [(0x20, 0, 0, 16), (0x15, 0, 1, wanted), (0x06, 0, 0, 1 << 18), (0x06, 0, 0, 0)]
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as tap:
        told = struct.pack("HL", len(program), ctypes.addressof(filters))
        tap.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, told)
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)  # nothing is dropped
        tap.bind(("lo", ETH_P_IP))
        tap.settimeout(0.1)

        def run() -> None:
            while True:
                try:
                    packet, (_, _, kind, *_) = tap.recvfrom(1 << 17)
                except TimeoutError:
                    if done.is_set():
                        return
                else:
                    if kind != socket.PACKET_OUTGOING:  # each is seen twice
                        wire.take(packet)

        reader = threading.Thread(target=run, name="wire", daemon=True)
        reader.start()
        try:
            yield wire
        finally:
            done.set()
            reader.join()


def send(source: LibvirtDriver, target: LibvirtDriver, spec: InstanceSpec, **settings: Any) -> Wire:
    """Have a guest go from one to the other, and return what was seen of it."""
    before = dict(source.settings)
    source.settings.update(settings)  # type: ignore[attr-defined]
    try:
        left = source.departure(spec.id)
        arrival = target.make_ready(spec, left.virtual_size, left.config_drive)
        with listening_in() as wire:
            source.send(spec.id, arrival, lambda: None, lambda: False)
    finally:
        source.settings.update(before)  # type: ignore[attr-defined]
    assert source.list_states() == {}
    assert target.list_states() == {spec.id: PowerState.RUNNING}
    return wire


def test_memory_and_disk_are_encrypted_when_told_so_and_go_to_one_address(
    pair: Pair, tiny_base: BaseImage
) -> None:
    spec = pair.guest(tiny_base)
    # What the guest prints is in its memory as well as on its disk.
    wire = send(pair.east, pair.west, spec)
    assert all(TINY_MARKER in each for each in wire.sent.values())
    assert wire.stream(b"QEVM")
    assert wire.stream(b"IHAVEOPT")
    assert [*wire.addresses.values()] == [{as_kernel(ADDRESS)}] * 2
    # And back.
    wire = send(pair.west, pair.east, spec, **TLS)
    memory, disk = wire.stream(HANDSHAKE), wire.stream(b"IHAVEOPT")
    assert len(wire.sent) == 2
    assert disk[4 : 4 + len(STARTTLS)] == STARTTLS
    assert disk[4 + len(STARTTLS) :].startswith(HANDSHAKE)
    assert len(disk) > tiny_base.virtual_size
    assert len(memory) > 100_000
    for stream in (memory, disk):
        assert TINY_MARKER not in stream
        assert b"QEVM" not in stream
    # An address with colons is one, too.
    pair.west.settings["live_migration_inbound_addr"] = "::1"  # type: ignore[index]
    send(pair.east, pair.west, spec, **TLS)


def test_a_guest_goes_to_and_comes_from_hosts_of_its_authority_alone(
    pair: Pair, tiny_base: BaseImage
) -> None:
    spec = pair.guest(tiny_base)

    def refused() -> str:
        left = pair.east.departure(spec.id)
        arrival = pair.west.make_ready(spec, left.virtual_size, left.config_drive)
        pair.east.settings.update(TLS)  # type: ignore[attr-defined]
        with (
            listening_in() as wire,
            pytest.raises(HypervisorDown, match="migrate_tls_x509_cert_dir") as caught,
        ):
            pair.east.send(spec.id, arrival, lambda: None, lambda: False)
        assert not any(TINY_MARKER in each for each in wire.sent.values())
        assert pair.east.list_states() == {spec.id: PowerState.RUNNING}
        assert pair.west.list_states() == {}
        return str(caught.value)

    pair.equip("west", pair.wrong)
    assert "The certificate hasn't got a known issuer" in refused()
    # One that trusts its new host, which doesn't trust it.
    pair.equip("west", pair.right)
    pair.equip("east", pair.wrong, trusted=pair.right)
    assert "TLS channel" in refused()
    # None at all is no way to go openly.
    (pair.certificates["west"] / "server-key.pem").unlink()
    assert "server-key.pem" in refused()


SENDER = """
import json, sys
from novalite.virt.base import Arrival
from novalite.virt.libvirt import LibvirtDriver
told = json.loads(sys.argv[1])
driver = LibvirtDriver(told["settings"])
driver.open()
driver.send(told["id"], Arrival(**told["arrival"]), lambda: None, lambda: False)
"""


def begun_by_a_killed_process(driver: LibvirtDriver, spec: InstanceSpec, arrival: Arrival) -> None:
    """Have a process send a guest, and kill it when libvirtd is at it."""
    told = {"settings": {**driver.settings}, "id": spec.id, "arrival": asdict(arrival)}
    with subprocess.Popen([sys.executable, "-c", SENDER, json.dumps(told)]) as sender:
        wait_for("it is being sent", lambda: driver.diagnostics(spec.id).sent)
        sender.kill()


def test_a_guest_that_writes_faster_than_it_is_sent_comes_to_an_end(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "writing.raw"
    path.write_bytes(writing_disk())
    spec = pair.guest(BaseImage(path, "raw", path.stat().st_size))
    pair.east.settings.update(  # type: ignore[attr-defined]
        live_migration_bandwidth=1, live_migration_downtime=100, live_migration_completion_timeout=1
    )
    left = pair.east.departure(spec.id)
    arrival = pair.west.make_ready(spec, left.virtual_size, left.config_drive)
    begun_by_a_killed_process(pair.east, spec, arrival)
    with pytest.raises(MigrationTimedOut, match="isn't on its new host after 4 s, and stays"):
        pair.east.send(spec.id, arrival, lambda: None, lambda: False)
    assert pair.east.list_states() == {spec.id: PowerState.RUNNING}
    assert pair.west.list_states() == {}
    send(pair.east, pair.west, spec, live_migration_timeout_action="force_complete")
