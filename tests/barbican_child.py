"""Run a real Barbican: ``python barbican_child.py DIRECTORY KEYSTONE_URL``.

It keeps secrets in SQLite, encrypted by its own plugin, and asks Keystone.
It ends with whoever started it. The port is in the file ``port`` once the
server listens.
"""

from __future__ import annotations

import base64
import ctypes
import os
import signal
import sys
import warnings
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

PR_SET_PDEATHSIG = 1
CONFIG = """\
[DEFAULT]
host_href = {url}
db_auto_create = true
use_stderr = true
[database]
connection = sqlite:///{directory}/barbican.db
[secretstore]
enabled_secretstore_plugins = store_crypto
[crypto]
enabled_crypto_plugins = simple_crypto
[simple_crypto_plugin]
kek = {kek}
[keystone_authtoken]
auth_url = {keystone}
auth_type = password
project_domain_name = Default
user_domain_name = Default
project_name = service
username = image
password = {password}
"""
PASTE = """\
[composite:main]
use = egg:Paste#urlmap
/: versions
/v1: api
[pipeline:versions]
pipeline = microversion versionapp
[pipeline:api]
pipeline = authtoken context microversion apiapp
[app:apiapp]
paste.app_factory = barbican.api.app:create_main_app
[app:versionapp]
paste.app_factory = barbican.api.app:create_version_app
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
oslo_config_project = barbican
[filter:context]
paste.filter_factory = barbican.api.middleware.context:ContextMiddleware.factory
[filter:microversion]
paste.filter_factory = barbican.api.middleware.microversion:MicroversionMiddleware.factory
"""


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main(directory: Path, keystone: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    warnings.simplefilter("ignore")
    server = make_server("127.0.0.1", 0, lambda *_: [], handler_class=Quiet)
    url = f"http://127.0.0.1:{server.server_port}"
    (directory / "barbican.conf").write_text(
        CONFIG.format(
            url=url,
            directory=directory,
            kek=base64.b64encode(os.urandom(32)).decode(),
            keystone=keystone,
            password=os.environ.pop("IMAGE_PASSWORD"),
        )
    )
    (directory / "paste.ini").write_text(PASTE)
    os.environ["HOME"] = str(directory)  # where oslo.config looks for barbican.conf
    from paste import deploy

    server.set_app(deploy.loadapp(f"config:{directory}/paste.ini", name="main"))
    (directory / "port").write_text(str(server.server_port))
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
