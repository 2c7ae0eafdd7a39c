"""``glancelike store …``: do the mounted stores do what they promise?"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, Any

from glancelike.cli_output import shown
from glancelike.errors import InvalidInput

AT_ONCE = 4  # stores that are tried at a time
Result = dict[str, Any]


def add_commands(group: Any) -> None:
    """Add the commands to a group of argparse's."""
    text = "try what each store promises on its real backend, and clean up; status 1 if one is broken"
    check = group.add_parser("check", help=text, description=text)
    check.add_argument("store", nargs="*", help="ids of stores; all by default")
    check.add_argument("--installed", action="store_true", help="load every other installed driver, too")
    check.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="how long a store may take (60)"
    )
    check.add_argument("--json", action="store_true")
    check.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    from glancelike import config, plugins

    argv = [word for path in arguments.config_file for word in ("--config-file", path)]
    stores = config.backends(argv, prog="glancelike")
    unknown = sorted(set(arguments.store) - set(stores))
    if unknown:
        raise InvalidInput(f"no store is configured as {', '.join(unknown)}: there are {', '.join(stores)}")
    jobs: list[Result] = [
        {"store": name, "driver": driver, "argv": argv}
        for name, driver in stores.items()
        if not arguments.store or name in arguments.store
    ]
    if arguments.installed:
        others = [name for name in plugins.available("glancelike.stores") if name not in stores.values()]
        jobs += [{"store": None, "driver": name} for name in others]
    results = [
        result
        for start in range(0, len(jobs), AT_ONCE)
        for result in _tried(jobs[start : start + AT_ONCE], arguments.timeout)
    ]
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
        _print(results)
    return 1 if any(result["status"] == "broken" for result in results) else 0


class _Child:
    """A store being tried, in a process of its own that can be killed with all it started."""

    def __init__(self, job: Result, seconds: float) -> None:
        import tempfile

        self.job = job
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self._killed = False
        self._events: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in result()
        self._process = subprocess.Popen(
            # -P: a module of the current directory is no plugin.
            [sys.executable, "-P", "-m", "glancelike.probe"],
            stdin=subprocess.PIPE,
            stdout=self._events,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        with suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(json.dumps(job).encode())

    def result(self) -> Result:
        """Wait for the end, in time or by force, and tell how it went."""
        try:
            status = self._process.wait(max(0.0, self._end - time.monotonic()))
            why = f"its process was killed by {signal.Signals(-status).name}" if status < 0 else ""
            why = why or f"its process ended with status {status}"
        except subprocess.TimeoutExpired:
            why = f"no answer in {self._seconds:g} seconds"
        self.kill()
        with self._events as events:
            events.seek(0)
            return _result(self.job, events.read(), why)

    def kill(self) -> None:
        """Kill it, once, and what it started: that may run on when it has ended."""
        if not self._killed:
            self._killed = True
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _tried(jobs: Sequence[Result], seconds: float) -> Iterator[Result]:
    children: list[_Child] = []
    try:
        for job in jobs:
            children.append(_Child(job, seconds))
        for child in children:
            yield child.result()
    finally:
        for child in children:
            child.kill()


def _result(job: Result, written: bytes, why: str) -> Result:
    """Put together what a child has told; ``why`` is how it ended."""
    result: Result = {
        "store": job["store"],
        "driver": job["driver"],
        "status": "ok",
        "reason": "",
        "capabilities": [],
        "checks": {},
        "probe": {},
    }
    step, wrong = "start", []
    done = False
    for line in written.decode(errors="replace").splitlines():
        with suppress(ValueError):  # the last line of one that was killed
            event = json.loads(line)
            step = event.get("begun", step)
            done = done or "done" in event
            if "step" in event:
                result["checks"][event["step"]] = event["said"] or ("ok" if event["ok"] else "failed")
                if not event["ok"]:
                    wrong.append(f"{event['step']}: {event['said']}")
            result["capabilities"] = event.get("capabilities", result["capabilities"])
            result["probe"] = event.get("probe", result["probe"])
            result["reason"] = event.get("note", result["reason"])
    if not done:
        wrong.append(f"{step}: {why}")
    if wrong:
        result["status"], result["reason"] = "broken", "; ".join(wrong)
    return result


def _print(results: Sequence[Result]) -> None:
    """Print a paragraph a store; a line a store, without frills, where it isn't for a terminal."""
    for result in results:
        capabilities = " ".join(result["capabilities"])
        probe = "; ".join(f"{feature}: {said}" for feature, said in result["probe"].items())
        name, driver, status, reason = (result[key] for key in ("store", "driver", "status", "reason"))
        if not sys.stdout.isatty():
            print("\t".join([name or "-", driver, status, reason, capabilities, probe]))
            continue
        print(f"{name or '-'} ({driver}): {status}")
        for told, text in (("reason", reason), ("capabilities", capabilities), ("probe", probe)):
            if text:
                print(f"  {told}: {shown(text)}")
