"""Print what Nova's own schemas say of bodies, as JSON; run by the Python that Nova is installed for.

A list of operations: the path in Nova's routes, the method, the name of the action or
null, and for requests, queries and answers a list of [first minor version, last
or null, JSON schema].
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from nova.api.openstack.compute import routes

KINDS = {
    "request": "request_body_schemas",
    "query": "request_query_schemas",
    "response": "response_body_schemas",
}


def operations() -> Iterator[dict[str, Any]]:
    """Yield every operation of every version."""
    for path, methods in routes.ROUTE_LIST:
        if isinstance(methods, str):
            continue  # a redirection
        for method, (make, name) in methods.items():
            # Made, controllers would want a message queue: their classes will do.
            main, *others = make.args
            if name != "action":
                yield operation(path, method, None, getattr(main, name))
                continue
            for controller in (main, *(others[0] if others else ())):
                for action, function in controller.wsgi_actions.items():
                    yield operation(path, method, action, getattr(controller, function))


def operation(path: str, method: str, action: str | None, function: Any) -> dict[str, Any]:
    """Describe one."""
    found = {kind: list(schemas(getattr(function, name, None))) for kind, name in KINDS.items()}
    return {"path": path, "method": method, "action": action, **found}


def schemas(container: Any) -> Iterator[tuple[int, int | None, Any]]:
    """Yield the versions that a schema is for, and it."""
    for schema, first, last in container._schemas if container else ():
        yield first.ver_minor or 0, None if last.is_null() else last.ver_minor, schema


if __name__ == "__main__":
    print(json.dumps(list(operations()), default=str))
