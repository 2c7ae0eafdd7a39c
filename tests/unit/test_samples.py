"""The samples in etc/ are what the code says."""

from __future__ import annotations

from pathlib import Path

from glancelike import config, policy

ETC = Path(__file__).parents[2] / "etc"


def test_the_samples_are_current() -> None:
    hint = "run `glancelike config sample` and `glancelike policy sample` again"
    assert (ETC / "glancelike.conf").read_text() == config.sample(), hint
    assert (ETC / "policy.yaml.sample").read_text() == policy.sample(), hint
