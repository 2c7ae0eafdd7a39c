"""``glancelike verify`` and ``glancelike image move``: copies of images in their stores."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from glancelike.errors import InvalidInput

if TYPE_CHECKING:
    from glancelike.config import Config

Configured = Callable[[argparse.Namespace], "Config"]

MIB = 1 << 20


def add_commands(nouns: Any, images: Any, configured: Configured) -> None:
    """Add the commands; ``configured`` makes the configuration of a call."""

    def add(group: Any, name: str, run: Callable[[argparse.Namespace, Config], int | None], text: str) -> Any:
        def work(arguments: argparse.Namespace) -> int | None:
            if arguments.url:
                raise InvalidInput("this works on the configured service, not on --url")
            return run(arguments, configured(arguments))

        command = group.add_parser(name, help=text, description=text)
        command.set_defaults(run=work)
        return command

    move = add(images, "move", _move, "move images' data from one store to another")
    move.add_argument("image", nargs="+", help="ids")
    move.add_argument("--from", dest="source", required=True, metavar="STORE")
    move.add_argument("--to", dest="target", required=True, metavar="STORE")
    verify = add(nouns, "verify", _verify, "read images' copies in the stores, and compare their digests")
    verify.add_argument("--image", metavar="ID", help="one image; all in use by default")
    verify.add_argument("--store", help="copies in this store; in all by default")
    verify.add_argument("--repair", action="store_true", help="make bad and missing copies from good ones")
    verify.add_argument("--rate", type=float, default=0.0, metavar="MIB", help="read so many MiB a second")
    verify.add_argument("--quiet", action="store_true", help="tell of what isn't good only")


def _move(arguments: argparse.Namespace, config: Config) -> None:
    from glancelike.config import build

    with build(config) as service:
        for image_id in arguments.image:
            moved = service.move_image(image_id, source=arguments.source, target=arguments.target)
            print(f"moved {moved.id}")


def _verify(arguments: argparse.Namespace, config: Config) -> int:
    """Print a line a copy; the status is 1 when one isn't known to be good."""
    from glancelike.config import build

    if arguments.rate < 0:
        raise InvalidInput("--rate can't be below 0")
    copies = wrong = repaired = 0
    with build(config) as service:
        for found in service.verify(
            image_id=arguments.image,
            store=arguments.store,
            repair=arguments.repair,
            rate=arguments.rate * MIB,
        ):
            copies, repaired = copies + 1, repaired + found.repaired
            wrong += not found.fine
            if not found.fine or found.repaired or not arguments.quiet:
                said = (
                    f"{found.verdict}{', repaired' * found.repaired}{', no good copy is left' * found.lost}"
                )
                reason = f": {found.reason}" if found.reason else ""
                print(f"{found.image_id} {found.location.store} {said}{reason}")
    print(f"{copies} copies, {repaired} repaired, {wrong} not known to be good")
    return 1 if wrong else 0
