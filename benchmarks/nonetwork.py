"""In Neutron's place: a WSGI application that has no network, no port and nothing else.

Nova asks for the ports and networks of a server whenever it shows or deletes
one, whether the server has a network or not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

COLLECTION = re.compile(r"/v2\.0/([a-z-]+)(\.json)?")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    asked = COLLECTION.fullmatch(environ["PATH_INFO"]) if environ["REQUEST_METHOD"] == "GET" else None
    told = json.dumps({asked[1].replace("-", "_"): []} if asked else {"NeutronError": "none here"}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(told)))]
    start_response("200 OK" if asked else "404 Not Found", headers)
    return [told]
