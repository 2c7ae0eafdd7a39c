"""The built-in scheduler drivers, by the kit and by what each is for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from novalite.errors import NoValidHost
from novalite.scheduler.base import Driver
from novalite.scheduler.chance import ChanceDriver
from novalite.scheduler.simple import SimpleDriver
from novalite.scheduler.zone import ZoneDriver
from novalite.testing.scheduler import DriverConformance, host, request


class TestSimpleDriver(DriverConformance):
    def make_driver(self) -> Driver:
        return SimpleDriver()


class TestChanceDriver(DriverConformance):
    def make_driver(self) -> Driver:
        return ChanceDriver()


class TestZoneDriver(DriverConformance):
    def make_driver(self) -> Driver:
        return ZoneDriver()


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"vcpus_used": 2}, {"vcpus_used": 3}),
        ({"memory_mb_used": 100}, {"vcpus_used": 1}),  # the fuller resource counts
        ({"vcpus": 16, "vcpus_used": 4}, {"vcpus_used": 4}),  # a share, not a number
        ({"instances": 1}, {"instances": 2}),
        ({"weight": 1.0, "vcpus_used": 8}, {"weight": 0.5, "discount": 1.0}),
        ({"discount": 0.25, "vcpus_used": 1}, {}),  # an eighth
        ({}, {"discount": 0.25, "vcpus_used": 3}),
        ({"name": "a"}, {"name": "b"}),
    ],
)
def test_scheduler_simple_takes_the_least_loaded(one: dict[str, object], two: dict[str, object]) -> None:
    better, worse = replace(host("x"), **one), replace(host("y"), **two)
    for hosts in ((better, worse), (worse, better)):
        assert SimpleDriver().pick(request(), hosts) == better


def test_scheduler_chance_takes_all_in_the_long_run() -> None:
    hosts = (host("a", weight=9.0), host("b"), host("c", vcpus_used=8))
    assert {ChanceDriver().pick(request(), hosts).name for _ in range(200)} == {"a", "b", "c"}


def test_scheduler_zone_keeps_to_the_zone() -> None:
    hosts = (host("a", zone="east"), host("b", zone="west"), host("c", zone="west"))
    driver = ZoneDriver()
    assert {driver.pick(request(zone="west"), hosts).name for _ in range(100)} == {"b", "c"}
    assert {driver.pick(request(), hosts).name for _ in range(200)} == {"a", "b", "c"}
    with pytest.raises(NoValidHost, match="a: is in zone east, not north"):
        driver.pick(request(zone="north"), hosts)
