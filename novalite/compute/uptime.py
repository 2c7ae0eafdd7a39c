"""How long this host is up, and how busy, as ``uptime`` tells it."""

from __future__ import annotations

import os
import time
from pathlib import Path

_UPTIME = Path("/proc/uptime")


def uptime() -> str:
    """Return a line such as `` 08:32:11 up 93 days, 18:25,  0 users,  load average: 0.20, 0.12, 0.14``.

    Nobody is logged in as far as this tells: clients read the rest.
    """
    seconds = int(float(_UPTIME.read_text().split()[0]))
    days, minutes = seconds // 86400, seconds // 60 % 1440
    told = f"{days} day{'s' if days > 1 else ''}, " * bool(days)
    hours = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else f"{minutes} min"
    load = ", ".join(f"{each:.2f}" for each in os.getloadavg())
    return f" {time.strftime('%H:%M:%S')} up {told}{hours},  0 users,  load average: {load}"
