"""The command line: ``glancelike image …``, and what an operator needs.

The image commands work on a server (``--url``) or, without one, on the
service that the configuration describes, in this very process. Only what a
command needs is imported, where it does its work: ``--help`` needs none of it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from glancelike.cli_backend import Backend, Remote
from glancelike.cli_copies import add_commands as add_copy_commands
from glancelike.cli_db import add_commands as add_db_commands
from glancelike.cli_metadefs import add_commands as add_metadef_commands
from glancelike.cli_output import Progress, complain, print_table
from glancelike.cli_plugin import add_commands as add_plugin_commands
from glancelike.cli_store import add_commands as add_store_commands
from glancelike.cli_takeover import add_command as add_takeover_command
from glancelike.errors import ConfigError, GlancelikeError, InvalidInput
from glancelike.starting import settle

if TYPE_CHECKING:
    from glancelike.config import Config


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 for an error, 2 for a wrong call."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except GlancelikeError as error:
        complain(error)
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="glancelike", description="An image service, as a command.")
    parser.add_argument("--config-file", action="append", default=[], metavar="FILE", help="configuration")
    parser.add_argument(
        "--url",
        default=os.environ.get("GLANCELIKE_URL"),
        help="use this image server, not the configured service ($GLANCELIKE_URL)",
    )
    parser.add_argument(
        "--user",
        default=os.environ.get("GLANCELIKE_USER"),
        help="for --url: user ($GLANCELIKE_USER); the password is taken from $GLANCELIKE_PASSWORD",
    )
    nouns = parser.add_subparsers(dest="noun", required=True, metavar="COMMAND")
    images = nouns.add_parser("image", help="work with images").add_subparsers(required=True)
    _image_commands(images)
    add_copy_commands(nouns, images, _config)
    database = nouns.add_parser("db", help="the registry's schema").add_subparsers(required=True)
    add_db_commands(database, _config)
    add_takeover_command(database, _config)
    metadefs = nouns.add_parser("metadefs", help="metadata definitions").add_subparsers(required=True)
    add_metadef_commands(metadefs, _config)
    samples = nouns.add_parser("config", help="the configuration").add_subparsers(required=True)
    _command(samples, "sample", _config_sample, "print a sample file")
    policies = nouns.add_parser("policy", help="the policy rules").add_subparsers(required=True)
    _command(policies, "sample", _policy_sample, "print a sample file")
    api = nouns.add_parser("api", help="the Image API").add_subparsers(required=True)
    _command(api, "coverage", _api_coverage, "print the table of all operations")
    add_store_commands(nouns.add_parser("store", help="the mounted stores").add_subparsers(required=True))
    add_plugin_commands(nouns.add_parser("plugin", help="new plugins").add_subparsers(required=True))
    _command(nouns, "scrub", _scrub, "delete for good what was deleted scrub_time ago (delayed_delete)")
    collect = _command(nouns, "gc", _gc, "remove data that no image names")
    collect.add_argument("--grace", type=float, default=3600, metavar="SECONDS", help="spare younger data")
    collect.add_argument("--dry-run", action="store_true", help="only tell")
    return parser


def _command(group: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = group.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    return command


def _image_commands(group: Any) -> None:
    create = _command(group, "create", _image_create, "create an image, with data if --file is given")
    create.add_argument("name")
    create.add_argument("--file", help="data; - is standard input")
    create.add_argument("--disk-format", help="raw, qcow2, vmdk, …")
    create.add_argument("--container-format", default="bare", help="bare, ovf, …")
    create.add_argument("--id", help="a UUID; made up by default")
    create.add_argument("--visibility", choices=("public", "community", "shared", "private"))
    create.add_argument("--property", action="append", default=[], metavar="KEY=VALUE")
    create.add_argument("--tag", action="append", default=[])
    create.add_argument("--min-disk", type=int, metavar="GIB")
    create.add_argument("--min-ram", type=int, metavar="MIB")
    create.add_argument("--store", help="the store for the data")
    create.add_argument("--json", action="store_true")
    show = _command(group, "show", _image_show, "show an image")
    show.add_argument("image", help="name or id")
    show.add_argument("--json", action="store_true")
    listing = _command(group, "list", _image_list, "list images")
    listing.add_argument("--name")
    listing.add_argument("--json", action="store_true")
    save = _command(group, "save", _image_save, "save an image's data to a file, verified")
    save.add_argument("image", help="name or id")
    save.add_argument("--file", required=True, help="target; - is standard output")
    delete = _command(group, "delete", _image_delete, "delete images")
    delete.add_argument("image", nargs="+", help="names or ids")
    restore = _command(group, "restore", _image_restore, "bring back deleted images that aren't scrubbed yet")
    restore.add_argument("image", nargs="+", help="ids")


def _config(arguments: argparse.Namespace) -> Config:
    from glancelike import config as configuration

    argv = [word for path in arguments.config_file for word in ("--config-file", path)]
    config = configuration.load(argv, prog="glancelike")
    settle()
    return config


def _backend(arguments: argparse.Namespace) -> Backend:
    if arguments.url:
        user, password = arguments.user, os.environ.get("GLANCELIKE_PASSWORD", "")
        remote = Remote(arguments.url, (user, password) if user else None)
        settle()
        return remote
    from glancelike.cli_embedded import Embedded
    from glancelike.config import build

    return Embedded(build(_config(arguments)))


# Images


def _image_create(arguments: argparse.Namespace) -> None:
    values: dict[str, Any] = {"name": arguments.name}
    for name in ("disk_format", "container_format", "id", "visibility", "min_disk", "min_ram"):
        if getattr(arguments, name) is not None:
            values[name] = getattr(arguments, name)
    if arguments.tag:
        values["tags"] = arguments.tag
    for pair in arguments.property:
        key, found, value = pair.partition("=")
        if not found:
            raise InvalidInput(f"--property {pair}: expected KEY=VALUE")
        values[key] = value
    if arguments.file and not arguments.disk_format:
        raise InvalidInput("--disk-format is needed with --file")
    with _backend(arguments) as backend:
        if not arguments.file:
            return _print_image(backend.create(values), arguments.json)
        with _open_source(arguments.file) as source:
            size = _size(source)
            record = backend.create(values)
            try:
                with Progress("upload", size) as progress:
                    backend.upload(record["id"], source, size, arguments.store, progress.advance)
            except BaseException:
                # An image without data is no use to whoever asked for one with.
                backend.delete(record["id"])
                raise
        return _print_image(backend.show(record["id"]), arguments.json)


def _open_source(name: str) -> BinaryIO:
    return sys.stdin.buffer if name == "-" else Path(name).open("rb")


def _size(source: BinaryIO) -> int | None:
    """Return the size of a regular file; of a pipe nobody knows it."""
    path = Path(f"/proc/self/fd/{source.fileno()}")
    return path.stat().st_size - source.tell() if path.is_file() else None


def _image_show(arguments: argparse.Namespace) -> None:
    with _backend(arguments) as backend:
        _print_image(backend.find(arguments.image), arguments.json)


def _image_list(arguments: argparse.Namespace) -> None:
    with _backend(arguments) as backend:
        images = list(backend.list(arguments.name))
    if arguments.json:
        print(json.dumps(images, indent=2))
        return
    print_table(
        ("ID", "Name", "Status", "Format", "Size", "Visibility"),
        (
            (
                image["id"],
                image["name"] or "",
                image["status"],
                image["disk_format"] or "",
                "" if image["size"] is None else f"{image['size']:,}",
                image["visibility"],
            )
            for image in images
        ),
    )


def _image_save(arguments: argparse.Namespace) -> None:
    with _backend(arguments) as backend:
        image = backend.find(arguments.image)
        with Progress("download", image["size"]) as progress:
            if arguments.file == "-":
                backend.save(image["id"], sys.stdout.buffer, progress.advance)
                sys.stdout.buffer.flush()
            else:
                _save_to(backend, image["id"], Path(arguments.file), progress)


def _save_to(backend: Backend, image_id: str, target: Path, progress: Progress) -> None:
    """Write beside the target first: it is whole and verified, or as it was."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            backend.save(image_id, file, progress.advance)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _image_delete(arguments: argparse.Namespace) -> None:
    with _backend(arguments) as backend:
        for name in arguments.image:
            backend.delete(backend.find(name)["id"])


def _image_restore(arguments: argparse.Namespace) -> None:
    from glancelike.config import build

    if arguments.url:
        raise InvalidInput("image restore works on the configured service, not on --url")
    with build(_config(arguments)) as service:
        for image_id in arguments.image:
            print(f"restored {service.restore_image(image_id).id}")


def _print_image(image: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(image, indent=2))
        return

    def text(value: Any) -> str:
        if value is None:
            return ""
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    print_table(("Field", "Value"), ((key, text(value)) for key, value in image.items()))


# Upkeep


def _config_sample(_arguments: argparse.Namespace) -> None:
    from glancelike import config as configuration

    print(configuration.sample(), end="")


def _policy_sample(_arguments: argparse.Namespace) -> None:
    from glancelike import policy

    print(policy.sample(), end="")


def _api_coverage(_arguments: argparse.Namespace) -> None:
    from glancelike.api.coverage import coverage
    from glancelike.api.routes import ROUTES

    print(coverage(ROUTES), end="")


def _gc(arguments: argparse.Namespace) -> None:
    from glancelike.config import build

    count = size = 0
    with build(_config(arguments)) as service:
        for orphan in service.gc(grace_seconds=arguments.grace, dry_run=arguments.dry_run):
            count, size = count + 1, size + orphan.size
            print(f"{'removed' if orphan.removed else 'orphan'} {orphan.store} {orphan.key} {orphan.size}")
    print(f"{count} blobs, {size} bytes")


def _scrub(arguments: argparse.Namespace) -> None:
    from glancelike.config import build

    with build(_config(arguments)) as service:
        scrubbed = service.scrub()
    for image_id in scrubbed:
        print(f"scrubbed {image_id}")
    print(f"{len(scrubbed)} images")


if __name__ == "__main__":
    sys.exit(main())
