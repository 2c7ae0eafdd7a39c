"""Run Tempest's tests and judge their outcomes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGE = "api/image"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a test ended: ``pass``, ``fail`` or ``skip``; the reason is a traceback where it failed."""

    test: str
    outcome: str
    reason: str
    seconds: float

    @property
    def cause(self) -> str:
        """The reason in one line."""
        lines = [line for line in self.reason.strip().splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


def run(
    directory: Path, patterns: Sequence[str] = (), *, package: str = IMAGE, parts: int = 1, timeout: float
) -> list[Outcome]:
    """Run the tests whose names match any pattern, in ``parts`` processes; return every outcome.

    ``directory`` has tempest.conf.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    environment |= {"TEMPEST_CONFIG_DIR": str(directory), "TEMPEST_CONFIG": "tempest.conf"}
    child = Path(__file__).with_name("child.py")
    results = [directory / f"results{part}" for part in range(parts)]
    log = directory / "child.log"
    with log.open("wb") as output:
        children = [
            subprocess.Popen(
                [sys.executable, str(child), str(result), f"{part}/{parts}", package, *patterns],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
            for part, result in enumerate(results)
        ]
        try:
            ended = [process.wait(timeout) for process in children]
        finally:
            for process in children:
                if process.poll() is None:
                    process.kill()
                    process.wait()
    if any(ended):
        raise RuntimeError(f"Tempest ended with {ended}:\n{log.read_text()[-4000:]}")
    lines = [line for result in results for line in result.read_text().splitlines()]
    return [Outcome(**json.loads(line)) for line in lines]


def objections(
    outcomes: Iterable[Outcome], failures: Mapping[str, str], skips: Mapping[str, str]
) -> list[str]:
    """Say what is wrong: failures and skips nobody expected, and expected failures that passed."""
    said = []
    for each in outcomes:
        expected = _why(failures, each.test)
        if each.outcome == "fail" and expected is None:
            said.append(f"{each.test} failed: {each.cause}")
        if each.outcome == "pass" and expected is not None:
            said.append(f"{each.test} passes: take it out of FAILURES")
        if each.outcome == "skip" and _why(skips, each.reason) is None:
            said.append(f"{each.test} was skipped: {each.cause}")
    return said


def told(outcomes: Sequence[Outcome]) -> str:
    """Return a report for people: what failed and was skipped by cause, and how many passed."""
    lines = []
    for kind, heading in (("fail", "failed"), ("skip", "skipped")):
        some = [each for each in outcomes if each.outcome == kind]
        for cause, count in Counter(each.cause for each in some).most_common():
            lines.append(f"{heading} {count}: {cause}")
            lines += [f"    {each.test}" for each in some if each.cause == cause]
    counts = Counter(each.outcome for each in outcomes)
    seconds = sum(each.seconds for each in outcomes)
    lines.append(f"{dict(counts)}, {seconds:.0f} s in tests")
    return "\n".join(lines)


def _why(expected: Mapping[str, str], text: str) -> str | None:
    return next((why for pattern, why in expected.items() if re.search(pattern, text)), None)
