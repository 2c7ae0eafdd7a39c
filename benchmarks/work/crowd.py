"""64 downloads at once, of which 16 go to clients that hardly read."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from benchmarks import client, peers
from benchmarks.client import Server
from benchmarks.measuring import Reading, cpu_seconds, in_turns
from benchmarks.report import Goal, Row, compared
from benchmarks.stage import Stage, fastest
from benchmarks.work.files import stored, whole

FAST, SLOW = 48, 16
CROWD = f"{FAST + SLOW} downloads at once, {SLOW} of them slow"
WORK = (CROWD,)
SLOW_STEP, SLOW_PAUSE = 64 << 10, 0.1  # bytes and seconds: 640 KiB/s
STALLED = 15.0  # seconds without a byte for anybody who is fast
SPEED, DONE, LAST = "MiB/s, the fast ones", "fast ones served", "longest wait for a first byte, s"
CPU = "CPU seconds"


@dataclass
class Crowd:
    """What the clients of one turn have got."""

    taken: int = 0
    served: int = 0
    first_bytes: list[float] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


def measure(stage: Stage, wanted: Collection[str]) -> Iterator[Row]:
    stage.say(CROWD)
    source = stage.source(max(32, stage.size_mib // 16))
    glance = peers.Glance(stage.folder / "crowd-glance", stage.database())
    with ExitStack() as stack:
        ours = stack.enter_context(peers.ours(stage.folder / "crowd-ours", stage.database()))
        glances = stack.enter_context(stage.glances(glance))
        paths = {each.name: stored(each, source) for each in (ours, glances[0])}
        paths[glances[1].name] = paths[glances[0].name]
        (blob,) = glance.data.iterdir()
        nginx = stack.enter_context(peers.nginx(stage.folder / "crowd-nginx", glance.data))
        paths[nginx.name] = f"/{blob.name}"
        first = fastest(glances, lambda each: crowd(each, paths[each.name])[SPEED])
        contestants = {each.name: partial(crowd, each, paths[each.name]) for each in (ours, nginx)}
        found = in_turns(whole(contestants), stage.repeats)
        # One that stalls isn't asked to again and again.
        found |= in_turns(whole({first.name: partial(crowd, first, paths[first.name])}), 1)
    yield Row(CROWD, DONE, found[ours.name][DONE], goal=Goal(least=FAST))
    yield from compared(CROWD, found, ours.name, nginx.name, {SPEED: Goal(least=0.9), LAST: None, CPU: None})
    yield from compared(CROWD, found, ours.name, first.name, {DONE: None, SPEED: None, LAST: None})


def crowd(server: Server, path: str) -> Reading:
    """Let the slow ones begin, then the others; return what these got, and when."""
    seen = Crowd()
    slow = [threading.Thread(target=_slowly, args=(server, path, seen)) for _ in range(SLOW)]
    fast = [threading.Thread(target=_fast, args=(server, path, seen)) for _ in range(FAST)]
    for each in slow:
        each.start()
    time.sleep(0.5)  # until the slow ones are being served, as far as they are
    cpu, began = cpu_seconds(server.pid), time.monotonic()
    for each in fast:
        each.start()
    for each in fast:
        each.join()
    took = time.monotonic() - began
    cpu = cpu_seconds(server.pid) - cpu
    seen.over.set()
    for each in slow:
        each.join()
    return {
        SPEED: seen.taken / (1 << 20) / took,
        DONE: seen.served,
        LAST: max(seen.first_bytes, default=took) if len(seen.first_bytes) == FAST else took,
        CPU: cpu,
    }


def _fast(server: Server, path: str, seen: Crowd) -> None:
    began = time.monotonic()
    taken = 0
    try:
        with client.connect(server) as connection:
            connection.settimeout(STALLED)
            left, size = client.begin(server, connection, path)
            waited = time.monotonic() - began
            taken = size - left
            with seen.lock:
                seen.first_bytes.append(waited)
            taken += client.drain(connection, left)
            served = 1
    except (OSError, client.Refused):
        served = 0
    with seen.lock:
        seen.taken += taken
        seen.served += served


def _slowly(server: Server, path: str, seen: Crowd) -> None:
    with socket.socket() as connection:
        # A small window: what is sent is what was read, and little more.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_STEP)
        connection.settimeout(STALLED)
        try:
            connection.connect(("127.0.0.1", server.port))
            client.begin(server, connection, path)
            while not seen.over.wait(SLOW_PAUSE) and connection.recv(SLOW_STEP):
                pass
        except (OSError, client.Refused):
            return
