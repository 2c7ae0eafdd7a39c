"""The command line of novalite's operator: ``novalite db|image|console|config|policy …``.

Servers are worked with by OpenStack's own clients.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glancelike.cli_purge import add_purge_arguments, batches, cutoff
from novalite.errors import ConfigError, InvalidInput, NovaliteError, QueueDown

if TYPE_CHECKING:
    from novalite.config import Settings
    from novalite.db import Database


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 for an error, 2 for a wrong configuration."""
    parser = argparse.ArgumentParser(prog="novalite", description="A lean compute, as a command.")
    parser.add_argument("--config-file", action="append", default=[], metavar="FILE", help="configuration")
    nouns = parser.add_subparsers(required=True, metavar="COMMAND")
    database = nouns.add_parser("db", help="the database").add_subparsers(required=True)
    text = "create the schema or bring it up to date"
    database.add_parser("upgrade", help=text, description=text).set_defaults(run=_db_upgrade)
    text = "tell whether the schema is what this version needs"
    database.add_parser("check", help=text, description=text).set_defaults(run=_db_check)
    text = "drop what is left of deleted servers"
    purge = database.add_parser("purge", help=text, description=text)
    add_purge_arguments(purge, "servers")
    purge.set_defaults(run=_db_purge)
    images = nouns.add_parser("image", help="images on hosts").add_subparsers(required=True)
    text = "have hosts fetch images before a server needs them"
    ahead = images.add_parser("precache", help=text, description=text)
    where = ahead.add_mutually_exclusive_group(required=True)
    where.add_argument("--host", action="append", help="a host; may be given again")
    where.add_argument("--aggregate", help="all hosts of an aggregate: its name, or else its id")
    ahead.add_argument("image", nargs="+", metavar="IMAGE", help="an image's id")
    ahead.set_defaults(run=_image_precache)
    samples = nouns.add_parser("config", help="the configuration").add_subparsers(required=True)
    text = "print a sample file"
    samples.add_parser("sample", help=text, description=text).set_defaults(run=_config_sample)
    policies = nouns.add_parser("policy", help="the policy rules").add_subparsers(required=True)
    policies.add_parser("sample", help=text, description=text).set_defaults(run=_policy_sample)
    text = "put this terminal through to a server's serial console; Ctrl-] leaves it"
    console = nouns.add_parser("console", help=text, description=text)
    console.add_argument("url", help="what `openstack console url show --serial -c url -f value SERVER` says")
    console.set_defaults(run=_console)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except NovaliteError as error:
        print(f"novalite: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    from novalite.config import load

    return load([word for path in arguments.config_file for word in ("--config-file", path)])


def _database(arguments: argparse.Namespace) -> Database:
    from novalite.db import Database

    told = _settings(arguments).database
    return Database(told.connection, told.options)


def _db_upgrade(arguments: argparse.Namespace) -> None:
    _database(arguments).upgrade()


def _db_check(arguments: argparse.Namespace) -> None:
    database = _database(arguments)
    database.open()
    database.close()
    print(f"the schema is at revision {database.head()}, which is what this version needs")


def _db_purge(arguments: argparse.Namespace) -> None:
    before = cutoff(arguments, InvalidInput)
    database = _database(arguments)
    database.open()
    done, after = 0, ""
    try:
        for limit in batches(arguments):
            purged, last = database.upkeep.purge(before, after=after, limit=limit)
            done += purged
            if last is None:
                break
            after = last
    finally:
        database.close()
    print(f"purged {done} servers")


def _image_precache(arguments: argparse.Namespace) -> None:
    from novalite.compose import NO_ROLES, build_all, is_alone
    from novalite.model import Caller

    settings, caller = _settings(arguments), Caller.administrator()
    if is_alone(settings):
        raise ConfigError(
            "transport_url stays within each process, so no host hears of this; ask the Compute API: "
            "POST /os-aggregates/ID/images"
        )
    with build_all(settings, roles=NO_ROLES) as node:
        aggregates = node.service.aggregates
        hosts = arguments.host or aggregates.named(caller, arguments.aggregate).hosts
        told = aggregates.precache_on(caller, sorted(set(hosts)), arguments.image)
    if node.unsent:
        raise QueueDown("the message queue didn't take it: no host may have heard of this")
    print(f"told {', '.join(told) or 'no host, as none is up and enabled'}")
    if left := sorted(set(hosts) - set(told)):
        print(f"not told, as they are down or disabled: {', '.join(left)}")


def _console(arguments: argparse.Namespace) -> None:
    from novalite.terminal import join

    print(f"console: {join(arguments.url)}", file=sys.stderr)


def _config_sample(_arguments: argparse.Namespace) -> None:
    from novalite.config import sample

    print(sample(), end="")


def _policy_sample(_arguments: argparse.Namespace) -> None:
    from novalite.policy import sample

    print(sample(), end="")


if __name__ == "__main__":
    sys.exit(main())
