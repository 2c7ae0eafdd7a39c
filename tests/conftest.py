"""Fixtures that every part of the tests may use."""

from __future__ import annotations

import gc
import os

# No test talks to the world's servers, and to read the certificates of their authorities takes a tenth of a
# second for each service, store and connection that could.
os.environ |= {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}

pytest_plugins = ["tests.server_fixtures", "tests.libvirt_fixtures", "tests.database_fixtures"]
pytest_plugins += ["tests.compute_fixtures", "tests.leases"]


def pytest_collection_finish() -> None:
    """Keep the collected tests out of the garbage collector's way.

    There are thousands. To look through them takes so long on a busy machine
    that a database server gives up the transaction that is kept waiting.
    """
    gc.collect()
    gc.freeze()
