"""docs/compute-api.md says what the Compute API answers, neither more nor less."""

from __future__ import annotations

import re
from pathlib import Path

from novalite.api.compute import server_actions
from novalite.api.compute.microversion import MAX, text
from novalite.api.compute.routes import ROUTES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "compute-api.md").read_text()


def test_every_operation_is_told() -> None:
    paths: dict[str, list[str]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, []).append(route.method)
    expected = {path: " ".join(methods) for path, methods in paths.items()}
    found = re.findall(r"^\| `(/[^`]*)` \| ([A-Z ]+) \|", DOCUMENT, re.MULTILINE)
    assert dict(found) == expected
    assert len(found) == len(expected)


def test_every_action_is_told() -> None:
    table = DOCUMENT.partition("## Actions on servers")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == {
        *server_actions.ACTIONS,
        *server_actions.OTHERS,
    }


def test_every_microversion_is_accounted_for() -> None:
    table = DOCUMENT.partition("## Microversions")[2].partition("\n## ")[0]
    told: set[int] = set()
    for first, last in re.findall(r"^\| 2\.(\d+)(?: to 2\.(\d+))? \|", table, re.MULTILINE):
        numbers = range(int(first), int(last or first) + 1)
        assert not told & set(numbers)
        told |= set(numbers)
    assert told == set(range(2, MAX[1] + 1))
    assert f"2.1 to {text(MAX)}" in DOCUMENT
