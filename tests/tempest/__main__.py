"""``python -m tests.tempest [PATTERN...]``: run Tempest's image tests and report."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.tempest import features, known, report
from tests.tempest.cloud import cloud

HOUR = 3600.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tempest", description=__doc__)
    parser.add_argument("patterns", nargs="*", help="only tests whose names match any of these")
    parser.add_argument("--directory", type=Path, help="where logs stay; a temporary one by default")
    parser.add_argument("--processes", type=int, default=2, help="tests at a time (default: %(default)s)")
    parser.add_argument(
        "--features",
        default=",".join(sorted(features.READY)),
        help=f"what is switched on, of {','.join(features.FEATURES)} (default: %(default)s)",
    )
    given = parser.parse_args()
    ready = frozenset(name for name in given.features.split(",") if name)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="tempest-", ignore_cleanup_errors=True) as temporary:
        root: Path = given.directory or Path(temporary)
        root.mkdir(exist_ok=True)
        for number, (wanted, pattern) in enumerate(features.PASSES):
            patterns = [f"(?=.*({each}))(?=.*({pattern}))" for each in given.patterns] or [pattern]
            directory = root / f"pass{number}"
            directory.mkdir()
            with cloud(directory, wanted & ready) as running:
                outcomes += report.run(running.directory, patterns, parts=given.processes, timeout=HOUR)
    print(report.told(outcomes))
    wrong = report.objections(outcomes, known.FAILURES, known.SKIPS)
    print(*wrong, sep="\n")
    return 1 if wrong or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
