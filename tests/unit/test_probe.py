"""The KVM probe tells the truth: its guest is run, here under emulation."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from novalite.virt import probe

QEMU = shutil.which("qemu-system-x86_64")
pytestmark = [pytest.mark.libvirt, pytest.mark.skipif(QEMU is None, reason="QEMU isn't installed")]


def test_the_boot_sector_is_one() -> None:
    sector = probe.boot_sector()
    assert len(sector) == 512
    assert sector[-2:] == b"\x55\xaa"


@pytest.mark.parametrize("cpu", ["qemu64", "max"])
def test_the_guest_passes_where_guests_run_well(cpu: str) -> None:
    assert probe.run_guest(QEMU or "", "tcg", cpu) == ""


def test_a_guest_that_is_interpreted_fails_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # emulation that is allowed a fraction of what it needs is as slow as a bad KVM
    monkeypatch.setattr(probe, "CPU_SECONDS", 0.01)
    started = time.monotonic()
    why = probe.run_guest(QEMU or "", "tcg", "max")
    assert "too slow or stuck at:" in why
    assert time.monotonic() - started < 60


def test_a_qemu_that_fails_is_quoted() -> None:
    why = probe.run_guest(QEMU or "", "no-such-accelerator", "max")
    assert "qemu ended with status 1" in why
    assert "no-such-accelerator" in why
    assert "can't be run" in probe.run_guest("/nonexistent/qemu", "tcg", "max")


def test_a_missing_device_is_told_without_running_anything(tmp_path: Path) -> None:
    verdict = probe.probe_kvm("/nonexistent/qemu", tmp_path, device=tmp_path / "kvm")
    assert not verdict.works
    assert str(tmp_path / "kvm") in verdict.reason


def pretender(folder: Path, *, accelerator: str) -> str:
    """Return a qemu that runs the probe's guests under an accelerator of our choice."""
    script = folder / "qemu"
    script.write_text(
        f"#!/bin/sh\necho run >>{folder}/runs\n"
        f'[ "$1" = --version ] || {{ shift 2; set -- -accel {accelerator} "$@"; }}\n'
        f'exec {QEMU} "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def test_the_verdict_is_kept_and_probed_anew_when_torn(tmp_path: Path) -> None:
    # "host" is no model of an emulated CPU, so the second model is the one that passes
    qemu = pretender(tmp_path, accelerator="tcg")
    device = tmp_path / "kvm"
    device.touch()
    first = probe.probe_kvm(qemu, tmp_path / "state", device=device)
    assert (first.works, first.cpu) == (True, "qemu64")
    runs = (tmp_path / "runs").read_text().count("run")
    assert probe.probe_kvm(qemu, tmp_path / "state", device=device) == first
    assert (tmp_path / "runs").read_text().count("run") == runs + 1, "only its version was asked"
    kept = tmp_path / "state" / "kvm-probe.json"
    for content in ("", "[]", json.dumps({"key": "of another boot", "verdict": {}})):
        kept.write_text(content)
        again = probe.probe_kvm(qemu, tmp_path / "state", device=device)
        assert (again.works, again.cpu) == (True, "qemu64")


def test_a_state_directory_that_cant_be_written_does_no_harm(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    (tmp_path / "state").write_text("a file")
    verdict = probe.probe_kvm(pretender(tmp_path, accelerator="nope"), tmp_path / "state", device=device)
    assert not verdict.works
    assert "nope" in verdict.reason


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="there is no /dev/kvm of ours")
def test_this_machines_kvm_gets_a_verdict(tmp_path: Path) -> None:
    started = time.monotonic()
    verdict = probe.probe_kvm(QEMU or "", tmp_path)
    assert verdict.reason
    assert verdict.works == bool(verdict.cpu)
    assert time.monotonic() - started < 60
