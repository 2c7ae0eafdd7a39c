"""Truth values in bodies and queries, as oslo.utils takes them, and with it every client of Nova's."""

from __future__ import annotations

from typing import Any

TRUE = ("1", "t", "true", "on", "y", "yes")
FALSE = ("0", "f", "false", "off", "n", "no")

#: The schema of a member that is a boolean, or one's name in any case of letters.
BOOLEAN: dict[str, Any] = {
    "anyOf": [
        {"type": "boolean"},
        {"type": "string", "pattern": f"(?i)^({'|'.join((*TRUE, *FALSE))})$"},
    ]
}
#: Likewise, where nothing may be said as well, which is false.
BOOLEAN_OR_NOTHING: dict[str, Any] = {"anyOf": [*BOOLEAN["anyOf"], {"enum": [None, ""]}]}


def truth(value: Any) -> bool:
    """Return what a member of one of these schemas says."""
    return str(value).lower() in TRUE
