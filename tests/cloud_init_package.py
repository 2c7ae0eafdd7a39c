"""cloud-init's own code, out of the distribution's package.

The package isn't installed: a cloud-init that is would take this machine for
a cloud's when it boots next. It is fetched, verified by apt, and unpacked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from novalite.errors import ConfigError, Unavailable
from novalite.quickstart.packages import PackageArchive, run

CHILD = Path(__file__).parent / "cloud_init_child.py"


@pytest.fixture(scope="session")
def cloud_init(tmp_path_factory: pytest.TempPathFactory) -> CloudInit:
    """The unpacked package; NOVALITE_GUEST_CACHE keeps it between runs."""
    kept = os.environ.get("NOVALITE_GUEST_CACHE")
    cache = Path(kept) if kept else tmp_path_factory.mktemp("cloud-init")
    try:
        return CloudInit(_unpacked(cache))
    except (ConfigError, Unavailable) as error:
        pytest.skip(f"cloud-init's package can't be had: {error}")


def _unpacked(cache: Path) -> Path:
    found = sorted(cache.glob("cloud-init_*.deb"))
    deb = found[-1] if found else PackageArchive(cache / "apt").download("cloud-init", cache)
    tree = cache / deb.stem
    if not tree.exists():
        fresh = tree.with_suffix(".unpacking")
        run(["dpkg", "-x", str(deb), str(fresh)])
        fresh.rename(tree)
    return tree / "usr" / "lib" / "python3" / "dist-packages"


class CloudInit:
    """Runs one of cloud-init's data sources in a process of its own."""

    def __init__(self, code: Path) -> None:
        self._code = code

    def read(
        self, source: str, directory: Path, *, settings: Mapping[str, Any], mac: str, dmi: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return what a data source finds in a guest with that card and those tables of the firmware.

        ``settings`` are the source's own. Fails when it finds nothing.
        """
        told = {"source": source, "directory": str(directory), "settings": settings, "mac": mac, "dmi": dmi}
        done = subprocess.run(
            [sys.executable, str(CHILD), json.dumps(told)],
            env={**os.environ, "PYTHONPATH": str(self._code)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
