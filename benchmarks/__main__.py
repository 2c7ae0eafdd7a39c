"""Measure everything beside a real Glance, a real Nova, and the limits, in one run.

    python -m benchmarks [--only TEXT] [--quick] [--size-mib 2048] [--repeats 3]

Look at the ratios. Servers are started here, on this disk, with one worker
each and one MariaDB. A quick look: ``--only show --quick``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks import load
from benchmarks.report import Results, Row, table
from benchmarks.stage import Stage
from benchmarks.work import api, boots, compute, crowd, files, footprint, objects
from tests.database_servers import MariaServer

MODULES = (files, crowd, objects, api, footprint, compute, boots)
WORKS = [work for module in MODULES for work in module.WORK]
RESULTS = Path(__file__).with_name("RESULTS.md")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", default=[], action="append", metavar="TEXT", help="only work whose name has it"
    )
    parser.add_argument("--list", action="store_true", help="name the work, and end")
    parser.add_argument("--size-mib", type=int, help="size of the large image (2048; 64 with --quick)")
    parser.add_argument("--repeats", type=int, help="turns of each (3; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a look: little data, one turn")
    parser.add_argument("--directory", type=Path, help="where to write; the temporary directory by default")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="keep the rows there; a part of the work replaces its own"
    )
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} from what --json keeps")
    return parser.parse_args()


def measured(stage: Stage, wanted: list[str]) -> Iterator[Row]:
    for module in MODULES:
        mine = [work for work in module.WORK if work in wanted]
        if mine:
            yield from module.measure(stage, mine)


def main() -> None:
    arguments = parsed()
    wanted = [work for work in WORKS if not arguments.only or any(text in work for text in arguments.only)]
    if arguments.list or not wanted:
        print("\n".join(WORKS))
        sys.exit(not arguments.list)
    if missing := load.missing() or MariaServer.missing():
        sys.exit(missing)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.directory) as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # a server may run as somebody else
        quick = arguments.quick
        stage = Stage(
            folder,
            arguments.size_mib or (64 if quick else 2048),
            arguments.repeats or (1 if quick else 3),
            quick,
            stack,
        )
        rows: list[Row] = []
        try:
            rows.extend(measured(stage, wanted))
        finally:  # what was measured before something failed isn't lost
            Console(width=130).print(table(sorted(rows, key=lambda row: WORKS.index(row.work))))
            if arguments.json:
                keep(rows, arguments, whole=wanted == WORKS)


def keep(rows: list[Row], arguments: argparse.Namespace, *, whole: bool) -> None:
    results = Results({}, {}) if whole or not arguments.json.exists() else Results.read(arguments.json)
    results.add(rows, f"python -m benchmarks {shlex.join(sys.argv[1:])}".strip())
    results.write(arguments.json)
    if arguments.write:
        RESULTS.write_text(results.markdown(WORKS, machine()))


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return (
        f"{os.cpu_count()} cores, {memory} GiB, Python {sys.version.split()[0]}, Linux {os.uname().release}."
    )


if __name__ == "__main__":
    main()
