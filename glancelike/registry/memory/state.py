"""What the parts of the memory registry share."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from glancelike.model import Amounts, CachedImage, Image, Member, Task, Upload
from glancelike.plugins import Plugin


class Reservation(NamedTuple):
    project: str
    amounts: Amounts
    until: float


class State(Plugin):
    """The records of this process, under one lock: each method is one transaction."""

    def __init__(self, settings: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(settings)
        self._lock = threading.RLock()
        self._images: dict[str, Image] = {}
        self._used: set[str] = set()
        self._tombstones: dict[str, datetime] = {}
        self._members: dict[str, dict[str, Member]] = {}
        self._leases: dict[str, tuple[str, float]] = {}
        self._tasks: dict[str, Task] = {}
        self._uploads: dict[str, Upload] = {}
        self._reservations: dict[str, Reservation] = {}
        self._cached: dict[tuple[str, str], CachedImage] = {}

    def _held(self, lease: str) -> bool:
        found = self._leases.get(lease)
        return found is not None and found[1] > time.monotonic()
