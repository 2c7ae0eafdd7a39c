"""The samples in etc/ are what the code says."""

from __future__ import annotations

from pathlib import Path

from glancelike import config, policy
from novalite import config as compute

ETC = Path(__file__).parents[2] / "etc"


def test_the_samples_are_current() -> None:
    hint = "make it again: `glancelike config sample`, `glancelike policy sample`, `novalite config sample`"
    assert (ETC / "glancelike.conf").read_text() == config.sample(), hint
    assert (ETC / "policy.yaml.sample").read_text() == policy.sample(), hint
    assert (ETC / "novalite.conf").read_text() == compute.sample(), hint
