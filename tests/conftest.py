"""Fixtures that every part of the tests may use."""

from __future__ import annotations

import ctypes
import gc
import os
from collections import Counter
from contextlib import suppress

import pytest

# No test talks to the world's servers, and to read the certificates of their authorities takes a tenth of a
# second for each service, store and connection that could.
os.environ |= {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}

# Else glibc keeps what was freed in an arena of each thread that ever was: a process of the tests grows to
# gigabytes.
_M_ARENA_MAX = -8
with suppress(AttributeError):  # another libc
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)

pytest_plugins = ["tests.server_fixtures", "tests.libvirt_fixtures", "tests.database_fixtures"]
pytest_plugins += ["tests.compute_fixtures", "tests.leases"]

# Files whose few tests take half a minute and more: of several processes none is to be left alone with one.
FIRST = (
    *("e2e/test_quickstart.py", "functional/test_compute_hosts.py", "functional/test_schemathesis.py"),
    *("tests/test_rbd_cluster.py", "functional/test_docs_plugins.py", "functional/test_lazy_boot.py"),
    *("functional/test_boot_files.py", "e2e/test_recovery.py", "static/test_static.py"),
    *("functional/test_takeover_swift.py", "functional/test_takeover.py", "functional/test_two_nodes.py"),
    *("functional/test_compute_processes.py", "functional/test_compute_clients.py"),
    *("functional/test_tempest.py", "soak/test_races.py", "conformance/test_registry_model.py"),
    *("functional/test_copies_swift.py", "functional/test_novalite_keystone.py"),
    *("functional/test_novalite_glance.py", "functional/test_cloud_init.py", "functional/test_clients.py"),
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest, where xdist shares out files; else they stay in their order.

    xdist itself would begin with the files of most tests (hence --no-loadscope-reorder).
    """
    if not hasattr(config, "workerinput"):
        return
    places = {name: number for number, name in enumerate(FIRST)}
    counts = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[int, int]:
        known = places.get("/".join(item.path.parts[-2:]), len(places))
        return known, -counts[item.path]

    items.sort(key=lambda item: (*place(item), str(item.path)))


def pytest_collection_finish() -> None:
    """Keep the collected tests out of the garbage collector's way.

    There are thousands. To look through them takes so long on a busy machine
    that a database server gives up the transaction that is kept waiting.
    """
    gc.collect()
    gc.freeze()
