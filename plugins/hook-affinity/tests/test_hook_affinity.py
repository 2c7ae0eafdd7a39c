"""The affinity hook, by the values it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from novalite_hook_affinity import AffinityHook

from novalite.config import load
from novalite.model import NewServer, Status
from novalite.scheduler.base import HostState, Request
from novalite.testing import Cloud, HookConformance

HOSTS = ("one", "two", "three")


class TestAffinityHook(HookConformance):
    def make_hook(self) -> AffinityHook:
        return AffinityHook()


class TestSoftAffinityHook(HookConformance):
    def make_hook(self) -> AffinityHook:
        return AffinityHook({"soft": True})


def request(**hints: Any) -> Request:
    return Request("new", None, vcpus=1, memory_mb=128, disk_gb=1, hints=hints)


def host(name: str, *ids: str) -> HostState:
    return HostState(
        name, "nova", 4, 0, 4096, 0, 40, 0, len(ids), "fake", "x86_64", instance_ids=frozenset(ids)
    )


@pytest.mark.parametrize(
    ("hints", "refused"),
    [
        ({}, set()),
        ({"same_host": "a"}, {"two", "three"}),
        ({"same_host": ["a", "b"]}, {"three"}),
        ({"same_host": ["nowhere"]}, set(HOSTS)),
        ({"different_host": "a"}, {"one"}),
        ({"different_host": ["a", "b"]}, {"one", "two"}),
        ({"different_host": ["nowhere"]}, set()),
        ({"same_host": ["a"], "different_host": ["a2"]}, set(HOSTS)),
        ({"same_host": 7}, set()),
    ],
)
def test_hook_affinity_refuses(hints: dict[str, Any], refused: set[str]) -> None:
    hosts = (host("one", "a", "a2"), host("two", "b"), host("three"))
    hook = AffinityHook()
    told = {one.name: hook.reject(request(**hints), one) for one in hosts}
    assert {name for name, reason in told.items() if reason} == refused


def test_hook_affinity_soft_only_weighs() -> None:
    hook = AffinityHook({"soft": True, "weight": 2.0})
    asked = request(same_host=["a", "b"], different_host=["c"])
    assert hook.reject(asked, host("one")) is None
    assert hook.weigh(asked, host("one", "a", "b")) == 4.0
    assert hook.weigh(asked, host("two", "c")) == -2.0
    assert hook.weigh(asked, host("three")) == 0.0


def test_hook_affinity_is_found_by_its_name_and_reads_its_options(tmp_path: Path) -> None:
    path = tmp_path / "novalite.conf"
    path.write_text(
        "[DEFAULT]\ncompute_driver = fake\n[scheduler]\nhooks = capacity, affinity\n[affinity]\nsoft = true\n"
    )
    settings = load(["--config-file", str(path)])
    hooks = {hook.name: values for hook, values in settings.scheduler.hooks}
    assert hooks["affinity"] == {"soft": True, "weight": 1.0}


def test_hook_affinity_in_a_cloud(tmp_path: Path) -> None:
    options = {("scheduler", "hooks"): ["capacity", "affinity"]}
    with Cloud(tmp_path, hosts=("one", "two"), options=options) as cloud:
        image = cloud.images.add(b"\0" * 512)

        def boot(name: str, **hints: Any) -> Any:
            (server,) = cloud.service.servers.create(
                cloud.caller, NewServer(name, image.id, "42", hints=hints)
            )
            return cloud.wait(server.id, Status.ACTIVE)

        first = boot("first")
        assert boot("beside", same_host=first.id).host == first.host
        away = boot("away", different_host=[first.id])
        assert {first.host, away.host} == {"one", "two"}
        (nowhere,) = cloud.service.servers.create(
            cloud.caller,
            NewServer("nowhere", image.id, "42", hints={"different_host": [first.id, away.id]}),
        )
        failed = cloud.wait(nowhere.id, Status.ERROR)
        assert failed.fault is not None
        assert f"one: runs servers of different_host: {first.id if first.host == 'one' else away.id}" in str(
            failed.fault.message
        )
