"""``python -m glancelike.testing.matrix DIRECTORY…``: a page of what the kit has proved, driver by driver."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from glancelike.stores.base import Cap

# Which tests prove a clause; those of a capability say so themselves, by what they need.
CLAUSES: Mapping[int, Sequence[str]] = {
    1: (
        *("test_stat_and_read", "test_every_valid_key", "test_longest_key", "test_keys_are_flat"),
        *("test_partial_is_invisible", "test_blob_survives_reopening", "test_killed_*"),
        "test_delete_during_read",
    ),
    2: ("test_source_raises*", "test_source_of_*", "test_source_longer_*", "test_failed_*", "test_part_s*"),
    3: ("test_existing_*", "test_race_*", "test_copy_keeps_*", "test_uploads_keep_*"),
    4: ("test_read_raises_at_the_call",),
    5: ("test_closing_*", "test_closed_*"),
    6: ("test_short_blocks", "test_source_is_never_sought", "test_slow_source", "test_memory_is_flat"),
    7: ("test_missing_blob", "test_deleted_blob", "test_unknown_upload"),
    8: ("test_driver_is_never_falsy", "test_eight_threads", "test_parallel_writers"),
    9: ("test_secrets_stay_secret", "test_guard_refuses_key"),
}
HEAD = """\
# Stores

What the conformance kit has proved of each driver on a real backend. `make matrix` runs it and writes
this page; what capabilities and clauses mean is in [Writing plugins](writing-plugins.md#the-contract).

A number is that of the tests that passed. "no" is a capability that the driver doesn't declare, and that
it was seen to refuse. "–" is what couldn't be tried, since the store writes nothing. "FAILED" is a broken
promise.
"""
UNTRIED = "–"
Record = dict[str, Any]


def read(directories: Iterable[Path]) -> list[Record]:
    """Return all records in the directories."""
    files = [file for directory in directories for file in sorted(directory.glob("*.jsonl"))]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def render(records: Sequence[Record]) -> str:
    """Return the page: the same for the same results, in whatever order they came."""
    drivers = {name: [each for each in records if each["driver"] == name] for name in _names(records)}
    capabilities = [cap.name or "" for cap in Cap]
    proofs = [[name, *(_capability(mine, cap) for cap in capabilities)] for name, mine in drivers.items()]
    clauses = [[name, *(_clause(mine, number) for number in CLAUSES)] for name, mine in drivers.items()]
    conditions = [[name, *_conditions(mine)] for name, mine in drivers.items()]
    return (
        "\n".join(
            [
                HEAD,
                "## Capabilities\n",
                _table(["driver", *(f"`{name}`" for name in capabilities)], proofs),
                "## Clauses\n",
                _table(["driver", *map(str, CLAUSES)], clauses),
                "## On what\n",
                "Without kill -9 the blobs don't survive their process, so that neither is tested.\n",
                _table(
                    ["driver", "backend", "kill -9", "blobs listed at once", "MiB of the memory test"],
                    conditions,
                ),
            ]
        ).rstrip("\n")
        + "\n"
    )


def _names(records: Sequence[Record]) -> list[str]:
    return sorted({each["driver"] for each in records})


def _capability(records: Sequence[Record], cap: str) -> str:
    if any(cap in each["capabilities"] for each in records):
        return _verdict([each for each in records if cap in each["needs"]])
    refusals = _verdict([each for each in records if each["refuses"] == cap])
    return refusals if refusals == "FAILED" else "no" if refusals != UNTRIED else UNTRIED


def _clause(records: Sequence[Record], number: int) -> str:
    return _verdict(
        [each for each in records if any(fnmatch(each["test"], pattern) for pattern in CLAUSES[number])]
    )


def _verdict(records: Iterable[Record]) -> str:
    outcomes = Counter(each["outcome"] for each in records)
    if outcomes["failed"]:
        return "FAILED"
    return str(outcomes["passed"]) if outcomes["passed"] else UNTRIED


def _conditions(records: Sequence[Record]) -> list[str]:
    killed = any(each["spawnable"] for each in records)
    backends = sorted({each["backend"] for each in records if each["backend"]})
    return [
        ", ".join(backends),
        "yes" if killed else "no",
        _largest(records, "test_many_keys", "many_keys", 1),
        _largest(records, "test_memory_is_flat", "flat_size", 1 << 20),
    ]


def _largest(records: Sequence[Record], test: str, field: str, unit: int) -> str:
    passed = [each[field] for each in records if each["test"] == test and each["outcome"] == "passed"]
    return f"{max(passed) // unit:,}" if passed else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(render(read(map(Path, sys.argv[1:]))))
