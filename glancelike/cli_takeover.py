"""``glancelike db import-glance``: take over what a Glance has."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glancelike.errors import ConfigError

if TYPE_CHECKING:
    from glancelike.config import Config
    from glancelike.service.takeover import Outcome

VARIABLE = "GLANCE_DATABASE_CONNECTION"
TAKEN = {"taken": "taken over", "kept": "deleted: id kept", "there": "there already", "skipped": "skipped"}


def add_command(group: Any, configured: Callable[[argparse.Namespace], Config]) -> None:
    """Add the command to the group ``db``."""
    text = "take over images and metadata definitions of a Glance, whose bytes stay where they are"
    command = group.add_parser("import-glance", help=text, description=text)
    command.set_defaults(run=lambda arguments: _import(arguments, configured(arguments)))
    command.add_argument(
        "connection",
        nargs="?",
        default=os.environ.get(VARIABLE),
        metavar="URL",
        help=f"Glance's database, as [database] connection of its glance-api.conf says (${VARIABLE})",
    )
    command.add_argument("--dry-run", action="store_true", help="write nothing; tell of each image")
    command.add_argument("--verbose", action="store_true", help="tell of each image, not only what is odd")
    command.add_argument(
        "--unseen",
        action="store_true",
        help="don't look whether the stores have the data: saves a request an image",
    )
    command.add_argument(
        "--metadata-encryption-key-file",
        type=Path,
        metavar="FILE",
        help="file with Glance's metadata_encryption_key, if it has one",
    )


def _import(arguments: argparse.Namespace, config: Config) -> int:
    """Print a line for whatever is odd, and a summary; the status is 1 when something was skipped."""
    from glancelike.config import build_registry, build_stores
    from glancelike.registry.sql.glance import GlanceDatabase
    from glancelike.service.glance_locations import Decryption
    from glancelike.service.takeover import Takeover

    if not arguments.connection:
        raise ConfigError(f"import-glance needs the URL of Glance's database, as argument or in ${VARIABLE}")
    file = arguments.metadata_encryption_key_file
    decryption = Decryption(None if file is None else file.read_text().strip())
    registry, mounts = build_registry(config), build_stores(config)
    with closing(GlanceDatabase(arguments.connection)) as glance:
        glance.check()
        registry.open()
        with closing(registry):
            mounts.open()
            with closing(mounts):
                takeover = Takeover(
                    registry,
                    mounts,
                    decryption=decryption,
                    look=not arguments.unseen,
                    dry_run=arguments.dry_run,
                )
                every = arguments.verbose or arguments.dry_run
                skipped = _told("image", takeover.images(glance.images()), every)
                skipped += _told("namespace", takeover.namespaces(glance.namespaces()), every)
    return 1 if skipped else 0


def _told(what: str, outcomes: Iterable[Outcome], every: bool) -> int:
    """Print what became of each; return how many were skipped."""
    counts = Counter(dict.fromkeys(TAKEN, 0))
    for each in outcomes:
        counts[each.verdict] += 1
        if every or each.note:
            print(
                f"{what} {each.id}: {TAKEN[each.verdict]}{': ' if each.note else ''}{each.note}", flush=True
            )
    print(
        f"{what}s: " + ", ".join(f"{counts[verdict]} {said}" for verdict, said in TAKEN.items()), flush=True
    )
    return counts["skipped"]
