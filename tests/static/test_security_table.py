"""docs/security.md tells of each old hole how it is kept out here, and which tests would find it.

The table is compared with the tests: a test of a hole is named after its
report (``test_cve_2015_5163_...``, ``test_ossn_0105_...``).
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs/security.md"
CODE = ("glancelike", "novalite", "plugins")
COMMANDS = ("info", "convert", "create", "resize", "rebase", "snapshot", "check", "measure", "map")
REPORT = re.compile(r"cve_\d{4}_\d+|ossn_\d{4}")


def in_table() -> dict[str, tuple[str, ...]]:
    """Return the rows of the table: a report's id, and the files of its tests."""
    rows: dict[str, tuple[str, ...]] = {}
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not re.match(r"\| (CVE|OSSN)-", line):
            continue
        assert len(cells) == 4, line
        report, wrong, kept_out, files = cells
        assert report not in rows, f"{report} is there twice"
        assert wrong, report
        assert kept_out, report
        rows[report] = tuple(re.findall(r"`([^`]+)`", files))
    return rows


def in_tests() -> dict[str, tuple[str, ...]]:
    """Return the reports that tests are named after, and the files of these."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for report in REPORT.findall(node.name):
                    found[report.upper().replace("_", "-")].add(str(path.relative_to(ROOT / "tests")))
    return {report: tuple(sorted(files)) for report, files in found.items()}


def test_architecture_of_each_old_hole_the_table_names_the_tests() -> None:
    assert in_table() == in_tests()


def test_architecture_the_table_is_in_order() -> None:
    rows = list(in_table())
    assert rows == sorted(rows)


# What can be seen in the code alone


Nodes = Sequence[tuple[str, ast.AST]]


@pytest.fixture(scope="module")
def nodes() -> Nodes:
    """Calls and constants in the code, each with its file."""
    return [
        (str(path.relative_to(ROOT)), node)
        for package in CODE
        for path in sorted((ROOT / package).rglob("*.py"))
        if "tests" not in path.relative_to(ROOT).parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call | ast.Constant)
    ]


def calls(nodes: Nodes) -> Iterator[tuple[str, ast.Call]]:
    return ((path, node) for path, node in nodes if isinstance(node, ast.Call))


def test_architecture_cve_2014_0162_no_program_is_run_by_a_shell(nodes: Nodes) -> None:
    """A caller's value in a command line was the caller's command."""
    for path, call in calls(nodes):
        name = ast.unparse(call.func)
        assert name not in ("os.system", "os.popen", "subprocess.getoutput"), path
        assert not name.startswith(("os.spawn", "pty.", "commands.")), path
        for keyword in call.keywords:
            assert keyword.arg != "shell", f"{path}:{call.lineno}"
        if name.startswith("subprocess."):
            # A list of words, never one string to be taken apart.
            assert not isinstance(call.args[0], ast.Constant | ast.JoinedStr), f"{path}:{call.lineno}"


def test_architecture_cve_2026_24708_every_call_of_qemu_img_names_the_format(nodes: Nodes) -> None:
    """qemu-img has one way in, and each command that goes there says ``-f``."""
    commands = []
    for path, call in calls(nodes):
        words = [ast.unparse(each).strip("'") for arg in call.args for each in getattr(arg, "elts", [])]
        if ast.unparse(call.func) not in ("run", "qemuimg.run") or not words or words[0] not in COMMANDS:
            continue
        commands.append(words[0])
        assert "-f" in words, f"{path}:{call.lineno}"
        assert words[0] != "convert" or "-O" in words, f"{path}:{call.lineno}"
        assert "-b" not in words or "-F" in words, f"{path}:{call.lineno}"
    assert {"info", "convert", "create"} <= set(commands), "the test finds nothing any more"
    # Nobody else starts it.
    starting = [
        (path, call.lineno)
        for path, call in calls(nodes)
        if ast.unparse(call.func).startswith("subprocess.") and "qemu-img" in ast.unparse(call)
    ]
    assert starting == []
    names = {path for path, node in nodes if isinstance(node, ast.Constant) and node.value == "qemu-img"}
    # The last two ask whether it is installed.
    assert names == {
        "glancelike/qemuimg.py",
        "novalite/virt/libvirt.py",
        "novalite/quickstart/guest_image.py",
    }
