"""What doesn't fit Nova's schemas, and why that is right."""

from __future__ import annotations

#: Pattern of "kind method path action: fault" -> why.
FITTING: dict[str, str] = {
    r"^answer POST /servers/\{id\}/action createBackup: all of it: None": (
        "a backup of rotation 0 is none, so there is no image to tell; Nova's answer doesn't fit either"
    ),
    r"^answer GET /os-server-groups(/\{id\})? -: server_groups?.*policies.*'soft-": (
        "what was made with a newer version is shown as it is, by Nova, too"
    ),
}
