"""What runs beside the requests: tasks, and looking after what died.

In ``glancelike-api`` a few threads do it; ``glancelike-worker`` does
nothing else, on as many hosts as wanted. Whoever holds a task's lease does
it, so one more worker is never in the way.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from glancelike import config
from glancelike.ending import Ending
from glancelike.errors import ConfigError, GlancelikeError
from glancelike.service import ImageService
from glancelike.starting import settle
from glancelike.web import logs

log = logging.getLogger(__name__)


@contextmanager
def working(service: ImageService, settings: config.Config, *, threads: int) -> Iterator[None]:
    """Work on tasks in ``threads`` threads, and reap at intervals, until the end."""
    with ExitStack() as stack:
        if settings.reap_interval:
            stack.enter_context(every(settings.reap_interval, service.look_after))
        if threads:
            service.start_tasks(threads, settings.task_poll_interval)
        yield


@contextmanager
def every(interval: float, act: Callable[[], object]) -> Iterator[None]:
    """Call ``act`` every ``interval`` seconds in a thread; what it raises is logged."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(interval):
            try:
                act()
            except GlancelikeError as error:
                log.warning("%s: %s", getattr(act, "__name__", "upkeep"), error)
            except Exception:
                # A thread that ended here would be missed by nobody.
                log.exception("%s", getattr(act, "__name__", "upkeep"))

    thread = threading.Thread(target=run, name="upkeep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``glancelike-worker --config-file FILE`` until SIGTERM or SIGINT."""
    ended = Ending()
    try:
        settings = config.load(sys.argv[1:] if argv is None else argv, prog="glancelike-worker")
        logs.configure(debug=settings.debug)
        threads = max(1, settings.task_workers)
        with config.build(settings) as service, working(service, settings, threads=threads):
            settle()
            log.info("glancelike-worker works with %d threads", threads)
            ended.wait()
    except (ConfigError, GlancelikeError) as error:
        print(f"glancelike-worker: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    sys.exit(0)
