"""Our cloud beside a real Nova in the same run, where Nova can be had."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from benchmarks import installs
from benchmarks.client import Refused
from benchmarks.nova import NovaFailed
from benchmarks.report import ANOTHER_RUN, Goal, Row

#: Whose figures stand in where Nova isn't measured; with Keystone, on two cores.
OTHER = f"Nova 34, {ANOTHER_RUN}"
#: Of the installer, of a step, of a server that doesn't come up, of a request.
FAILURES = (
    NovaFailed,
    RuntimeError,
    AssertionError,
    OSError,
    subprocess.SubprocessError,
    http.client.HTTPException,
    Refused,
)
#: Measures a cloud: yields each work with its figure.
Measuring = Callable[[Collection[str]], Iterator[tuple[str, float]]]


@dataclass(frozen=True)
class Measure:
    """A figure, its goal, the one of its ratio to Nova's, and what Nova's was in another run."""

    name: str
    goal: Goal | None = None
    ratio: Goal | None = None
    nova: float | None = None


def compare(
    measures: Mapping[str, Measure], wanted: Collection[str], ours: Measuring, nova: Measuring
) -> Iterator[Row]:
    """Measure the work that is wanted, ours first, and then Nova with what has a figure of Nova's."""
    found = {}
    for work, figure in ours(wanted):
        found[work] = figure
        measure = measures[work]
        if measure.goal is not None:
            yield Row(work, measure.name, figure, goal=measure.goal)
    for work, (name, figure) in theirs(measures, [work for work in wanted if work in found], nova).items():
        yield Row(work, measures[work].name, found[work], name, figure, measures[work].ratio)


def theirs(
    measures: Mapping[str, Measure], wanted: Collection[str], nova: Measuring
) -> dict[str, tuple[str, float]]:
    """Measure Nova; return for each work who it was, and the figure.

    Where Nova can't be installed, started or measured, that is told on
    standard error, and the figures that are missing are another run's.
    """
    known = {work: figure for work in wanted if (figure := measures[work].nova) is not None}
    found = {work: (OTHER, figure) for work, figure in known.items()}
    if not known:
        return found
    try:
        name = f"Nova {installs.nova().version('nova')}"
        for work, figure in nova(list(known)):
            found[work] = name, figure
    except FAILURES as exc:
        print(f"not all of Nova is measured in this run: {type(exc).__name__}: {exc}", file=sys.stderr)
    return found
