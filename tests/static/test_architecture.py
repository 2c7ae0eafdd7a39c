"""The house rules that an import contract can't say."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each foreign library has a home; nobody else imports it.
HOMES = {
    "falcon": ("glancelike/web/", "glancelike/api/", "glancelike/registry/server/", "novalite/api/"),
    "gunicorn": ("glancelike/web/serve.py",),
    "sqlalchemy": ("glancelike/sql/", "glancelike/registry/sql/", "novalite/db/"),
    "alembic": ("glancelike/sql/", "glancelike/registry/sql/", "novalite/db/"),
    "libvirt": ("novalite/virt/", "novalite/quickstart/libvirtd.py"),
    "stevedore": ("glancelike/plugins.py",),
    "keystonemiddleware": ("glancelike/web/auth/keystone.py",),
    "oslo_policy": ("glancelike/rules/oslo.py",),
    "oslo_messaging": ("glancelike/notifications.py", "novalite/transport.py"),
    "castellan": ("glancelike/signatures.py",),
    "cursive": ("glancelike/signatures.py",),
    "fsspec": ("glancelike/fs.py",),
    "msgspec": ("glancelike/registry/", "glancelike/sql/", "glancelike/web/body.py"),
    "websockets": ("novalite/api/serial/", "novalite/terminal.py"),
}


@dataclass
class Module:
    """What the rules are about: the names that it imports, and all names and attributes in it."""

    path: str
    imports: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    def read(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self.imports |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                self.imports.add(node.module)
            elif isinstance(node, ast.Name):
                self.names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                self.names.add(f"{node.value.id}.{node.attr}")


def modules(*packages: str) -> Iterator[Module]:
    for package in packages:
        yield from read(package)


@cache
def read(package: str) -> Sequence[Module]:
    """Read a package's modules, once for all tests; the trees themselves would take much memory."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        module = Module(str(path.relative_to(ROOT)))
        module.read(ast.parse(path.read_text()))
        found.append(module)
    return found


@pytest.mark.parametrize("library", sorted(HOMES))
def test_architecture_each_library_has_one_home(library: str) -> None:
    users = {
        module.path
        for module in modules("glancelike", "novalite")
        if any(name.split(".")[0] == library for name in module.imports)
    }
    assert users, f"nothing imports {library}: take it out of the table"
    assert {path for path in users if not path.startswith(HOMES[library])} == set()


# What can open a URL; the client opens those of an image service that its own user names, the remote
# registry those of its configuration.
OPENERS = ("urllib3", "urllib.request", "http.client", "requests", "httpx", "ftplib")
WAYS_OUT = (
    *("glancelike/outbound/", "glancelike/client.py", "glancelike/registry/remote/", "glancelike/testing/"),
    "novalite/",
)


def test_ossn_0105_there_is_one_way_to_open_a_callers_url() -> None:
    for module in modules("glancelike", "novalite"):
        opening = [name for name in module.imports if name.startswith(OPENERS)]
        assert not opening or module.path.startswith(WAYS_OUT), f"{module.path} imports {opening}"


# Kits without images, and who uses them.
KITS = {
    "glancelike.web": "novalite/",
    "glancelike.sql": "novalite/db/",
    "glancelike.rules": "novalite/policy/",
}
# The image service has one door; the rest of the table are smaller kits.
DOORS = {
    "novalite/images/__init__.py": ("glancelike",),
    "novalite/images/http.py": ("glancelike",),
    "novalite/images/library.py": ("glancelike",),
    "novalite/bases/process.py": ("glancelike.ending",),
    "novalite/cli.py": ("glancelike.cli_purge",),
    "novalite/config.py": ("glancelike.keystone_tokens", "glancelike.errors"),
    "novalite/config_options.py": ("glancelike.sql.options",),
    "novalite/programs.py": ("glancelike.starting",),
    "novalite/serialproxy.py": ("glancelike.ending", "glancelike.starting"),
    "novalite/worker.py": ("glancelike.ending", "glancelike.starting"),
    "novalite/plugins.py": ("glancelike.plugins", "glancelike.errors", "glancelike"),
    "novalite/virt/qemuimg.py": ("glancelike.qemuimg", "glancelike.errors", "glancelike"),
}


def test_architecture_novalite_has_one_door_to_glancelike() -> None:
    for module in modules("novalite"):
        for name in module.imports:
            if name.split(".")[0] == "glancelike":
                kits = [kit for kit, users in KITS.items() if module.path.startswith(users)]
                allowed = (*kits, *DOORS.get(module.path, ()))
                assert name.startswith(allowed), f"{module.path} imports {name}"


def test_architecture_nothing_is_left_to_do() -> None:
    for module in modules("glancelike", "novalite", "plugins"):
        text = (ROOT / module.path).read_text()
        for mark in ("TODO", "FIXME", "XXX"):
            assert mark not in text, f"{module.path} has a {mark}"
        assert "NotImplementedError" not in module.names, module.path


def test_architecture_no_global_configuration() -> None:
    for module in modules("glancelike", "novalite"):
        assert "cfg.CONF" not in module.names, f"{module.path} uses the global configuration"


@pytest.mark.parametrize(
    ("package", "heavy"),
    [
        ("glancelike", "sqlalchemy falcon stevedore oslo_config requests gunicorn"),
        ("glancelike.model", "sqlalchemy falcon stevedore"),
        ("novalite", "sqlalchemy falcon libvirt oslo_messaging"),
    ],
)
def test_architecture_imports_are_light(package: str, heavy: str) -> None:
    code = f"import sys, {package}; print(*(set({heavy.split()!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""


def test_architecture_the_facade_is_what_it_says() -> None:
    code = (
        "import glancelike\n"
        "for name in glancelike.__all__:\n"
        "    assert getattr(glancelike, name) is not None, name\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)
