"""The programs, as their console scripts run them: everything is imported while they start."""

from __future__ import annotations

from typing import NoReturn

from glancelike.starting import starting


def cli() -> int:
    """Run ``glancelike``."""
    with starting():
        from glancelike.cli import main

        return main()


def api() -> NoReturn:
    """Run ``glancelike-api``."""
    with starting():
        from glancelike.app import main

        main()


def registry() -> NoReturn:
    """Run ``glancelike-registry``."""
    with starting():
        from glancelike.app_registry import main

        main()


def worker() -> NoReturn:
    """Run ``glancelike-worker``."""
    with starting():
        from glancelike.worker import main

        main()
