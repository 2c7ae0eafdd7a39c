"""Look at a blob that is complete in its store already, as if it had just come in."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from glancelike.errors import StoreUnavailable
from glancelike.model import Image, Location, Source
from glancelike.service.context import Context
from glancelike.streams import ChunkSource
from glancelike.transfer import BLOCK, Inspection, Outcome, Transfer, Watcher

LOG = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between looks whether the work is still wanted


def read_through(
    context: Context,
    image: Image,
    location: Location,
    *,
    algorithms: Sequence[str],
    inspection: Callable[[], Inspection],
    watchers: Callable[[], Sequence[Watcher]] = tuple,
    look: Callable[[], object],
) -> Outcome:
    """Read all of a blob, once, past all that has to see an image's data.

    A store that is away gets some more chances, each with a new inspection
    and new watchers. ``look`` is called now and then, and raises when the
    work isn't wanted any more. Raises what ``ingested`` raises.
    """
    store = context.mounts[location.store].store
    failures = 0
    while True:
        chunks = ChunkSource(lambda: store.read(location.key))
        try:
            with Transfer(
                _Watched(chunks, look),
                algorithms=algorithms,
                cap=context.settings.image_size_cap,
                inspection=inspection(),
                watchers=watchers(),
            ) as transfer:
                while transfer.read(BLOCK):
                    pass
                return transfer.finish()
        except StoreUnavailable as error:
            failures += 1
            if failures > context.settings.http_retries:
                raise
            LOG.warning("data of image %s: %s; once more", image.id, error)
        finally:
            chunks.close()


class _Watched:
    """A source that looks now and then whether it is still wanted."""

    def __init__(self, source: Source, look: Callable[[], object]) -> None:
        self._source = source
        self._look = look
        self._looked = time.monotonic()

    def read(self, size: int, /) -> bytes:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._look()
            self._looked = time.monotonic()
        return self._source.read(size)
