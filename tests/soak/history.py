"""What each process of the race did, a line a step, kept also of one that was killed.

A step is written down before it is done and again with what became of it:
of one without an end nobody knows whether it was done.
"""

from __future__ import annotations

import enum
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glancelike.errors import GlancelikeError, OutcomeUnknown


class End(enum.StrEnum):
    """What became of a step."""

    DONE = "done"
    REFUSED = "refused"  # an error that says that nothing was done
    UNKNOWN = "unknown"  # killed, or told that nobody knows
    BROKEN = "broken"  # an error that isn't one of ours, or data that isn't right


@dataclass(slots=True)
class Step:
    """One thing that a process set out to do, with all that is to be known of it."""

    worker: str
    what: str
    began: float
    image: str | None = None
    token: str = ""  # what the step leaves behind, one worker's own
    told: dict[str, Any] = field(default_factory=dict)
    end: End = End.UNKNOWN
    error: str = ""
    ended: float | None = None

    def __str__(self) -> str:
        until = f"{self.ended:.4f}" if self.ended is not None else "..."
        return (
            f"{self.began:.4f}-{until} {self.worker} {self.what} {self.token} {self.told} "
            f"{self.end} {self.error}"
        ).rstrip()


class Wrong(Exception):
    """Raised in a step's block that saw what mustn't be."""


class Log:
    """One process's steps in a file; what was written outlives a kill -9."""

    def __init__(self, path: Path, worker: str) -> None:
        self.worker = worker
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._count = 0

    def close(self) -> None:
        os.close(self._fd)

    @contextmanager
    def step(self, what: str, image: str | None = None, token: str = "", **told: Any) -> Iterator[None]:
        """Write down a step and its end; an error of the service is an end as well."""
        self._count += 1
        number = self._count
        self._write([number, what, time.time(), image, token, told])
        end, error = End.DONE, ""
        try:
            yield
        except OutcomeUnknown as unknown:
            end, error = End.UNKNOWN, f"OutcomeUnknown: {unknown}"
        except GlancelikeError as refused:
            end, error = End.REFUSED, f"{type(refused).__name__}: {refused}"
        except Exception as broken:
            end, error = End.BROKEN, f"{type(broken).__name__}: {broken}"
        self._write([number, time.time(), end, error])

    def _write(self, line: list[Any]) -> None:
        os.write(self._fd, json.dumps(line).encode() + b"\n")


class History:
    """The steps of all processes."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.steps: list[Step] = sorted(
            (step for path in paths for step in _steps(path)), key=lambda step: step.began
        )

    def of(self, image: str | None) -> list[Step]:
        """Return the steps that had to do with an image, by time."""
        return [step for step in self.steps if step.image == image]

    def select(self, image: str, *what: str, end: tuple[End, ...] = tuple(End)) -> list[Step]:
        """Return an image's steps of some kinds that ended in some ways."""
        return [step for step in self.of(image) if step.what in what and step.end in end]

    def images(self) -> set[str]:
        """Return the ids of all images that anybody had to do with."""
        return {step.image for step in self.steps if step.image is not None}

    def tokens(self, image: str) -> dict[str, list[Step]]:
        """Return an image's steps by the token they are about; each token's are one worker's, in order."""
        found: dict[str, list[Step]] = {}
        for step in self.of(image):
            if step.token:
                found.setdefault(step.token, []).append(step)
        return found

    def counts(self) -> dict[str, int]:
        """Count what was done, and which errors there were."""
        found: dict[str, int] = {}
        for step in self.steps:
            said = step.error.partition(":")[0] if step.error else step.end
            found[f"{step.what} {said}"] = found.get(f"{step.what} {said}", 0) + 1
        return dict(sorted(found.items()))


def _steps(path: Path) -> Iterator[Step]:
    found: dict[int, Step] = {}
    for line in path.read_bytes().split(b"\n")[:-1]:
        number, *rest = json.loads(line)
        if number in found:
            step = found[number]
            step.ended, step.end, step.error = rest[0], End(rest[1]), rest[2]
        else:
            what, began, image, token, told = rest
            found[number] = Step(path.stem, what, began, image, token, told)
    return iter(found.values())
