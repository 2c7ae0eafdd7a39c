"""The programs, as their console scripts run them: imported with the garbage collector held back."""

from __future__ import annotations

from typing import NoReturn

from glancelike.web.collector import held_back


def cli() -> int:
    """Run ``novalite``."""
    with held_back():
        from novalite.cli import main

        return main()


def everything() -> NoReturn:
    """Run ``novalite-all``."""
    with held_back():
        from novalite.app import main

        main()
