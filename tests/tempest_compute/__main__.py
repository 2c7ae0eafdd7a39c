"""``python -m tests.tempest_compute [PATTERN...]``: run Tempest's compute tests and report."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.tempest import report
from tests.tempest_compute import known
from tests.tempest_compute.cloud import PACKAGE, cloud

HOUR = 3600.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tempest_compute", description=__doc__)
    parser.add_argument("patterns", nargs="*", help="only tests whose names match any of these")
    parser.add_argument("--directory", type=Path, help="where logs stay; a temporary one by default")
    parser.add_argument("--processes", type=int, default=2, help="tests at a time (default: %(default)s)")
    given = parser.parse_args()
    patterns = [f"^(?!.*({known.ELSEWHERE})).*({each})" for each in given.patterns or [""]]
    with tempfile.TemporaryDirectory(prefix="tempest-", ignore_cleanup_errors=True) as temporary:
        root: Path = given.directory or Path(temporary)
        root.mkdir(exist_ok=True)
        with cloud(root):
            outcomes = report.run(root, patterns, package=PACKAGE, parts=given.processes, timeout=HOUR)
    print(report.told(outcomes))
    wrong = report.objections(outcomes, known.FAILURES, known.SKIPS)
    print(*wrong, sep="\n")
    return 1 if wrong or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
