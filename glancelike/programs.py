"""The programs, as their console scripts run them: imported with the garbage collector held back."""

from __future__ import annotations

from typing import NoReturn

from glancelike.web.collector import held_back


def cli() -> int:
    """Run ``glancelike``."""
    with held_back():
        from glancelike.cli import main

        return main()


def api() -> NoReturn:
    """Run ``glancelike-api``."""
    with held_back():
        from glancelike.app import main

        main()


def registry() -> NoReturn:
    """Run ``glancelike-registry``."""
    with held_back():
        from glancelike.app_registry import main

        main()


def worker() -> NoReturn:
    """Run ``glancelike-worker``."""
    with held_back():
        from glancelike.worker import main

        main()
