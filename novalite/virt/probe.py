"""Find out by trying whether KVM runs guests at the speed they need.

A ``/dev/kvm`` that opens proves little: some nested hypervisors offer one and
then interpret every instruction of a guest's kernel, a thousand times too
slow, so that a stock kernel looks hung. The probe therefore runs a guest: a
boot sector that enters long mode, takes a page fault and timer interrupts and
counts through a loop which costs a processor a hundredth of a second and an
interpreter most of a minute. It is run as the driver would run a real guest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import selectors
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

LOG = logging.getLogger(__name__)

#: Processor seconds qemu may use, firmware included. Working KVM and TCG need
#: about a quarter of a second, on a busy host too: wall time would not tell.
CPU_SECONDS = 1.5
#: Wall seconds after which a guest that uses no processor is stuck.
WALL_SECONDS = 20.0
#: What ``isa-debug-exit`` makes of the guest's last word: (0x2a << 1) | 1.
_PASS_STATUS = 85
#: Letter printed on the debug port when a stage is done, and the next stage.
_NEXT_STAGE = {
    b"": "firmware, long mode with paging",
    b"A": "page fault",
    b"B": "plain instructions",
    b"C": "timer interrupt",
    b"D": "power off",
}

# The guest, as a 512-byte boot sector loaded at 0x7c00: machine code beside
# what it does. 0x1000-0x3fff are page tables, 0x4000 the interrupt table.
_CODE = (
    # 16 bits: zero 0x1000-0x4fff, map the first 2 MiB one to one
    ("fa 31c0 8ed8 8ec0 8ed0 bc007c", "cli; ds = es = ss = 0; sp = 0x7c00"),
    ("ea 117c 0000", "jmp 0:0x7c11, so that cs = 0 on every BIOS"),
    ("bf0010 b90010 fc 66f3ab", "rep stosl: 0x1000 zeros at 0x1000"),
    ("66c7060010 07200000", "PML4[0] = 0x2000, present, writable, user"),
    ("66c7060020 07300000", "PDPT[0] = 0x3000"),
    ("66c7060030 87000000", "PD[0] = a 2 MiB page at 0"),
    # into long mode
    ("0f0116 287d", "lgdt [0x7d28]"),
    ("66b820000000 0f22e0", "cr4 = PAE"),
    ("66b800100000 0f22d8", "cr3 = 0x1000"),
    ("66b9800000c0 0f32 0d0001 0f30", "EFER |= LME"),
    ("66b811000080 0f22c0", "cr0 = PG | ET | PE"),
    ("ea 687c 0800", "jmp 8:0x7c68, which is 64-bit code"),
    # 64 bits: data segments, gates for the page fault and the timer
    ("b810000000 8ed8 8ec0 8ed0", "ds = es = ss = 0x10"),
    ("c70425e0400000 f57c0800", "gate 14: 8:0x7cf5"),
    ("66c70425e4400000 008e", "gate 14: present, interrupt gate"),
    ("c7042500420000 067d0800", "gate 32: 8:0x7d06"),
    ("66c7042504420000 008e", "gate 32: present, interrupt gate"),
    ("0f011c25 2e7d0000", "lidt [0x7d2e]"),
    # the timer: PIC at vector 32 with only IRQ 0 open, PIT at 1 kHz
    ("b011e620 b020e621 b004e621 b001e621 b0fee621", "PIC: ICW1-4, mask"),
    ("b034e643 b0a9e640 b004e640", "PIT: mode 2, divisor 1193"),
    ("b041e6e9", "print A"),
    ("31db c6042500002000 01", "ebx = 0; write at 2 MiB: page fault"),
    ("b042e6e9", "print B"),
    ("b9 40787d01 ffc9 75fc", "count down from 25,000,000"),
    ("b043e6e9", "print C"),
    ("fb f4 83fb0a 72fa", "sti; halt until ten ticks are counted"),
    ("b044e6e9", "print D"),
    ("b02ae6f4 ebfe", "exit with 0x2a; stay here if that fails"),
    # 0x7cf5, page fault: map the second 2 MiB, drop the error code, retry
    ("c7042508300000 87002000 4883c408 48cf", "PD[1] = page at 2 MiB; iretq"),
    # 0x7d06, timer: count, acknowledge
    ("ffc3 b020e620 48cf 6690", "ebx += 1; end of interrupt; iretq; pad"),
    # 0x7d10: descriptors - none, 64-bit code, data; 0x7d28 and 0x7d2e: pointers
    ("0000000000000000 00000000009a2000 0000000000920000", "GDT"),
    ("1700 107d0000", "GDT pointer: 24 bytes at 0x7d10"),
    ("0f02 0040000000000000", "IDT pointer: 33 gates at 0x4000"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether KVM is of use, with which CPU model, and why."""

    works: bool
    cpu: str  # qemu's name of the model that passed; empty when none did
    reason: str


def boot_sector() -> bytes:
    """Return the probe guest as a disk of one sector."""
    code = b"".join(bytes.fromhex(part) for part, _ in _CODE)
    return code.ljust(510, b"\0") + b"\x55\xaa"


def run_guest(qemu: str, accel: str, cpu: str) -> str:
    """Run the probe guest; return an empty string, or why it failed."""
    with tempfile.TemporaryDirectory(prefix="novalite-probe-") as folder:
        disk = Path(folder, "probe.raw")
        disk.write_bytes(boot_sector())
        argv = [qemu, "-accel", accel, "-cpu", cpu, "-M", "pc", "-m", "16", "-nodefaults"]
        argv += ["-no-user-config", "-display", "none", "-no-reboot", "-debugcon", "stdio"]
        argv += ["-drive", f"file={disk},format=raw,if=ide", "-device", "isa-debug-exit,iobase=0xf4"]
        try:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as exc:
            return f"{qemu} can't be run: {exc}"
        with child:
            try:
                return _watch(child)
            finally:
                child.kill()


def _watch(child: subprocess.Popen[bytes]) -> str:
    """Follow the guest through its stages until it ends or has had enough."""
    assert child.stdout is not None  # noqa: S101 - run_guest asked for both pipes
    assert child.stderr is not None  # noqa: S101
    seen = b""
    deadline = time.monotonic() + WALL_SECONDS
    with selectors.DefaultSelector() as ready:
        ready.register(child.stdout, selectors.EVENT_READ)
        while True:
            if ready.select(0.05):
                letters = os.read(child.stdout.fileno(), 64)
                if not letters:
                    break
                seen += letters
            elif time.monotonic() > deadline or _cpu_seconds(child.pid) > CPU_SECONDS:
                return f"too slow or stuck at: {_stage_after(seen)}"
    status = child.wait()
    if status == _PASS_STATUS and seen == b"ABCD":
        return ""
    told = child.stderr.read(4096).decode(errors="replace").strip().splitlines()
    return f"qemu ended with status {status} at: {_stage_after(seen)}" + (f" ({told[0]})" if told else "")


def _stage_after(seen: bytes) -> str:
    return _NEXT_STAGE.get(seen[-1:], "a stage that doesn't exist")


def _cpu_seconds(pid: int) -> float:
    """Return the processor time a child has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def probe_kvm(qemu: str, state_dir: Path, *, device: Path = Path("/dev/kvm")) -> Verdict:
    """Tell whether KVM is of use here; the verdict is kept until the next boot.

    The CPU models ``host`` and qemu's default are tried in this order, because
    one hypervisor may refuse the first and run the second well.
    """
    if os.access(device, os.R_OK | os.W_OK):
        verdict = _kept_or_tried(qemu, state_dir / "kvm-probe.json")
    else:
        verdict = Verdict(works=False, cpu="", reason=f"{device} is missing or not ours to open")
    LOG.info("KVM %s: %s", "works" if verdict.works else "is of no use", verdict.reason)
    return verdict


def _kept_or_tried(qemu: str, kept: Path) -> Verdict:
    key = _machine_key(qemu)
    verdict = _read(kept, key)
    if verdict is None:
        verdict = _try_models(qemu)
        _write(kept, key, verdict)
    return verdict


def _try_models(qemu: str, models: Sequence[str] = ("host", "qemu64")) -> Verdict:
    failures = []
    for model in models:
        started = time.monotonic()
        why = run_guest(qemu, "kvm", model)
        if not why:
            took = time.monotonic() - started
            return Verdict(
                works=True, cpu=model, reason=f"a guest ran through in {took:.2f} s, CPU model {model}"
            )
        failures.append(f"CPU model {model}: {why}")
    return Verdict(works=False, cpu="", reason="; ".join(failures))


def _machine_key(qemu: str) -> str:
    """Name everything the verdict depends on."""
    version = subprocess.run([qemu, "--version"], capture_output=True, check=False, timeout=20).stdout
    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    parts = (version, boot, platform.release().encode(), boot_sector())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _read(path: Path, key: str) -> Verdict | None:
    try:
        record = json.loads(path.read_bytes())
        return Verdict(**record["verdict"]) if record["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none yet, or torn by a crash: the probe is cheap


def _write(path: Path, key: str, verdict: Verdict) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({"key": key, "verdict": asdict(verdict)}))
        fresh.replace(path)
    except OSError as exc:
        LOG.warning("the KVM verdict can't be kept in %s: %s", path, exc)
