"""``python -m tests.nova_bodies``: hold what the Compute API takes and gives against Nova's schemas.

Nova is installed from PyPI into an environment of its own, and says what its schemas
are; then the API's tests (or those that are named) run with each request and each answer looked at.
``--strict`` prints as well which requests are refused that fit Nova's schemas, which mostly is right.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks import installs
from tests.nova_bodies import known

ROOT = Path(__file__).parents[2]
#: The modules that ask the API within their own process.
TESTS = (
    *("api", "microversions", "actions", "aggregates", "changes", "groups", "hosts", "moves"),
    *("policy", "quotas", "reports"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.nova_bodies", description=__doc__)
    parser.add_argument("--strict", action="store_true", help="tell of what is refused as well")
    given, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="nova-bodies-") as directory:
        schemas, found = Path(directory) / "schemas", Path(directory) / "found"
        python = installs.nova().program("python")
        with schemas.open("w") as file:
            subprocess.run(
                [python, "-W", "ignore", str(Path(__file__).with_name("dump.py"))], stdout=file, check=True
            )
        modules = [f"tests/functional/test_compute_{name}.py" for name in TESTS]
        words = more or [*modules, "tests/unit/test_compute_policy.py"]
        tests = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "tests.nova_bodies.plugin", *words],
            cwd=ROOT,
            env={**os.environ, "NOVA_BODIES": str(schemas), "NOVA_FOUND": str(found)},
            check=False,
        )
        lines = found.read_text().splitlines() if found.exists() else []
    wrong = 0
    kinds = Counter[str]()
    for each in map(json.loads, lines):
        kinds[each["kind"]] += 1
        if each["kind"] == "looked at":
            continue
        told = f"{each['kind']} {each['method']} {each['path']} {each.get('action') or '-'}: "
        unknown = [fault for fault in each["faults"] if not fits(told + fault)]
        if each["kind"] == "strict":
            if given.strict:
                print(told, *each["faults"], each["value"])
        elif unknown or not each["faults"]:
            wrong += 1
            print(f"{told}{'; '.join(unknown)} (2.{each['minor']}, {each['test']})")
    looked = kinds.pop("looked at", 0)
    print(f"{looked} requests and answers looked at; {dict(kinds)}, {wrong} of them not as Nova has it")
    return 1 if wrong or tests.returncode else 0


def fits(told: str) -> bool:
    """Tell whether it is known why something doesn't fit."""
    return any(re.search(pattern, told) for pattern in known.FITTING)


if __name__ == "__main__":
    sys.exit(main())
