"""The rules of ``novalite.scheduler.base`` as tests for any driver or hook.

::

    class TestMyDriver(DriverConformance):
        def make_driver(self):
            return MyDriver()

    class TestMyHook(HookConformance):
        def make_hook(self):
            return MyHook({"limit": 3})
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from novalite.errors import NoValidHost
from novalite.groupings import GroupPlaces, GroupPolicy
from novalite.scheduler.base import Driver, Hook, HostState, Request


def host(name: str = "host", **values: Any) -> HostState:
    """Make an empty host of middling size; ``values`` override."""
    told: dict[str, Any] = {
        "zone": "nova",
        "vcpus": 8,
        "vcpus_used": 0,
        "memory_mb": 8192,
        "memory_mb_used": 0,
        "disk_gb": 100,
        "disk_gb_used": 0,
        "instances": 0,
        "virt_type": "kvm",
        "arch": "x86_64",
        "hypervisor_type": "QEMU",
        "hypervisor_version": "7.2.0",
    }
    return HostState(name, **{**told, **values})


def request(**values: Any) -> Request:
    """Make a small request; ``values`` override."""
    told: dict[str, Any] = {
        "instance_id": "6f70656e-7374-6163-6b2d-6e6f76616c69",
        "project": "project",
        "vcpus": 1,
        "memory_mb": 512,
        "disk_gb": 1,
    }
    return Request(**{**told, **values})


# Requests and hosts at the edges of what may come.
REQUESTS = (
    request(),
    request(project=None, disk_gb=0),
    request(vcpus=10_000, memory_mb=1 << 40, disk_gb=1 << 20),
    request(zone="elsewhere"),
    request(
        image_properties={"hw_architecture": "s390x", "": "", "ключ": "значение"},
        extra_specs={"hw:cpu_policy": "dedicated"},
        hints={
            "same_host": ["nobody"],
            "different_host": "nobody",
            "group": None,
            "odd": {"a": [1, 2.5, True]},
        },
    ),
    request(group=GroupPlaces(GroupPolicy.ANTI_AFFINITY, {"busy": 2, "elsewhere": 1}, max_per_host=2)),
    request(group=GroupPlaces(GroupPolicy.SOFT_AFFINITY, {"busy": 2})),
    request(image_id="image"),
)
HOSTS = (
    host("usual"),
    host("used", vcpus_used=7, memory_mb_used=8000, disk_gb_used=99, instances=40),
    host("overcommitted", vcpus_used=80, memory_mb_used=80_000, disk_gb_used=1000, instances=1),
    host("nothing", vcpus=0, memory_mb=0, disk_gb=0, virt_type="", arch="", zone=""),
    host("busy", instance_ids=frozenset({"a", "b"}), instances=2),
    host("stocked", images=frozenset({"image", "another"}), vcpus_used=3),
)


class DriverConformance:
    """What every scheduler driver owes."""

    def make_driver(self) -> Driver:
        """Make the driver; to be overridden."""
        pytest.skip("make_driver isn't overridden")

    @pytest.mark.parametrize("asked", REQUESTS, ids=range(len(REQUESTS)))
    @pytest.mark.parametrize("count", [1, 2, len(HOSTS)])
    def test_driver_picks_one_of_the_hosts_or_says_why_not(self, asked: Request, count: int) -> None:
        driver, hosts = self.make_driver(), HOSTS[:count]
        for _ in range(5):
            try:
                picked, refused = driver.pick(asked, hosts), set()
            except NoValidHost as error:
                picked, refused = None, set(error.reasons)
            assert picked in hosts or refused == {one.name for one in hosts}

    def test_driver_uses_the_only_host_of_the_zone(self) -> None:
        only = host("only", zone="here")
        assert self.make_driver().pick(request(zone="here"), (only,)) == only

    def test_driver_leaves_its_arguments_alone(self) -> None:
        asked, hosts = copy.deepcopy(REQUESTS[-1]), copy.deepcopy(HOSTS)
        self.make_driver().pick(asked, hosts)
        assert (asked, hosts) == (REQUESTS[-1], HOSTS)

    def test_driver_has_a_name(self) -> None:
        assert self.make_driver().name


class HookConformance:
    """What every scheduler hook owes."""

    def make_hook(self) -> Hook:
        """Make the hook; to be overridden."""
        pytest.skip("make_hook isn't overridden")

    @pytest.mark.parametrize("state", HOSTS, ids=lambda one: one.name)
    @pytest.mark.parametrize("asked", REQUESTS, ids=range(len(REQUESTS)))
    def test_hook_answers_whatever_comes(self, asked: Request, state: HostState) -> None:
        hook = self.make_hook()
        reason = hook.reject(asked, state)
        assert reason is None or (isinstance(reason, str) and reason.strip())
        for advice in (hook.weigh(asked, state), hook.discount(asked, state)):
            assert isinstance(advice, (int, float))
            assert advice == advice  # not NaN, which would compare with nothing

    def test_hook_is_pure(self) -> None:
        hook = self.make_hook()
        asked, hosts = copy.deepcopy(REQUESTS), copy.deepcopy(HOSTS)
        first = [(hook.reject(a, h), hook.weigh(a, h), hook.discount(a, h)) for a in asked for h in hosts]
        again = [(hook.reject(a, h), hook.weigh(a, h), hook.discount(a, h)) for a in REQUESTS for h in HOSTS]
        assert first == again
        assert (asked, hosts) == (REQUESTS, HOSTS)

    def test_hook_works_with_its_defaults_and_has_a_name(self) -> None:
        plain = type(self.make_hook())()
        assert plain.name
        assert plain.weigh(REQUESTS[0], HOSTS[0]) == plain.weigh(REQUESTS[0], HOSTS[0])

    def test_hook_options_say_what_they_are_for(self) -> None:
        for option in self.make_hook().options:
            assert option.help, option.name
