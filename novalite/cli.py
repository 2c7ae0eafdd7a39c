"""The command line of novalite's operator: ``novalite db …``, ``novalite config …``, ``novalite policy …``.

Servers are worked with by OpenStack's own clients.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from novalite.errors import ConfigError, NovaliteError

if TYPE_CHECKING:
    from novalite.db import Database


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 for an error, 2 for a wrong configuration."""
    parser = argparse.ArgumentParser(prog="novalite", description="A lean compute, as a command.")
    parser.add_argument("--config-file", action="append", default=[], metavar="FILE", help="configuration")
    nouns = parser.add_subparsers(required=True, metavar="COMMAND")
    database = nouns.add_parser("db", help="the database's schema").add_subparsers(required=True)
    text = "create the schema or bring it up to date"
    database.add_parser("upgrade", help=text, description=text).set_defaults(run=_db_upgrade)
    text = "tell whether the schema is what this version needs"
    database.add_parser("check", help=text, description=text).set_defaults(run=_db_check)
    samples = nouns.add_parser("config", help="the configuration").add_subparsers(required=True)
    text = "print a sample file"
    samples.add_parser("sample", help=text, description=text).set_defaults(run=_config_sample)
    policies = nouns.add_parser("policy", help="the policy rules").add_subparsers(required=True)
    policies.add_parser("sample", help=text, description=text).set_defaults(run=_policy_sample)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except NovaliteError as error:
        print(f"novalite: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _database(arguments: argparse.Namespace) -> Database:
    from novalite.config import load
    from novalite.db import Database

    argv = [word for path in arguments.config_file for word in ("--config-file", path)]
    told = load(argv).database
    return Database(told.connection, told.options)


def _db_upgrade(arguments: argparse.Namespace) -> None:
    _database(arguments).upgrade()


def _db_check(arguments: argparse.Namespace) -> None:
    database = _database(arguments)
    database.open()
    database.close()
    print(f"the schema is at revision {database.head()}, which is what this version needs")


def _config_sample(_arguments: argparse.Namespace) -> None:
    from novalite.config import sample

    print(sample(), end="")


def _policy_sample(_arguments: argparse.Namespace) -> None:
    from novalite.policy import sample

    print(sample(), end="")


if __name__ == "__main__":
    sys.exit(main())
