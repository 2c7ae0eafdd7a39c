"""The hooks that are built in: capacity, what the image demands and where it is, and server groups."""

from __future__ import annotations

from collections.abc import Mapping

from oslo_config import cfg

from novalite.scheduler.base import Hook, HostState, Request


class CapacityHook(Hook):
    """Refuse hosts that lack CPUs, memory or disk, overcommitted by the ratios.

    A host larger than the flavor may be overcommitted; a flavor larger than
    the host never fits, whatever the ratio.
    """

    name = "capacity"
    group = "DEFAULT"
    always = True
    options = (
        cfg.FloatOpt("cpu_allocation_ratio", default=4.0, min=0.0, help="Virtual CPUs per CPU of a host."),
        cfg.FloatOpt("ram_allocation_ratio", default=1.0, min=0.0, help="MiB of servers per MiB of a host."),
        cfg.FloatOpt("disk_allocation_ratio", default=1.0, min=0.0, help="GiB of servers per GiB of a host."),
    )

    def reject(self, request: Request, host: HostState) -> str | None:
        """Name the first resource that doesn't suffice."""
        for what, unit, wanted, used, total, ratio in (
            ("vCPUs", "", request.vcpus, host.vcpus_used, host.vcpus, "cpu_allocation_ratio"),
            (
                "memory",
                " MiB",
                request.memory_mb,
                host.memory_mb_used,
                host.memory_mb,
                "ram_allocation_ratio",
            ),
            ("disk", " GiB", request.disk_gb, host.disk_gb_used, host.disk_gb, "disk_allocation_ratio"),
        ):
            limit = total * self.settings[ratio]
            if wanted > total or used + wanted > limit:
                free = max(0, min(int(limit - used), total))
                return f"too little {what}: needs {wanted}{unit}, has {free}{unit} free of {int(limit)}{unit}"
        return None


# Old and other names of the same thing, as images carry them.
_ARCHITECTURES: Mapping[str, str] = {
    "amd64": "x86_64",
    "x86-64": "x86_64",
    "arm64": "aarch64",
    "i386": "i686",
    "i486": "i686",
    "i586": "i686",
}
_RUNS_ALSO = {"x86_64": frozenset({"i686"})}


class ImagePropertiesHook(Hook):
    """Refuse hosts that can't run the image by its own properties.

    ``hw_architecture`` (or ``architecture``) names the CPU, and
    ``img_hv_type`` (or ``hypervisor_type``) the hypervisor, as the Image API
    documents them. Emulation (``virt_type`` qemu) and KVM both answer to
    ``kvm`` and ``qemu``.
    """

    name = "image_properties"

    def reject(self, request: Request, host: HostState) -> str | None:
        """Say which property the host doesn't match."""
        properties = request.image_properties
        wanted = properties.get("hw_architecture") or properties.get("architecture")
        if wanted:
            wanted = _ARCHITECTURES.get(wanted.lower(), wanted.lower())
            if wanted != host.arch and wanted not in _RUNS_ALSO.get(host.arch, ()):
                return f"has architecture {host.arch}, the image needs {wanted}"
        hypervisor = properties.get("img_hv_type") or properties.get("hypervisor_type")
        if hypervisor:
            kinds = {host.virt_type.lower(), host.hypervisor_type.lower()}
            if kinds & {"kvm", "qemu"}:
                kinds |= {"kvm", "qemu"}
            if hypervisor.lower() not in kinds:
                return (
                    f"has hypervisor {host.hypervisor_type or host.virt_type}, the image needs {hypervisor}"
                )
        return None


class ImageLocalityHook(Hook):
    """Prefer hosts that have the image already: a boot there fetches nothing.

    That is worth a share of a host's load and no more, so that servers of one
    image still spread.
    """

    name = "image_locality"
    group = "scheduler"
    options = (
        cfg.FloatOpt(
            "image_locality_weight_multiplier",
            default=0.1,
            min=0.0,
            help="How much more loaded a host may be that has the image already, to be taken all the same, "
            "as a share of the host: 0.1 is a tenth of its CPUs or memory. 0 takes no account of it.",
        ),
    )

    def discount(self, request: Request, host: HostState) -> float:
        """Tell what having the image is worth, for a host that has it."""
        return self.settings["image_locality_weight_multiplier"] if request.image_id in host.images else 0.0


class ServerGroupHook(Hook):
    """Keep to the policy of the server's group.

    Affinity and anti-affinity refuse hosts, the soft ones count each member
    for or against its host. That of two servers placed at once one sees the
    other is the claim's business.
    """

    name = "server_group"

    def reject(self, request: Request, host: HostState) -> str | None:
        """Say why the group doesn't want another member there."""
        return request.group.refuses(host.name) if request.group is not None else None

    def weigh(self, request: Request, host: HostState) -> float:
        """Count the members there: for the host, or against it."""
        return request.group.prefers(host.name) if request.group is not None else 0.0
