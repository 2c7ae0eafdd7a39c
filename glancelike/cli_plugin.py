"""``glancelike plugin new …``: a distribution to begin with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from glancelike import templates


def add_commands(group: Any) -> None:
    """Add the commands to a group of argparse's."""
    text = "make a complete distribution of a plugin that works, to change into yours"
    new = group.add_parser("new", help=text, description=text)
    new.add_argument("kind", choices=sorted(templates.KINDS))
    new.add_argument("name", help="what the configuration will call it: lower-case letters and digits")
    new.add_argument(
        "--directory", type=Path, default=Path(), metavar="DIR", help="where to make it (here by default)"
    )
    new.set_defaults(run=_new)


def _new(arguments: argparse.Namespace) -> None:
    made = templates.create(arguments.kind, arguments.name, arguments.directory)
    print(f"made {made}; go on with: cd {made} && pip install -e '.[test]' && pytest")
