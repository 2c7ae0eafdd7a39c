"""Fixtures that every part of the tests may use."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress

# No test talks to the world's servers, and to read the certificates of their authorities takes a tenth of a
# second for each service, store and connection that could.
os.environ |= {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}

# Else glibc learns from the first large block that it's freed to keep such, in each thread's arena and for
# good: a process of the tests grows to gigabytes. Told a threshold, it gives them back.
_M_MMAP_THRESHOLD = -3
with suppress(AttributeError):  # another libc
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 256 << 10)

pytest_plugins = ["tests.server_fixtures", "tests.libvirt_fixtures", "tests.database_fixtures"]
pytest_plugins += ["tests.compute_fixtures", "tests.leases"]


def pytest_collection_finish() -> None:
    """Keep the collected tests out of the garbage collector's way.

    There are thousands. To look through them takes so long on a busy machine
    that a database server gives up the transaction that is kept waiting.
    """
    gc.collect()
    gc.freeze()
