"""The distribution's package archive, used without a change to the system."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from novalite.errors import ConfigError, Unavailable


class PackageArchive:
    """The package archive, read with lists of our own where the system's are stale."""

    def __init__(self, state: Path) -> None:
        """``state`` is a directory for lists of our own."""
        self._state = state
        self._options: list[str] = []

    def show(self, package: str) -> str:
        """Return what the archive says of a package; raise Unavailable."""
        try:
            return self._show(package)
        except Unavailable:
            self._refresh()
            return self._show(package)

    def _show(self, package: str) -> str:
        return self._run("apt-cache", "show", "--no-all-versions", package)

    def download(self, package: str, folder: Path) -> Path:
        """Fetch a package, which apt verifies, into a folder; raise Unavailable."""
        try:
            self._run("apt-get", "download", package, cwd=folder)
        except Unavailable:
            self._refresh()  # lists that are too old name files the archive no longer has
            self._run("apt-get", "download", package, cwd=folder)
        return next(folder.glob(f"{package}_*.deb"))

    def _refresh(self) -> None:
        """Fetch package lists to a place of our own, and use these from now on."""
        if self._options:
            return
        for name in ("lists/partial", "cache/archives/partial"):
            (self._state / name).mkdir(parents=True, exist_ok=True)
        settings = {
            "Dir::State": self._state,
            "Dir::State::lists": self._state / "lists",
            "Dir::State::status": "/var/lib/dpkg/status",
            "Dir::Cache": self._state / "cache",
        }
        self._options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        self._run("apt-get", "update")

    def _run(self, program: str, *args: str, cwd: Path | None = None) -> str:
        # as root apt downloads as a user who may not see our folder
        options = [*self._options, "-q", "-o", "APT::Sandbox::User=root"]
        try:
            return run([program, *options, *args], cwd=cwd)
        except ConfigError as exc:
            raise Unavailable(str(exc)) from exc


def run(argv: Sequence[str], *, cwd: Path | None = None) -> str:
    """Run a program and return what it printed; raise ConfigError when it fails."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd=cwd,
            timeout=900,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ConfigError(f"{argv[0]}: {exc}") from exc
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip()
        raise ConfigError(f"{argv[0]} failed with status {done.returncode}: {told[-500:]}")
    return done.stdout.decode(errors="replace")
