"""A pytest plugin: what the Compute API is asked and answers in tests is held against Nova's own schemas.

``NOVA_BODIES`` names what ``dump`` has printed, and ``NOVA_FOUND`` the file that what doesn't fit is
appended to, a line of JSON each.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import falcon.testing
import jsonschema
import pytest

_PREFIX = "/v2.1"


FORMATS = jsonschema.FormatChecker()


@FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    """Take times without a zone, as Nova does."""
    return not isinstance(value, str) or bool(datetime.fromisoformat(value))


class Nova:
    """Nova's schemas, by what is asked."""

    def __init__(self, path: Path) -> None:
        self._operations: list[dict[str, Any]] = json.loads(path.read_text())

    @cached_property
    def _routes(self) -> list[tuple[str, re.Pattern[str]]]:
        paths = {each["path"] for each in self._operations}
        # What has no variable in a place goes before what has one.
        return [
            (path, re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path) + "/?"))
            for path in sorted(paths, key=lambda path: (path.count("{"), path))
        ]

    def find(self, method: str, path: str, body: Any) -> dict[str, Any] | None:
        """Return the operation that a request is for, None when Nova has none."""
        route = next((route for route, pattern in self._routes if pattern.fullmatch(path)), None)
        names = {None, *(body if isinstance(body, Mapping) else ())}
        for each in self._operations:
            if (each["path"], each["method"]) == (route, method) and each["action"] in names:
                return each
        return None

    @staticmethod
    def faults(operation: Mapping[str, Any], kind: str, minor: int, value: Any) -> Iterator[str]:
        """Tell what isn't as the schema of a version has it."""
        for first, last, schema in operation[kind]:
            if first <= minor <= (minor if last is None else last):
                for error in jsonschema.Draft202012Validator(schema, format_checker=FORMATS).iter_errors(
                    value
                ):
                    where = ".".join("*" if isinstance(step, int) else str(step) for step in error.path)
                    yield f"{where or 'all of it'}: {error.message[-200:]}"


class Watch:
    """Looks at each request and answer."""

    def __init__(self, nova: Nova, found: Path) -> None:
        self._nova = nova
        self._found = found
        self.test = ""

    def look(self, method: str, path: str, asked: Mapping[str, Any], answer: falcon.testing.Result) -> None:
        path, _, inline = path.partition("?")
        version = re.fullmatch(r"compute 2\.(\d+)", answer.headers.get("openstack-api-version", ""))
        if not path.startswith(_PREFIX) or version is None or answer.status_code == 404:
            return
        body = asked.get("json")
        if body is None and asked.get("body"):
            try:
                body = json.loads(asked["body"])
            except ValueError:
                return
        operation = self._nova.find(method, path.removeprefix(_PREFIX), body)
        minor = int(version[1])
        if operation is None:
            if answer.status_code < 300 and path != _PREFIX:
                self._note("unknown", method, path, minor, body, [])
            return
        self._note("looked at", method, path, minor, None, [])
        query: dict[str, list[str]] = {}
        told = dict(asked.get("params") or {})
        for name, value in [
            *told.items(),
            *parse_qsl(inline + "&" + (asked.get("query_string") or ""), True),
        ]:
            query.setdefault(name, []).extend(map(str, value if isinstance(value, list) else [value]))
        values = {"request": body, "query": query}
        for kind, value in values.items():
            faults = list(self._nova.faults(operation, kind, minor, value))
            if faults and answer.status_code < 300:
                self._note(f"lax {kind}", method, path, minor, value, faults, operation)
        strict = not any(
            any(self._nova.faults(operation, kind, minor, value)) for kind, value in values.items()
        )
        if answer.status_code == 400 and strict:
            self._note("strict", method, path, minor, body or query, [answer.text], operation)
        if answer.status_code < 300:
            said = answer.json if answer.content else None
            faults = list(self._nova.faults(operation, "response", minor, said))
            if faults:
                self._note("answer", method, path, minor, said, faults, operation)

    def _note(
        self,
        kind: str,
        method: str,
        path: str,
        minor: int,
        value: Any,
        faults: list[str],
        operation: Mapping[str, Any] | None = None,
    ) -> None:
        what = {"kind": kind, "method": method, "path": path, "minor": minor, "faults": faults}
        if operation is not None:
            what |= {"path": operation["path"], "action": operation["action"]}
        with self._found.open("a") as file:
            file.write(json.dumps({**what, "test": self.test, "value": value}, default=str) + "\n")


WATCH = Watch(Nova(Path(os.environ["NOVA_BODIES"])), Path(os.environ["NOVA_FOUND"]))
_simulate = falcon.testing.TestClient.simulate_request


def _watched(self: Any, *args: Any, **asked: Any) -> falcon.testing.Result:
    answer = _simulate(self, *args, **asked)
    method, path = (*args, *(asked.get(name) for name in ("method", "path")[len(args) :]))[:2]
    WATCH.look(str(method), str(path), asked, answer)
    return answer


falcon.testing.TestClient.simulate_request = _watched  # type: ignore[method-assign]


@pytest.hookimpl
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Know whose request it is."""
    WATCH.test = item.nodeid
