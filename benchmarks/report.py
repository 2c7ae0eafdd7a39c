"""What comes out: rows, each against a goal, as a table and as ``RESULTS.md``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.measuring import Medians

#: In the name of a peer that isn't measured beside ours.
ANOTHER_RUN = "another run"
HEADS = ("Work", "Measure", "Ours", "Against", "Theirs", "Ratio", "Goal", "")


@dataclass(frozen=True)
class Goal:
    """How the ratio of ours to theirs has to be; of ours itself where there is nobody else."""

    least: float | None = None
    most: float | None = None

    def met_by(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


@dataclass(frozen=True)
class Row:
    """One figure of ours, perhaps beside another's."""

    work: str
    measure: str
    ours: float
    peer: str = ""
    theirs: float | None = None
    goal: Goal | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.work, self.measure, self.peer.partition(",")[0]

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.theirs else None

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        return "pass" if self.goal.met_by(self.ours if self.ratio is None else self.ratio) else "miss"

    def cells(self) -> list[str]:
        theirs = "" if self.theirs is None else _figure(self.theirs)
        # A ratio is shown as exactly as its goal.
        ratio = (
            "" if self.ratio is None else f"{self.ratio:.2f}" if self.ratio >= 0.2 else f"{self.ratio:.3f}"
        )
        goal = "" if self.goal is None else str(self.goal)
        return [self.work, self.measure, _figure(self.ours), self.peer, theirs, ratio, goal, self.verdict]


def compared(
    work: str, medians: Medians, us: str, peer: str, goals: Mapping[str, Goal | None]
) -> Iterator[Row]:
    """Make a row of each measure that has an entry in ``goals``."""
    for measure, goal in goals.items():
        yield Row(work, measure, medians[us][measure], peer, medians[peer][measure], goal)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(rows: Iterable[Row]) -> Table:
    """Make a table for a terminal."""
    made = Table(*HEADS[:2])
    for head in HEADS[2:]:
        made.add_column(head, justify="left" if head in ("Against", "") else "right")
    for row in rows:
        *cells, verdict = row.cells()
        color = {"pass": "green", "miss": "red"}.get(verdict, "white")
        made.add_row(*cells, f"[{color}]{verdict}[/]")
    return made


@dataclass
class Results:
    """The rows of a run, or of several runs that each measured a part; kept in a file."""

    rows: dict[tuple[str, str, str], Row]
    commands: dict[str, list[str]]  # the work that each has measured

    @classmethod
    def read(cls, path: Path) -> Results:
        found = json.loads(path.read_text())
        rows = []
        for row in found["rows"]:
            goal = row.pop("goal")
            rows.append(Row(**row, goal=Goal(**goal) if goal else None))
        return cls({row.key: row for row in rows}, found["commands"])

    def add(self, rows: Iterable[Row], command: str) -> None:
        """Take the rows of a run, in the place of what there was of the same work."""
        rows = list(rows)
        work = list(dict.fromkeys(row.work for row in rows))
        for key in [key for key in self.rows if key[0] in work]:
            del self.rows[key]
        self.rows |= {row.key: row for row in rows}
        for names in self.commands.values():
            names[:] = [name for name in names if name not in work]
        self.commands = {each: names for each, names in self.commands.items() if names}
        self.commands[command] = [*self.commands.get(command, []), *work]

    def ordered(self, works: list[str]) -> list[Row]:
        """Return the rows in the order of the names of all work."""
        place = {name: at for at, name in enumerate(works)}
        return sorted(self.rows.values(), key=lambda row: place.get(row.work, len(place)))

    def write(self, path: Path) -> None:
        told = {"rows": [asdict(row) for row in self.rows.values()], "commands": self.commands}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=1) + "\n")

    def markdown(self, works: list[str], machine: str) -> str:
        """Make the text of RESULTS.md."""
        rows = self.ordered(works)
        said = [row.verdict for row in rows]
        missing = [work for work in works if all(row.work != work for row in rows)]
        old = dict.fromkeys(row.peer.split(",")[0] for row in rows if row.peer.endswith(ANOTHER_RUN))
        lines = [
            "# What was measured",
            "",
            "Medians of interleaved repeats; look at the ratios, each of one run. `docs/performance.md` says",
            "what is measured, how, and why a goal is missed. Made by:",
            "",
            "```sh",
            *self.commands,
            "```",
            "",
            machine,
            f"{said.count('pass')} goals are met, {said.count('miss')} are missed.",
            *([f"Not measured: {'; '.join(missing)}."] if missing else []),
            *([f"Not measured here, but in {ANOTHER_RUN}: {'; '.join(old)}."] if old else []),
            "",
            f"| {' | '.join(HEADS)} |",
            "|---|---|---:|---|---:|---:|---:|---|",
        ]
        for row in rows:
            *cells, verdict = row.cells()
            cells.append("**miss**" if verdict == "miss" else verdict)
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"
