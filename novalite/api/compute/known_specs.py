"""Extra specs of flavors that Nova knows, and what values they may have.

From 2.86 on they are checked, so that a slip is told rather than kept. What
has no name space, or one that Nova doesn't know, may be anything: it's for
the operator's own scheduler hooks. The names of standard traits are checked
by their form alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from oslo_utils import strutils

from novalite.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be: a text of a form, one of several, a number within bounds, or a truth value."""

    form: str | None = None
    among: tuple[str, ...] = ()
    number: bool = False
    least: int | None = None
    most: int | None = None
    truth: bool = False

    def refuses(self, value: str) -> str | None:
        """Say what is wrong with a value, None when nothing is."""
        if self.truth:
            return None if _is_truth(value) else "is not a valid boolean-like value"
        if self.among and value not in self.among:
            return f"is not one of: {', '.join(self.among)}"
        if self.form is not None and not re.fullmatch(self.form, value):
            return f"is not of the format '{self.form}'"
        return self._refuses_number(value) if self.number else None

    def _refuses_number(self, value: str) -> str | None:
        if not re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value):
            return "is not a valid integer value"
        number = int(value)
        if self.most is not None and number > self.most:
            return f"is greater than the max value of '{self.most}'"
        if self.least is not None and number < self.least:
            return f"is less than the min value of '{self.least}'"
        return None


def _is_truth(value: str) -> bool:
    try:
        strutils.bool_from_string(value, strict=True)
    except ValueError:
        return False
    return True


def _one_of(*values: str) -> Kind:
    return Kind(among=values)


def _all(kind: Kind, names: Iterable[str]) -> dict[str, Kind]:
    return dict.fromkeys(names, kind)


TEXT, TRUTH = Kind(), Kind(truth=True)
INTEGER, COUNT, POSITIVE = Kind(number=True), Kind(number=True, least=0), Kind(number=True, least=1)
CPUS = Kind(form=r"\^?\d+((-\d+)?(,\^?\d+(-\d+)?)?)*")
GROUP = r"[a-zA-Z0-9_-]{0,64}"
CLASSES = (
    r"(VCPU|MEMORY_MB|DISK_GB|PCI_DEVICE|SRIOV_NET_VF|NUMA_SOCKET|NUMA_CORE|NUMA_THREAD|NUMA_MEMORY_MB"
    r"|IPV4_ADDRESS|VGPU|VGPU_DISPLAY_HEAD|NET_BW_EGR_KILOBIT_PER_SEC|NET_BW_IGR_KILOBIT_PER_SEC|PCPU"
    r"|MEM_ENCRYPTION_CONTEXT|FPGA|PGPU|NET_PACKET_RATE_KILOPACKET_PER_SEC|NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC"
    r"|NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC|CUSTOM_[A-Z0-9_]+)"
)
CAPABILITIES = (
    *("id", "uuid", "service_id", "host", "vcpus", "memory_mb", "local_gb", "vcpus_used", "memory_mb_used"),
    *("local_gb_used", "hypervisor_type", "hypervisor_version", "hypervisor_hostname", "free_ram_mb"),
    *("free_disk_gb", "current_workload", "running_vms", "disk_available_least", "host_ip", "mapped"),
    *("cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio", "total_usable_ram_mb"),
    *("total_usable_disk_gb", "disk_mb_used", "free_disk_mb", "vcpus_total", "num_instances", "num_io_ops"),
    *("failed_builds", "aggregates", "cell_uuid", "updated"),
)
CAPABILITIES_WITH_PARTS = (
    *("cpu_info", "metrics", "stats", "numa_topology", "supported_hv_specs", "pci_device_pools", "nodename"),
    *("pci_stats", "supported_instances", "limits", "instances"),
)

#: Name -> kind; the names are expressions, which are to match all of a spec's.
KNOWN: Mapping[str, Kind] = {
    **_all(TRUTH, ("hide_hypervisor_id", "hw:hide_hypervisor_id", "hw:cpu_realtime", "hw:locked_memory")),
    **_all(TRUTH, ("hw:boot_menu", "hw:vif_multiqueue_enabled", "hw:mem_encryption", "hw:pmu")),
    **_all(TRUTH, ("hw:virtio_packed_ring", "hw:ephemeral_encryption", "hw_rng:allowed")),
    **_all(POSITIVE, ("hw:numa_nodes", r"hw:numa_mem\.\d+", r"hw:cpu_(max_)?(sockets|cores|threads)")),
    **_all(COUNT, ("hw:serial_port_count", "hw_rng:rate_bytes", "hw_rng:rate_period", "hw_video:ram_max_mb")),
    **_all(COUNT, (r"quota:(cpu|memory|disk_io|vif)_(limit|shares_share)", "quota:cpu_(shares|period)")),
    **_all(COUNT, ("quota:disk_(read|write|total)_(bytes|iops)_sec",)),
    **_all(COUNT, ("quota:vif_(inbound|outbound)_(average|peak|burst)",)),
    **_all(INTEGER, ("quota:cpu_quota", "quota:(cpu|memory|disk_io|vif)_reservation")),
    **_all(INTEGER, (f"resources{GROUP}:{CLASSES}",)),
    **_all(CPUS, ("hw:cpu_realtime_mask", "hw:cpu_dedicated_mask", r"hw:numa_cpus\.\d+")),
    **_all(TEXT, ("accel:device_profile", "aggregate_instance_extra_specs:.+")),
    **_all(TEXT, (f"capabilities:({'|'.join(CAPABILITIES)})",)),
    **_all(TEXT, (rf"capabilities:({'|'.join(CAPABILITIES_WITH_PARTS)})(:\w+)*",)),
    "hw:redirected_usb_ports": Kind(number=True, least=0, most=15),
    "hw:mem_page_size": Kind(form=r"(large|small|any|\d+([kKMGT]i?)?(b|bit|B)?)"),
    "hw:pmem": Kind(form=r"[a-zA-Z0-9_]+(,[a-zA-Z0-9_]+)*,?"),
    "pci_passthrough:alias": Kind(form=r"[^:]+:\d+(\s*,\s*[^:,]+:\d+)*"),
    "group_policy": _one_of("isolate", "none"),
    "os:secure_boot": _one_of("disabled", "required"),
    f"trait{GROUP}:[A-Z][A-Z0-9_]*": _one_of("required", "forbidden"),
    "quota:(cpu|memory|disk_io|vif)_shares_level": _one_of("custom", "high", "normal", "low"),
    "hw:cpu_policy": _one_of("dedicated", "shared", "mixed"),
    "hw:cpu_thread_policy": _one_of("prefer", "isolate", "require"),
    "hw:emulator_threads_policy": _one_of("isolate", "share"),
    "hw:pci_numa_affinity_policy": _one_of("required", "preferred", "legacy", "socket"),
    "hw:mem_encryption_model": _one_of("amd-sev", "amd-sev-es", "amd-sev-snp"),
    "hw:tpm_model": _one_of("tpm-tis", "tpm-crb"),
    "hw:tpm_version": _one_of("1.2", "2.0"),
    "hw:tpm_secret_security": _one_of("user", "host", "deployment"),
    "hw:watchdog_action": _one_of("none", "pause", "poweroff", "reset", "disabled"),
    "hw:viommu_model": _one_of("intel", "smmuv3", "virtio", "auto"),
    "hw:sound_model": _one_of("sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "virtio"),
    "hw:usb_model": _one_of("none", "nec-xhci", "qemu-xhci"),
    "hw:ephemeral_encryption_format": _one_of("plain", "luks", "luksv2"),
}
SPACES = re.compile(
    rf"accel|aggregate_instance_extra_specs|capabilities|hw|hw_rng|hw_video|os|pci_passthrough|quota"
    rf"|resources{GROUP}|trait{GROUP}"
)


def check(specs: Mapping[str, str]) -> None:
    """Raise InvalidInput for specs that Nova knows better."""
    for name, value in specs.items():
        kind = next((kind for known, kind in KNOWN.items() if re.fullmatch(known, name)), None)
        space, colon, _ = name.partition(":")
        if kind is None and colon and SPACES.fullmatch(space):
            raise InvalidInput(
                f"Validation failed; extra spec '{name}' does not appear to be a valid extra spec."
            )
        why = None if kind is None else kind.refuses(value)
        if why is not None:
            raise InvalidInput(f"Validation failed; '{value}' of extra spec '{name}' {why}.")
