"""Run a real Keystone: ``python keystone_child.py DIRECTORY``.

One process does it all, since importing Keystone takes longer than
everything else. It ends with whoever started it. The port is in the file
``port`` once the server listens.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
# One request at a time, since two write to SQLite in each other's way; the
# cache in memory spares most of the reading.
CONFIG = """\
[DEFAULT]
use_stderr = true
default_log_levels = keystone=INFO,alembic=WARNING,stevedore=CRITICAL
[database]
connection = sqlite:///{directory}/keystone.db
[fernet_tokens]
key_repository = {directory}/keys
[fernet_receipts]
key_repository = {directory}/keys
[credential]
key_repository = {directory}/keys
[cache]
enabled = true
backend = oslo_cache.dict
[identity]
password_hash_rounds = 4
"""


def main(directory: Path) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    warnings.simplefilter("ignore")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v3"
    config = directory / "keystone.conf"
    config.write_text(CONFIG.format(directory=directory))
    keys = directory / "keys"
    keys.mkdir()

    from cryptography.fernet import Fernet
    from keystone.cmd import manage

    for name in ("0", "1"):
        (keys / name).write_bytes(Fernet.generate_key())
    keys.chmod(0o700)
    manage_keystone(manage, config, "db_sync")
    manage_keystone(
        *(manage, config, "bootstrap", "--bootstrap-region-id", "RegionOne"),
        *("--bootstrap-password", os.environ.pop("ADMIN_PASSWORD")),
        *("--bootstrap-public-url", url, "--bootstrap-internal-url", url, "--bootstrap-admin-url", url),
    )
    serve(listener, port, directory)


def manage_keystone(manage: Any, config: Path, *words: str) -> None:
    """Do what ``keystone-manage`` does, in a process of its own that has all imported."""
    child = os.fork()
    if child == 0:
        sys.argv = ["keystone-manage", "--config-file", str(config), *words]
        manage.main()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        sys.exit(f"keystone-manage {words[0]} ended with {status}")


def serve(listener: socket.socket, port: int, directory: Path) -> None:
    from gunicorn.app.base import BaseApplication

    class Server(BaseApplication):
        def load_config(self) -> None:
            options = {
                "bind": f"fd://{listener.detach()}",
                "worker_class": "gthread",
                "threads": 1,
                "keepalive": 20,
                "graceful_timeout": 1,
                "control_socket_disable": True,
                "accesslog": str(directory / "access.log"),
                "errorlog": "-",
                "loglevel": "warning",
            }
            for key, value in options.items():
                self.cfg.set(key, value)

        def load(self) -> Any:
            sys.argv = ["keystone", "--config-file", str(directory / "keystone.conf")]
            from keystone.wsgi.api import application

            (directory / "port").write_text(str(port))
            return application

    Server().run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
