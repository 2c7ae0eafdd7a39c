"""The built-in scheduler hooks, by the kit and by what each refuses."""

from __future__ import annotations

import pytest

from novalite.errors import NoValidHost
from novalite.groupings import GroupPlaces, GroupPolicy
from novalite.scheduler.base import Driver, Hook, HostState, Request
from novalite.scheduler.hooks import CapacityHook, ImageLocalityHook, ImagePropertiesHook, ServerGroupHook
from novalite.scheduler.selection import choose
from novalite.scheduler.simple import SimpleDriver
from novalite.testing.scheduler import HookConformance, host, request


class TestCapacityHook(HookConformance):
    def make_hook(self) -> Hook:
        return CapacityHook({"cpu_allocation_ratio": 2.0})


class TestImagePropertiesHook(HookConformance):
    def make_hook(self) -> Hook:
        return ImagePropertiesHook()


class TestImageLocalityHook(HookConformance):
    def make_hook(self) -> Hook:
        return ImageLocalityHook()


class TestServerGroupHook(HookConformance):
    def make_hook(self) -> Hook:
        return ServerGroupHook()


EXACT = {"cpu_allocation_ratio": 1.0, "ram_allocation_ratio": 1.0, "disk_allocation_ratio": 1.0}


@pytest.mark.parametrize(
    ("settings", "asked", "state", "told"),
    [
        ({}, {"vcpus": 1}, {"vcpus": 4, "vcpus_used": 3}, None),
        ({}, {"vcpus": 2}, {"vcpus": 4, "vcpus_used": 3}, "vCPUs: needs 2, has 1 free of 4"),
        ({"cpu_allocation_ratio": 2.0}, {"vcpus": 4}, {"vcpus": 4, "vcpus_used": 4}, None),
        ({"cpu_allocation_ratio": 2.0}, {"vcpus": 1}, {"vcpus": 4, "vcpus_used": 8}, "has 0 free of 8"),
        # Never more at once than there is, whatever the ratio.
        ({"cpu_allocation_ratio": 16.0}, {"vcpus": 5}, {"vcpus": 4}, "vCPUs: needs 5"),
        ({}, {"memory_mb": 512}, {"memory_mb": 512}, None),
        ({}, {"memory_mb": 513}, {"memory_mb": 512}, "memory: needs 513 MiB, has 512 MiB free"),
        ({"ram_allocation_ratio": 0.5}, {"memory_mb": 300}, {"memory_mb": 512}, "has 256 MiB free"),
        ({}, {"disk_gb": 0}, {"disk_gb": 0}, None),
        ({}, {"disk_gb": 2}, {"disk_gb": 10, "disk_gb_used": 9}, "disk: needs 2 GiB, has 1 GiB free"),
    ],
)
def test_scheduler_capacity(
    settings: dict[str, float], asked: dict[str, int], state: dict[str, int], told: str | None
) -> None:
    reason = CapacityHook({**EXACT, **settings}).reject(request(**asked), host(**state))
    assert (reason is None) if told is None else (reason is not None and told in reason)


@pytest.mark.parametrize(
    ("properties", "state", "fits"),
    [
        ({}, {}, True),
        ({"hw_architecture": "x86_64"}, {}, True),
        ({"architecture": "amd64"}, {}, True),
        ({"architecture": "i686"}, {}, True),
        ({"hw_architecture": "aarch64"}, {}, False),
        ({"hw_architecture": "x86_64"}, {"arch": "aarch64"}, False),
        ({"architecture": "arm64"}, {"arch": "aarch64"}, True),
        ({"img_hv_type": "kvm"}, {"virt_type": "qemu"}, True),
        ({"img_hv_type": "QEMU"}, {"virt_type": "kvm"}, True),
        ({"hypervisor_type": "xen"}, {}, False),
        ({"hypervisor_type": "fake"}, {"virt_type": "fake", "hypervisor_type": "fake"}, True),
        ({"img_hv_type": "kvm"}, {"virt_type": "fake", "hypervisor_type": "fake"}, False),
    ],
)
def test_scheduler_image_properties(properties: dict[str, str], state: dict[str, str], fits: bool) -> None:
    reason = ImagePropertiesHook().reject(request(image_properties=properties), host(**state))
    assert (reason is None) is fits


@pytest.mark.parametrize(
    ("group", "fits", "weighs"),
    [
        (None, {"a", "b"}, (0.0, 0.0)),
        (GroupPlaces(GroupPolicy.AFFINITY), {"a", "b"}, (0.0, 0.0)),
        (GroupPlaces(GroupPolicy.AFFINITY, {"a": 1}), {"a"}, (0.0, 0.0)),
        (GroupPlaces(GroupPolicy.AFFINITY, {"gone": 1}), set(), (0.0, 0.0)),
        (GroupPlaces(GroupPolicy.ANTI_AFFINITY, {"a": 1}), {"b"}, (0.0, 0.0)),
        (GroupPlaces(GroupPolicy.ANTI_AFFINITY, {"a": 1, "b": 2}, max_per_host=2), {"a"}, (0.0, 0.0)),
        (GroupPlaces(GroupPolicy.SOFT_AFFINITY, {"a": 2}), {"a", "b"}, (2.0, 0.0)),
        (GroupPlaces(GroupPolicy.SOFT_ANTI_AFFINITY, {"a": 2}), {"a", "b"}, (-2.0, 0.0)),
    ],
)
def test_scheduler_server_groups(
    group: GroupPlaces | None, fits: set[str], weighs: tuple[float, float]
) -> None:
    hook, asked, hosts = ServerGroupHook(), request(group=group), (host("a"), host("b"))
    assert {one.name for one in hosts if hook.reject(asked, one) is None} == fits
    assert tuple(hook.weigh(asked, one) for one in hosts) == weighs


HAS = {"images": frozenset({"i", "j"})}


@pytest.mark.parametrize(
    ("multiplier", "image", "hosts", "picked"),
    [
        (0.1, "i", (host("a"), host("b", **HAS)), "b"),
        (0.1, "k", (host("a"), host("b", **HAS)), "a"),
        (0.1, "", (host("a"), host("b", **HAS)), "a"),
        (0.0, "i", (host("a"), host("b", **HAS)), "a"),
        (0.1, "i", (host("a", vcpus_used=1), host("b", vcpus_used=1, **HAS)), "b"),
        # a little more loaded, and too much: of 8 CPUs one is more than a tenth
        (0.1, "i", (host("a"), host("b", memory_mb_used=800, **HAS)), "b"),
        (0.1, "i", (host("a"), host("b", vcpus_used=1, **HAS)), "a"),
        (0.5, "i", (host("a"), host("b", vcpus_used=3, **HAS)), "b"),
        (9.0, "i", (host("a"), host("b", vcpus=1, vcpus_used=4, **HAS)), "a"),  # full
        (0.1, "i", (host("a", **HAS), host("b", vcpus_used=1, **HAS)), "a"),
    ],
)
def test_scheduler_image_locality(
    multiplier: float, image: str, hosts: tuple[HostState, ...], picked: str
) -> None:
    hooks = [CapacityHook(), ImageLocalityHook({"image_locality_weight_multiplier": multiplier})]
    assert choose(request(image_id=image), hosts, hooks, SimpleDriver(), {}).name == picked


def test_scheduler_a_weight_decides_whatever_the_discount() -> None:
    hosts = (host("a", images=frozenset({"i"})), host("liked", vcpus_used=8))
    picked = choose(request(image_id="i"), hosts, [ImageLocalityHook(), Likes()], SimpleDriver(), {})
    assert picked.name == "liked"


class Broken(Hook):
    name = "broken"

    def reject(self, request: Request, host: HostState) -> str | None:
        if host.name == "bad":
            raise ZeroDivisionError("oops")
        return None

    def weigh(self, request: Request, host: HostState) -> float:
        raise ZeroDivisionError("oops")

    def discount(self, request: Request, host: HostState) -> float:
        raise ZeroDivisionError("oops")


class Likes(Hook):
    name = "likes"

    def weigh(self, request: Request, host: HostState) -> float:
        return 5.0 if host.name == "liked" else 0.0


class Stranger(Driver):
    name = "stranger"

    def pick(self, request: Request, hosts: tuple[HostState, ...]) -> HostState:
        return host("never heard of")


def test_scheduler_a_hook_that_raises_refuses_the_host() -> None:
    hosts = (host("bad"), host("good"))
    assert choose(request(), hosts, [Broken()], SimpleDriver(), {}).name == "good"
    with pytest.raises(NoValidHost, match="bad: hook broken failed: ZeroDivisionError: oops"):
        choose(request(), hosts[:1], [Broken()], SimpleDriver(), {})


def test_scheduler_weights_add_up_and_decide() -> None:
    hosts = (host("a"), host("liked", vcpus_used=8))
    picked = choose(request(), hosts, [Likes(), Likes()], SimpleDriver(), {})
    assert (picked.name, picked.weight) == ("liked", 10.0)


def test_scheduler_no_valid_host_names_each_reason() -> None:
    hosts = (host("small", vcpus=1), host("foreign", arch="riscv64"))
    asked = request(vcpus=2, image_properties={"hw_architecture": "x86_64"})
    with pytest.raises(NoValidHost) as caught:
        choose(asked, hosts, [CapacityHook(EXACT), ImagePropertiesHook()], SimpleDriver(), {"far": "is down"})
    assert caught.value.reasons == {
        "far": "is down",
        "small": "too little vCPUs: needs 2, has 1 free of 1",
        "foreign": "has architecture riscv64, the image needs x86_64",
    }


def test_scheduler_logs_what_each_hook_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    choose(request(), (host("a"), host("b", vcpus=0)), [CapacityHook(EXACT)], SimpleDriver(), {})
    assert "hook capacity left 1 hosts" in caplog.text


def test_scheduler_a_driver_that_picks_a_stranger_gets_no_host() -> None:
    with pytest.raises(NoValidHost, match="a: driver stranger picked none of its hosts"):
        choose(request(), (host("a"),), [], Stranger(), {})
