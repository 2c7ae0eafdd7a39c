"""The samples in etc/ are what the code says."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

from glancelike import config, config_registry, policy
from novalite import config as compute
from novalite import policy as compute_policy

ETC = Path(__file__).parents[2] / "etc"


def without_plugins(sample: str) -> str:
    """Leave out the sections of stores that other distributions bring, whichever are installed here."""
    foreign = {
        entry.name
        for entry in entry_points(group="glancelike.stores")
        if entry.dist is None or entry.dist.name != "glancelike"
    }
    sections = re.split(r"(?m)^(?=\[)", sample)
    return "".join(each for each in sections if each[1:].partition("]")[0] not in foreign)


def test_the_samples_are_current() -> None:
    hint = (
        "make it again: `glancelike config sample`, `glancelike policy sample`, "
        "`glancelike-registry sample`, `novalite config sample`, `novalite policy sample`"
    )
    assert (ETC / "glancelike.conf").read_text() == without_plugins(config.sample()), hint
    assert (ETC / "glancelike-registry.conf").read_text() == config_registry.sample(), hint
    assert (ETC / "policy.yaml.sample").read_text() == policy.sample(), hint
    assert (ETC / "novalite.conf").read_text() == compute.sample(), hint
    assert (ETC / "novalite-policy.yaml.sample").read_text() == compute_policy.sample(), hint
