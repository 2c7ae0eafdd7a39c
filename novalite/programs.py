"""The programs, as their console scripts run them: everything is imported while they start."""

from __future__ import annotations

from typing import NoReturn

from glancelike.starting import starting


def cli() -> int:
    """Run ``novalite``."""
    with starting():
        from novalite.cli import main

        return main()


def bases() -> int:
    """Run ``novalite-bases``."""
    with starting():
        from novalite.bases.process import main

        return main()


def everything() -> NoReturn:
    """Run ``novalite-all``."""
    with starting():
        from novalite.app import main

        main()


def api() -> NoReturn:
    """Run ``novalite-api``."""
    with starting():
        from novalite.app import api

        api()


def scheduler() -> NoReturn:
    """Run ``novalite-scheduler``."""
    with starting():
        from novalite.worker import scheduler

        scheduler()


def compute() -> NoReturn:
    """Run ``novalite-compute``."""
    with starting():
        from novalite.worker import compute

        compute()


def serialproxy() -> NoReturn:
    """Run ``novalite-serialproxy``."""
    with starting():
        from novalite.serialproxy import main

        main()


def metadata() -> NoReturn:
    """Run ``novalite-metadata``."""
    with starting():
        from novalite.metadata import main

        main()
