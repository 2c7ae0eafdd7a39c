"""What a guest has used up so far: counters, as the hypervisor tells them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class CpuTime:
    """A virtual processor; ``time_ns`` is what it ran."""

    id: int
    time_ns: int | None = None


@dataclass(frozen=True, slots=True)
class DiskCounters:
    """A disk of the guest, by its name there; None is what the hypervisor doesn't count."""

    name: str
    read_bytes: int | None = None
    read_requests: int | None = None
    write_bytes: int | None = None
    write_requests: int | None = None
    errors: int | None = None


@dataclass(frozen=True, slots=True)
class NicCounters:
    """A network card; ``name`` is the host's end of it, empty where there is none.

    One that the hypervisor doesn't count has None for all.
    """

    mac: str
    name: str = ""
    rx_bytes: int | None = None
    rx_packets: int | None = None
    rx_errors: int | None = None
    rx_drop: int | None = None
    tx_bytes: int | None = None
    tx_packets: int | None = None
    tx_errors: int | None = None
    tx_drop: int | None = None


@dataclass(frozen=True, slots=True)
class Transfer:
    """How much of a guest has been sent to another host, in bytes; None is what isn't counted."""

    memory_total: int | None = None
    memory_processed: int | None = None
    memory_remaining: int | None = None
    disk_total: int | None = None
    disk_processed: int | None = None
    disk_remaining: int | None = None


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """A running guest's counters. Memory in KiB; ``state`` is a PowerState.

    ``driver`` is one of those that the Compute API knows.
    """

    state: str
    driver: str
    hypervisor: str
    memory_max_kib: int
    memory_used_kib: int | None = None
    cpus: tuple[CpuTime, ...] = ()
    disks: tuple[DiskCounters, ...] = ()
    nics: tuple[NicCounters, ...] = ()
    sent: Transfer | None = None  # while it is being sent

    def plain(self) -> dict[str, Any]:
        """Return it as what goes through a message queue."""
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Diagnostics:
        """Make it of what came through a message queue."""
        return cls(
            **{
                **plain,
                "cpus": tuple(CpuTime(**each) for each in plain["cpus"]),
                "disks": tuple(DiskCounters(**each) for each in plain["disks"]),
                "nics": tuple(NicCounters(**each) for each in plain["nics"]),
                "sent": Transfer(**plain["sent"]) if plain.get("sent") else None,
            }
        )


def of_libvirt(
    stats: dict[str, Any], cards: list[tuple[str, str]], job: dict[str, Any], **known: Any
) -> Diagnostics:
    """Make it of libvirt's statistics of a domain, its network cards' addresses and host's ends, and its job.

    ``job`` is empty where nothing is being done to it.
    """
    numbers = {stats.get(f"net.{n}.name"): n for n in range(int(stats.get("net.count", 0)))}
    used = stats.get("balloon.rss", stats.get("balloon.current"))
    return Diagnostics(
        memory_max_kib=int(stats.get("balloon.maximum", 0)),
        memory_used_kib=None if used is None else int(used),
        cpus=tuple(
            CpuTime(number, stats.get(f"vcpu.{number}.time"))
            for number in range(int(stats.get("vcpu.current", 0)))
        ),
        disks=tuple(
            DiskCounters(
                str(stats[f"block.{n}.name"]),
                read_bytes=stats.get(f"block.{n}.rd.bytes"),
                read_requests=stats.get(f"block.{n}.rd.reqs"),
                write_bytes=stats.get(f"block.{n}.wr.bytes"),
                write_requests=stats.get(f"block.{n}.wr.reqs"),
                errors=stats.get(f"block.{n}.errors"),
            )
            for n in range(int(stats.get("block.count", 0)))
        ),
        nics=tuple(_nic(stats, mac, name, numbers.get(name) if name else None) for mac, name in cards),
        sent=Transfer(**{each.name: job.get(each.name) for each in fields(Transfer)}) if job else None,
        **known,
    )


def _nic(stats: dict[str, Any], mac: str, name: str, number: int | None) -> NicCounters:
    if number is None:
        return NicCounters(mac, name)
    told = {
        f"{way}_{ours}": stats.get(f"net.{number}.{way}.{theirs}")
        for way in ("rx", "tx")
        for ours, theirs in (("bytes", "bytes"), ("packets", "pkts"), ("errors", "errs"), ("drop", "drop"))
    }
    return NicCounters(mac, name, **told)
