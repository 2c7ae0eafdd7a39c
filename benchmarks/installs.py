"""Environments of their own: ours as an operator installs it, Glance's and Nova's. Kept in ``var/bench``."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from benchmarks.measuring import size_of

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "var" / "bench"
PROJECT = ("glancelike", "novalite", "setup.cfg", "pyproject.toml", "README.md")
STORES = ("plugins/store-s3", "plugins/store-swift")
LEFT = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")


@dataclass(frozen=True)
class Install:
    """An environment: where its programs are, and what it was with nothing optional in it."""

    programs: str
    packages: int
    size: int  # bytes, compiled modules included

    def program(self, name: str) -> str:
        return f"{self.programs}/{name}"

    def version(self, package: str) -> str:
        """Return the version of a package that is in it."""
        asking = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"
        command = [self.program("python"), "-c", asking, package]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@cache
def glance() -> Install:
    """Return Glance, with its drivers of databases and stores, and two servers to run it."""
    more = ("pymysql", "boto3", "python-swiftclient", "pyuwsgi", "gunicorn >= 27")
    return _installed("glance", ["glance >= 33, < 34"], more)


@cache
def nova() -> Install:
    """Return Nova and Placement of one release, with drivers of database and hypervisor, and a server."""
    core = ["nova >= 34, < 35", "openstack-placement >= 16, < 17"]
    return _installed("nova", core, ("pymysql", "libvirt-python >= 9", "pyuwsgi"))


@cache
def ours() -> Install:
    """Return our programs, with their drivers of databases, stores, queue and hypervisor."""
    # Of a copy, since pip leaves what it builds beside the sources.
    tree = KEPT / "tree"
    more = (f"{tree}[mysql,compute]", *(str(tree / each) for each in STORES))
    return _installed("ours", [str(tree)], more, state=_state(tree))


def _installed(name: str, core: Sequence[str], more: Sequence[str], state: str = "") -> Install:
    """Install what isn't, or is outdated."""
    directory = KEPT / name
    stamp, wanted = directory / "stamp.json", [*core, *more, sys.version, str(ROOT), state]
    if stamp.exists():
        seen = json.loads(stamp.read_text())
        if seen["wanted"] == wanted:
            return Install(**seen["install"])
    print(f"installing {name} into {directory}", file=sys.stderr)
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    python = directory / "bin" / "python"
    _pip(python, "install", "--quiet", "--compile", *core)
    listed = json.loads(_pip(python, "list", "--format=json"))
    install = Install(str(python.parent), len(listed), size_of([directory / "lib"]))
    _pip(python, "install", "--quiet", "--compile", *more)
    stamp.write_text(json.dumps({"wanted": wanted, "install": asdict(install)}))
    return install


def _pip(python: Path, *words: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pip {' '.join(words)}: {done.stderr[-3000:]}")
    return done.stdout


def _state(tree: Path) -> str:
    """Copy what is installed from the sources; return a name of its state."""
    shutil.rmtree(tree, ignore_errors=True)
    digest = hashlib.sha256()
    for top in (*PROJECT, *STORES):
        source = ROOT / top
        if source.is_dir():
            shutil.copytree(source, tree / top, ignore=LEFT)
        else:
            tree.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tree)
    for file in sorted(tree.rglob("*")):
        if file.is_file():
            digest.update(str(file.relative_to(tree)).encode() + file.read_bytes())
    return digest.hexdigest()
