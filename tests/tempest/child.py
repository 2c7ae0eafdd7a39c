"""Run tests of Tempest in this process: ``child.py RESULTS PART/PARTS PACKAGE PATTERN...``.

Each outcome is a line of JSON in the file RESULTS. The configuration is
where the environment says (TEMPEST_CONFIG_DIR, TEMPEST_CONFIG). PACKAGE is
a directory of Tempest's, such as ``api/image``. Classes of tests are dealt
out to PARTS such processes.
"""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
import unittest
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


class Recorder(unittest.TestResult):
    """Writes down each outcome with its reason, when it is there."""

    def __init__(self, output: TextIO) -> None:
        super().__init__()
        self._output = output
        self._started = time.monotonic()

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._started = time.monotonic()

    def addSuccess(self, test: Any) -> None:
        self._write(test, "pass", "")

    def addFailure(self, test: Any, err: Any) -> None:
        self._write(test, "fail", _text(err))

    def addError(self, test: Any, err: Any) -> None:
        self._write(test, "fail", _text(err))

    def addSkip(self, test: Any, reason: str) -> None:
        self._write(test, "skip", reason)

    def _write(self, test: Any, outcome: str, reason: str) -> None:
        seconds = round(time.monotonic() - self._started, 2)
        line = {"test": test.id(), "outcome": outcome, "reason": reason, "seconds": seconds}
        self._output.write(json.dumps(line) + "\n")
        self._output.flush()


def _text(error: Any) -> str:
    return "".join(traceback.format_exception(*error))


def flat(suite: Any) -> Iterator[Any]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def main(results: Path, part: str, package: str, patterns: list[str]) -> None:
    warnings.simplefilter("ignore")
    import tempest
    from tempest.common import image

    # A test serves data of its own, and asks which address others reach this machine by.
    image.get_non_loopback_ipv4 = lambda: "127.0.0.1"
    root = Path(tempest.__file__).parent
    found = unittest.defaultTestLoader.discover(str(root / package), top_level_dir=str(root.parent))
    number, parts = (int(each) for each in part.split("/"))
    classes: dict[type, int] = {}
    chosen = []
    for test in flat(found):
        # Many want a network service to make them a network, and do nothing with it but have servers there.
        if getattr(type(test), "create_default_network", False):
            type(test).create_default_network = False
        wanted = any(re.search(pattern, test.id()) for pattern in patterns or [""])
        if wanted and classes.setdefault(type(test), len(classes)) % parts == number:
            chosen.append(test)
    with results.open("w") as output:
        unittest.TestSuite(chosen).run(Recorder(output))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
