"""New plugins: a complete distribution, made from one that is kept here.

What is copied is real code under a name of its own, so it is linted, typed
and tested in its place; making a plugin of it only renames it. Each command
imports this module for its help, so what making one needs is imported there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from glancelike.errors import InvalidInput

# A kind of plugin: its entry points, and the files of its distribution.
KINDS = {
    "store": (
        "glancelike.stores",
        (
            "README.md",
            "glancelike_store_template.py",
            "pyproject.toml",
            "setup.cfg",
            "tests/test_template_store.py",
            "tox.ini",
        ),
    ),
}
_NAME = re.compile(r"[a-z][a-z0-9]{0,29}")


def create(kind: str, name: str, directory: Path) -> Path:
    """Make a plugin's distribution in ``directory``; return where it is.

    It is there completely or not at all. Raises InvalidInput for a name that
    won't do or is taken, and where there is something already.
    """
    import tempfile

    namespace, files = KINDS[kind]
    _check_name(kind, namespace, name)
    if not directory.is_dir():
        raise InvalidInput(f"{directory} isn't a directory")
    target = directory / f"glancelike-{kind}-{name}"
    if os.path.lexists(target):
        raise InvalidInput(f"{target} exists already")
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=directory) as beside:
        made = Path(beside) / target.name
        for file in files:
            path = made / _renamed(file, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_renamed(_text(kind, file), name), encoding="utf-8")
        made.rename(target)
    return target


def _check_name(kind: str, namespace: str, name: str) -> None:
    from glancelike import plugins

    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} can't be a {kind}'s name, which names a module, options and a URI's scheme, too: "
            f"up to 30 lower-case letters and digits, a letter first"
        )
    if name in plugins.available(namespace):
        raise InvalidInput(f"a {kind} called {name!r} is installed already")


def _text(kind: str, file: str) -> str:
    from importlib import resources

    return resources.files(__name__).joinpath(kind, file).read_text(encoding="utf-8")


def _renamed(text: str, name: str) -> str:
    return text.replace("template", name).replace("Template", name.capitalize())
