"""What the benchmarks make of their figures; what they measure is no test's business."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks.measuring import in_turns
from benchmarks.report import Goal, Results, Row

ROOT = Path(__file__).parents[2]

FAST = Row("show", "requests/s", 1000.0, "Glance, uWSGI", 100.0, Goal(least=8))
COSTLY = Row("upload", "CPU s/GiB", 3.0, "Glance, uWSGI", 4.0, Goal(most=0.7))
MANY = Row("install", "packages", 45.0, goal=Goal(most=40))
PLAIN = Row("upload", "MiB/s", 300.0, "nginx", 200.0)


@pytest.mark.parametrize(
    ("row", "verdict"),
    [(FAST, "pass"), (COSTLY, "miss"), (MANY, "miss"), (PLAIN, "")],
    ids=lambda each: str(each),
)
def test_a_row_says_whether_its_goal_is_met(row: Row, verdict: str) -> None:
    assert row.verdict == verdict


def test_a_part_replaces_its_own_rows_and_keeps_the_others(tmp_path: Path) -> None:
    results = Results({}, {})
    results.add([FAST, COSTLY, PLAIN], "all")
    again = Row("show", "requests/s", 900.0, "Glance, gunicorn", 100.0, Goal(least=8))
    results.add([again], "only show")
    results.write(tmp_path / "kept")
    read = Results.read(tmp_path / "kept")
    assert read.ordered(["show", "upload"]) == [again, COSTLY, PLAIN]
    assert read.commands == {"all": ["upload"], "only show": ["show"]}
    text = read.markdown(["show", "upload", "list"], "two cores.")
    assert "| show | requests/s | 900 | Glance, gunicorn | 100 | 9.00 | ≥ 8 | pass |" in text
    assert "Not measured: list." in text
    assert "1 goals are met, 1 are missed." in text


def test_turns_begin_with_another_one_each_time_and_the_median_counts() -> None:
    order: list[str] = []

    def work(name: str, values: list[float]) -> object:
        def one(turn: int) -> dict[str, float]:
            order.append(name)
            return {"figure": values[turn]}

        return one

    found = in_turns({"a": work("a", [1, 9, 2]), "b": work("b", [5, 5, 7])}, 3)  # type: ignore[dict-item]
    assert found == {"a": {"figure": 2}, "b": {"figure": 5}}
    assert order == ["a", "b", "b", "a", "a", "b"]


# By a process of its own: those that test have children that come and go.
MEASURE = """
import hashlib, os, time
from benchmarks.measuring import cpu_seconds, growth
before = cpu_seconds(os.getpid())
until = time.process_time() + 0.1
while time.process_time() < until:
    hashlib.sha256(bytes(100_000))
print(cpu_seconds(os.getpid()) - before)
print(growth(os.getpid(), lambda: bytearray(os.urandom(1)) * (64 << 20)))
"""


def test_what_a_process_used_and_took_is_seen() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    used, grew = done.stdout.split()
    assert float(used) >= 0.05
    assert int(grew) >= 60 << 20


def test_all_work_has_a_name_of_its_own() -> None:
    assert len(set(program.WORKS)) == len(program.WORKS)
