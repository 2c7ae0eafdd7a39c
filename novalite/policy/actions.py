"""Rules of what else may be done to a server."""

from __future__ import annotations

from novalite.policy.base import ADMIN, MANAGER, MEMBER, Rule
from novalite.policy.servers import acting

RULES: tuple[Rule, ...] = (
    acting("os-pause-server:pause", MEMBER, "Pause a server", "pause"),
    acting("os-pause-server:unpause", MEMBER, "Let a paused server go on", "unpause"),
    acting("os-suspend-server:suspend", MEMBER, "Suspend a server", "suspend"),
    acting("os-suspend-server:resume", MEMBER, "Let a suspended server go on", "resume"),
    acting("os-lock-server:lock", MEMBER, "Lock a server", "lock"),
    acting("os-lock-server:unlock", MEMBER, "Unlock a server", "unlock"),
    acting(
        "os-lock-server:unlock:unlock_override",
        ADMIN,
        "Unlock a server that somebody else has locked",
        "unlock",
    ),
    acting("os-admin-actions:reset_state", ADMIN, "Declare a server's state", "os-resetState"),
    acting("os-rescue", MEMBER, "Rescue a server", "rescue"),
    acting("os-unrescue", MEMBER, "End a rescue", "unrescue"),
    acting("os-create-backup", MEMBER, "Make a backup of a server", "createBackup"),
    acting("os-shelve:shelve", MEMBER, "Shelve a server", "shelve"),
    acting("os-shelve:shelve_offload", ADMIN, "Have a shelved server leave its host", "shelveOffload"),
    acting("os-shelve:unshelve", MEMBER, "Unshelve a server", "unshelve"),
    acting("os-shelve:unshelve_to_host", ADMIN, "Unshelve a server on the host that is named", "unshelve"),
    acting("os-migrate-server:migrate", MANAGER, "Move a server to another host", "migrate"),
    acting("os-migrate-server:migrate:host", ADMIN, "Move a server to the host that is named", "migrate"),
    acting(
        "os-migrate-server:migrate_live", MANAGER, "Move a running server to another host", "os-migrateLive"
    ),
    acting(
        "os-migrate-server:migrate_live:host",
        ADMIN,
        "Move a running server to the host that is named",
        "os-migrateLive",
    ),
    acting("os-deferred-delete:force", MEMBER, "Delete a server at once, as ever", "forceDelete"),
    acting("os-deferred-delete:restore", MEMBER, "Bring a server back that isn't gone yet", "restore"),
    acting("os-evacuate", ADMIN, "Make a server of a dead host anew on another", "evacuate"),
)
