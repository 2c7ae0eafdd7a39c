"""What the process is told; it travels as JSON, since it has a password in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from novalite.config import GlanceSettings, LazySettings, Settings


@dataclass(frozen=True, slots=True)
class BasesSettings:
    """Which cache, how bases are filled, and where images come from."""

    directory: Path
    local_stores: Mapping[str, Path]
    lazy: LazySettings
    glance: GlanceSettings

    @classmethod
    def of(cls, settings: Settings) -> BasesSettings:
        """Take what is needed of a node's settings."""
        cache = settings.image_cache
        return cls(cache.directory.absolute(), cache.local_stores, cache.lazy, settings.glance)

    def to_json(self) -> str:
        """Write them as ``from_json`` reads them."""
        values = {"lazy": asdict(self.lazy), "glance": asdict(self.glance)}
        return json.dumps({"directory": str(self.directory), **values})

    @classmethod
    def from_json(cls, text: str) -> BasesSettings:
        """Read what another process has written."""
        told = json.loads(text)
        # Local stores are the worker's business.
        return cls(
            Path(told["directory"]), {}, LazySettings(**told["lazy"]), GlanceSettings(**told["glance"])
        )
