"""What the benchmarks make of their figures; what they measure is no test's business."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import installs
from benchmarks.beside import Measure, compare
from benchmarks.measuring import in_turns
from benchmarks.nova import NovaFailed
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


MEASURES = {
    "boot": Measure("s", Goal(most=1), nova=8),
    "many": Measure("a minute", ratio=Goal(least=2), nova=24),
    "details": Measure("ms", Goal(most=20)),
}
OURS = {"boot": 0.5, "many": 60.0, "details": 9.0}


@pytest.mark.parametrize("fails", ["never", "install", "start", "second"])
def test_what_nova_cannot_be_measured_for_is_another_runs_and_said_so(
    fails: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def installed() -> installs.Install:
        if fails == "install":
            raise RuntimeError("no such package")
        return installs.Install("there", 1, 1)

    def measured(wanted: Collection[str]) -> Iterator[tuple[str, float]]:
        assert list(wanted) == ["boot", "many"]  # all that has a figure of Nova's
        if fails == "start":
            raise NovaFailed("no such package")
        yield "boot", 5.0
        if fails == "second":
            raise NovaFailed("no such package")
        yield "many", 20.0

    monkeypatch.setattr(installs, "nova", installed)
    monkeypatch.setattr(installs.Install, "version", lambda _self, _package: "34.0.1")
    rows = list(compare(MEASURES, list(MEASURES), lambda _wanted: iter(OURS.items()), measured))
    here, another = "Nova 34.0.1", "Nova 34, another run"
    boot = (another, 8) if fails in ("install", "start") else (here, 5)
    many = (here, 20) if fails == "never" else (another, 24)
    assert rows == [
        Row("boot", "s", 0.5, goal=Goal(most=1)),
        Row("details", "ms", 9.0, goal=Goal(most=20)),
        Row("boot", "s", 0.5, *boot),
        Row("many", "a minute", 60.0, *many, Goal(least=2)),
    ]
    assert ("no such package" in capsys.readouterr().err) == (fails != "never")
    results = Results({}, {})
    results.add(rows, "all")
    assert ("Not measured here, but in another run: Nova 34." in results.markdown([], "")) == (
        fails != "never"
    )


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
