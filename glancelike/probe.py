"""Try a store out, in a process of its own: does it keep what it promises, here and now?

The contract in small, through the guard, on the real backend. A driver may
do anything, hang or end its process included; so ``glancelike store check``
runs this module as a program for each store, and looks at what it has
written when it is over. It reads a job (JSON) from standard input, and
writes an event (JSON) a line.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from glancelike import config, plugins
from glancelike.config_plugins import PluginConfig
from glancelike.errors import (
    BlobExists,
    BlobNotFound,
    ForbiddenUrl,
    GlancelikeError,
    StoreFault,
    Unreachable,
)
from glancelike.outbound.opener import Opener
from glancelike.stores.base import Cap, Store
from glancelike.stores.guard import Guard
from glancelike.urlrules import UrlRules

PREFIX = "store-check-"
# Odd on purpose, and larger than one block.
PROBE_BYTES = 3 * 1024 * 1024 + 7
PART_BYTES = 5 * 1024 * 1024  # object stores want as much of every part but the last
LONGEST = 500  # of what a driver says in an error

_CREDENTIALS = re.compile(r"(?<=://)[^\s/?#]*@")
Tell = Callable[[Mapping[str, Any]], None]


class Steps:
    """Runs one step after another, and tells of each when it begins and how it ended."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._secrets: tuple[str, ...] = ()

    def keep_secret(self, options: Iterable[Any], settings: Mapping[str, Any]) -> None:
        """Show the values of secret options to nobody."""
        values = [settings.get(opt.dest) for opt in options if opt.secret]
        several = [value if isinstance(value, list | tuple) else [value] for value in values]
        self._secrets = tuple(str(each) for value in several for each in value if each)

    def about(self, **facts: Any) -> None:
        self._tell(facts)

    def step(self, name: str, work: Callable[[], str | None]) -> bool:
        """Do something, which may say something; False when it raised."""
        self._tell({"begun": name})
        try:
            said, well = work() or "", True
        except BaseException as error:  # noqa: BLE001 - a driver may raise anything
            said, well = str(error), False
            if not isinstance(error, GlancelikeError):
                said = f"{type(error).__name__}: {said}"
        self._tell({"step": name, "ok": well, "said": self.shown(said)})
        return well

    def shown(self, text: str) -> str:
        """Return a text in one line and without secrets."""
        text = _CREDENTIALS.sub("***@", text)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())[:LONGEST]


def check_store(steps: Steps, argv: list[str], store_id: str, prog: str = "glancelike") -> None:
    """Try a configured store; what it holds is as it was afterwards."""
    made: list[Any] = []

    def load(name: str) -> None:
        made[:] = config.load_store(argv, name, prog=prog)

    if not steps.step("load", lambda: load(store_id)):
        return
    found, read_only = made
    steps.keep_secret(found.plugin.options, found.settings)
    steps.about(capabilities=[cap.name for cap in Cap if cap in found.plugin.capabilities])
    guard = _opened(steps, found, store_id, lambda name: config.load_store(argv, name, prog=prog)[0])
    if guard is None:
        return
    try:
        Trial(steps, guard, read_only=read_only).run()
    finally:
        steps.step("close", guard.close)


def _opened(
    steps: Steps,
    found: PluginConfig,
    store_id: str,
    other: Callable[[str], PluginConfig],
) -> Guard | None:
    """Make and open a driver, and below it the one that it stacks on."""
    guards: list[Guard] = []

    def make(config_of: PluginConfig, name: str) -> None:
        driver = config_of.make(Store)
        if driver.stacks_on is not None and driver.settings[driver.stacks_on]:
            lower = driver.settings[driver.stacks_on]
            make(other(lower), lower)
            guards[-1].open()
            driver.below = guards[-1]
        guards.append(Guard(driver, store_id=name))

    if steps.step("make", lambda: make(found, store_id)) and steps.step("open", guards[-1].open):
        return guards[-1]
    return None


class Trial:
    """The contract in small, on one open store."""

    def __init__(self, steps: Steps, guard: Guard, *, read_only: bool) -> None:
        self._steps = steps
        self._guard = guard
        self._caps = guard.capabilities
        self._writes = not read_only and Cap.WRITE in self._caps
        self._data = os.urandom(PROBE_BYTES)
        self._keys: list[str] = []
        self._uploads: list[tuple[str, str]] = []

    def run(self) -> None:
        """Try all that the store declares, then what it supports besides."""
        if self._writes and Cap.DELETE not in self._caps:
            self._steps.about(note="nothing was written: the store can't delete")
            self._look()
        elif self._writes:
            try:
                self._try_writing()
            finally:
                self._clean_up()
        else:
            self._steps.about(note="read-only: nothing was written")
            self._look()
        self._if(Cap.USAGE, "usage", self._usage)
        probed: dict[str, str] = {}
        if self._steps.step("probe", lambda: probed.update(self._guard.probe())) and probed:
            self._steps.about(probe={feature: self._steps.shown(said) for feature, said in probed.items()})

    def _if(self, cap: Cap, name: str, work: Callable[[], str | None]) -> None:
        if cap in self._caps:
            self._steps.step(name, work)

    def _key(self, name: str) -> str:
        key = f"{PREFIX}{uuid.uuid4().hex}-{name}"
        self._keys.append(key)
        return key

    def _look(self) -> None:
        missing = self._key("missing")
        self._keys.clear()
        if Cap.URLS not in self._caps:
            self._steps.step("stat", lambda: self._absent(missing))
        if Cap.LIST in self._caps:
            self._steps.step("list and read", self._read_any)

    def _read_any(self) -> str | None:
        """Read the beginning of the first blob there is."""
        for info in self._guard.list():
            _expect(self._guard.stat(info.key).size == info.size, "stat() and list() differ in the size")
            with self._guard.read(info.key) as blocks:
                _expect(bool(next(blocks, b"")) == bool(info.size), "read() gave nothing of a blob")
            return None
        return "there is no blob to read"

    def _try_writing(self) -> None:
        guard, data, step = self._guard, self._data, self._steps.step
        key = self._key("sized")
        if not step("write", lambda: self._write(key, len(data))):
            return
        step("stat", lambda: _expect(guard.stat(key).size == len(data), "stat() tells another size"))
        step("read", lambda: _expect(self._content(key) == data, "other bytes came back than were written"))
        step("keep", lambda: self._keep(key))
        self._if(Cap.RANGE, "range", lambda: self._range(key))
        self._if(Cap.UNKNOWN_SIZE, "unknown size", lambda: self._write(self._key("unsized"), None, read=True))
        self._if(Cap.LIST, "list", lambda: self._list(key))
        self._if(Cap.COPY, "copy", lambda: self._copy(key))
        self._if(Cap.LOCAL, "local path", lambda: self._local(key))
        self._if(Cap.PRESIGN, "presign", lambda: self._presign(key))
        self._if(Cap.PARTS, "parts", self._parts)
        step("delete", lambda: self._delete(key))

    def _write(self, key: str, size: int | None, *, read: bool = False) -> None:
        self._guard.write(key, io.BytesIO(self._data), size=size)
        _expect(not read or self._content(key) == self._data, "other bytes came back than were written")

    def _content(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._guard.read(key, offset=offset, length=length) as blocks:
            return b"".join(blocks)

    def _keep(self, key: str) -> None:
        with suppress(BlobExists):
            self._guard.write(key, io.BytesIO(b"other bytes"), size=11)
            raise StoreFault("a second write to a key must raise BlobExists, it raised nothing")
        _expect(self._guard.stat(key).size == len(self._data), "a second write changed the blob")

    def _range(self, key: str) -> None:
        for offset, length in ((5, 9), (PROBE_BYTES - 3, None), (PROBE_BYTES - 3, 100)):
            end = None if length is None else offset + length
            _expect(
                self._content(key, offset, length) == self._data[offset:end],
                f"read(offset={offset}, length={length}) gave other bytes",
            )

    def _list(self, key: str) -> None:
        listed = [(info.key, info.size) for info in self._guard.list(key)]
        _expect(listed == [(key, len(self._data))], f"list() of one blob gave {len(listed)}, or another size")

    def _copy(self, key: str) -> None:
        target = self._key("copy")
        self._guard.copy(key, target)
        _expect(self._content(target) == self._data, "the copy has other bytes")

    def _local(self, key: str) -> None:
        _expect(self._guard.local_path(key).read_bytes() == self._data, "the local file has other bytes")

    def _presign(self, key: str) -> str | None:
        url = self._guard.presign(key, "GET", 60)
        _expect(self._steps.shown(url) == url[:LONGEST], "the URL tells a secret")
        # The operator's own store said where to go: any address will do.
        rules = UrlRules.of(allowed_ports=(), allowed_networks=("0.0.0.0/0", "::/0"))
        opener = Opener(rules)
        try:
            with opener.open(url) as fetch:
                _expect(b"".join(fetch) == self._data, "the URL gives other bytes")
        except (Unreachable, ForbiddenUrl) as error:
            return f"the URL can't be opened from here: {error}"
        finally:
            opener.close()
        return None

    def _parts(self) -> None:
        key, guard = self._key("parts"), self._guard
        parts = (os.urandom(PART_BYTES), self._data[:9])
        upload = self._begun(key)
        for number, part in reversed(list(enumerate(parts, 1))):
            guard.put_part(key, upload, number, io.BytesIO(part), size=len(part))
        found = [(info.number, info.size) for info in guard.parts(key, upload)]
        _expect(found == [(1, PART_BYTES), (2, 9)], f"parts() gave {found}")
        guard.complete(key, upload)
        _expect(self._content(key) == b"".join(parts), "the parts were joined otherwise")
        other = self._key("aborted")
        upload = self._begun(other)
        guard.abort(other, upload)
        with suppress(BlobNotFound):
            guard.parts(other, upload)
            raise StoreFault("an aborted upload is still there")

    def _begun(self, key: str) -> str:
        upload = self._guard.begin(key)
        self._uploads.append((key, upload))
        return upload

    def _delete(self, key: str) -> None:
        self._guard.delete(key)
        self._absent(key)

    def _absent(self, key: str) -> None:
        with suppress(BlobNotFound):
            self._guard.stat(key)
            raise StoreFault("stat() of a missing key must raise BlobNotFound, it raised nothing")

    def _usage(self) -> str:
        usage = self._guard.usage()
        free = "unknown" if usage.free is None else f"{usage.free:,} bytes"
        logical = "" if usage.logical is None else f" for blobs of {usage.logical:,}"
        return f"{usage.used:,} bytes used{logical}, {free} free"

    def _clean_up(self) -> None:
        for key, upload in self._uploads:
            with suppress(GlancelikeError):
                self._guard.abort(key, upload)
        for key in self._keys:
            with suppress(GlancelikeError):
                self._guard.delete(key)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StoreFault(otherwise)


def check_driver(steps: Steps, name: str) -> None:
    """See whether an installed driver can be loaded."""
    loaded: list[type[Store]] = []
    if steps.step("load", lambda: loaded.append(plugins.load("glancelike.stores", name, Store))):
        steps.about(capabilities=[cap.name for cap in Cap if cap in loaded[0].capabilities])


def main() -> None:
    job = json.load(sys.stdin)
    # A driver's own prints, warnings and logs are no events.
    events = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (1, 2):
        os.dup2(nowhere, standard)

    def tell(facts: Mapping[str, Any]) -> None:
        events.write(json.dumps(facts) + "\n")
        events.flush()

    steps = Steps(tell)
    if job["store"] is None:
        check_driver(steps, job["driver"])
    else:
        check_store(steps, job["argv"], job["store"])
    tell({"done": True})
    os._exit(0)  # whatever threads a driver has left behind


if __name__ == "__main__":
    main()
