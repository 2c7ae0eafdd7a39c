"""A process of its own for the registry kit: it does what its parent says.

Run as a module it reads pickled jobs from standard input and writes what
became of them to standard output.
"""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from glancelike.model import Amounts, Image, Member
from glancelike.registry.base import ADMIN, Registry

TAKER = "project-of-mine"


def create(registry: Registry, image_id: str, name: str) -> None:
    """Add an image."""
    registry.create(Image(image_id, name=name))


def update(registry: Registry, image_id: str, expect: int, name: str) -> None:
    """Rename an image whose version is known."""
    registry.update(replace(registry.get(image_id, ADMIN), name=name), expect=expect)


def add_member(registry: Registry, image_id: str, project: str, limit: int) -> None:
    """Share an image."""
    registry.add_member(Member(image_id, project), limit=limit)


def acquire_lease(registry: Registry, name: str, holder: str, seconds: float) -> bool:
    """Try for a lease."""
    return registry.acquire_lease(name, holder, seconds)


def increment(registry: Registry, image_id: str, times: int) -> int:
    """Add to the number in the name, by compare-and-set, so many times; count the attempts."""
    from glancelike.errors import StaleImage

    done = attempts = 0
    while done < times:
        attempts += 1
        image = registry.get(image_id, ADMIN)
        try:
            registry.update(replace(image, name=str(int(image.name or 0) + 1)), expect=image.version)
        except StaleImage:
            continue
        done += 1
    return attempts


def rewrite(registry: Registry, image_id: str) -> None:
    """Write everything about an image anew, for ever; all of it agrees."""
    for number in itertools.count():
        image = registry.get(image_id, ADMIN)
        registry.update(marked(image, f"mark-{number}"), expect=image.version)


def progress(registry: Registry, task_id: str, expect: int, by: int) -> None:
    """Note something on a task whose version is known."""
    registry.update_task(replace(registry.get_task(task_id), progress={"by": by}), expect=expect)


def claim_upload(registry: Registry, upload_id: str, expect: int, parts: int) -> None:
    """Note something on an upload whose version is known."""
    registry.update_upload(replace(registry.get_upload(upload_id), parts=parts), expect=expect)


def take(registry: Registry, name: str, times: int, limit: int) -> int:
    """Create images within a limit of the project's, deleting one now and then.

    Ends with as many as there is room for; returns the most that were seen.
    """
    from glancelike.errors import QuotaExceeded

    most = 0
    mine: list[str] = []
    for number in range(times):
        image_id = f"{name}-{number}"
        try:
            registry.reserve(image_id, TAKER, Amounts(images=1), {"images": limit}, 60)
        except QuotaExceeded:
            if number < times - limit and mine:
                registry.delete(mine.pop(), expect=1)
        else:
            registry.create(Image(image_id, owner=TAKER), settles=image_id)
            mine.append(image_id)
        most = max(most, registry.usage(TAKER).images)
    return most


def add_tags(registry: Registry, namespace: str, name: str, times: int) -> int:
    """Add so many tags to a namespace, one at a time, by compare-and-set; count the attempts."""
    from glancelike.errors import StaleNamespace

    done = attempts = 0
    while done < times:
        attempts += 1
        found = registry.get_namespace(namespace, ADMIN)
        tags = {**found.tags, f"{name}-{done}": {}}
        try:
            registry.update_namespace(namespace, replace(found, tags=tags), expect=found.version)
        except StaleNamespace:
            continue
        done += 1
    return attempts


def marked(image: Image, mark: str) -> Image:
    """Return the image with a name, tags and properties that all say the same."""
    return replace(
        image,
        name=mark,
        tags=frozenset(f"{mark}-{number}" for number in range(10)),
        properties={f"property-{number}": mark for number in range(20)},
    )


def is_whole(image: Image) -> bool:
    """Tell whether all of the image is of one ``marked``."""
    return image == marked(image, image.name or "")


JOBS: dict[str, Callable[..., Any]] = {
    job.__name__: job
    for job in (
        create,
        update,
        add_member,
        acquire_lease,
        increment,
        rewrite,
        progress,
        claim_upload,
        take,
        add_tags,
    )
}


class Child:
    """The parent's end of one child process."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "glancelike.testing.registry_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def start(self, registry: Registry, job: str, arguments: Sequence[object], at: float) -> None:
        """Let the child open the same registry and begin a job at the given time."""
        assert self.process.stdin is not None
        pickle.dump((type(registry), dict(registry.settings), job, tuple(arguments), at), self.process.stdin)
        self.process.stdin.flush()

    def result(self) -> object:
        """Wait for the job's end; return ``done``, True, False, or an error's class name."""
        assert self.process.stdout is not None
        return pickle.load(self.process.stdout)  # noqa: S301 - our own child

    def kill(self) -> None:
        """End the child as a power cut would."""
        self.process.kill()
        self.stop()

    def stop(self) -> None:
        """End the child and wait for it."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def together(
    children: Sequence[Child], registry: Registry, job: str, arguments: Sequence[Sequence[object]]
) -> list[object]:
    """Run a job in each child at the same moment; return their results."""
    at = time.time() + 0.3
    for child, each in zip(children, arguments, strict=True):
        child.start(registry, job, each, at)
    return [child.result() for child in children]


def main() -> None:
    """Do jobs until the parent closes the pipe."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a driver prints isn't an answer
    while True:
        try:
            kind, settings, job, arguments, at = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own parent
        except EOFError:
            return
        pickle.dump(_do(kind, settings, job, arguments, at), out)
        out.flush()


def _do(
    kind: type[Registry], settings: Mapping[str, Any], job: str, arguments: Sequence[Any], at: float
) -> object:
    registry = kind(settings)
    try:
        if job == "upgrade":
            time.sleep(max(0.0, at - time.time()))
            registry.upgrade()
            return "done"
        registry.open()
        time.sleep(max(0.0, at - time.time()))
        result = JOBS[job](registry, *arguments)
        return "done" if result is None else result
    except Exception as error:
        return type(error).__name__
    finally:
        registry.close()


if __name__ == "__main__":
    main()
