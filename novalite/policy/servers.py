"""Rules of servers: to make, see and change them, and what is told of them."""

from __future__ import annotations

from novalite.policy.base import ADMIN, MANAGER, MEMBER, READER, Rule, rule

SERVERS = "/servers"
DETAIL = "/servers/detail"
SERVER = "/servers/{server_id}"
ACTION = f"{SERVER}/action"
METADATA = f"{SERVER}/metadata"
TAGS = f"{SERVER}/tags"
MIGRATIONS = f"{SERVER}/migrations"
MIGRATION = f"{MIGRATIONS}/{{migration_id}}"
ACTIONS = f"{SERVER}/os-instance-actions"
API = "os_compute_api:"
OF_SERVERS = f"{API}servers:"
SHOWN = (f"GET {SERVER}", f"GET {DETAIL}", f"PUT {SERVER}", f"POST {ACTION} (rebuild)")


def acting(name: str, check: str, text: str, *actions: str) -> Rule:
    """Describe a rule of actions on a server."""
    return rule(f"{API}{name}", check, text, *(f"POST {ACTION} ({action})" for action in actions))


_LISTS: tuple[Rule, ...] = (
    rule(f"{OF_SERVERS}index", READER, "List servers", f"GET {SERVERS}"),
    rule(f"{OF_SERVERS}detail", READER, "List servers with all that is told of them", f"GET {DETAIL}"),
    rule(f"{OF_SERVERS}index:get_all_tenants", ADMIN, "List the servers of all projects", f"GET {SERVERS}"),
    rule(
        f"{OF_SERVERS}detail:get_all_tenants",
        ADMIN,
        "List the servers of all projects with all that is told of them",
        f"GET {DETAIL}",
    ),
    rule(
        f"{OF_SERVERS}allow_all_filters",
        ADMIN,
        "Filter lists of servers by everything; what else others ask for is passed over",
        f"GET {SERVERS}",
        f"GET {DETAIL}",
    ),
)
_SHOWN: tuple[Rule, ...] = (
    rule(f"{OF_SERVERS}show", READER, "Show a server", f"GET {SERVER}"),
    rule(
        f"{OF_SERVERS}show:flavor-extra-specs",
        READER,
        "See the extra specs of a server's flavor, from 2.47 on",
        *SHOWN,
    ),
    rule(f"{OF_SERVERS}show:host_status", ADMIN, "See the state of a server's host, from 2.16 on", *SHOWN),
    rule(
        f"{OF_SERVERS}show:host_status:unknown-only",
        ADMIN,
        "See that the state of a server's host isn't known; asked of those who may not see it otherwise",
        *SHOWN,
    ),
    rule(
        f"{API}os-extended-server-attributes",
        ADMIN,
        "See a server's host and the further attributes OS-EXT-SRV-ATTR:…",
        *SHOWN,
    ),
)
_CREATED: tuple[Rule, ...] = (
    rule(f"{OF_SERVERS}create", MEMBER, "Create servers", f"POST {SERVERS}"),
    rule(
        f"{OF_SERVERS}create:forced_host",
        ADMIN,
        "Create servers on the host that their zone names (zone:host)",
        f"POST {SERVERS}",
    ),
    rule(
        "compute:servers:create:requested_destination",
        ADMIN,
        "Create servers on the host that is asked for, from 2.74 on",
        f"POST {SERVERS}",
    ),
    rule(
        f"{OF_SERVERS}create:attach_network",
        MEMBER,
        "Create servers with a network that is asked for",
        f"POST {SERVERS}",
    ),
    rule(
        f"{OF_SERVERS}create:zero_disk_flavor",
        ADMIN,
        "Create or rebuild servers by a flavor whose disk of 0 is as large as any image is",
        f"POST {SERVERS}",
        f"POST {ACTION} (rebuild)",
    ),
)
_CHANGED: tuple[Rule, ...] = (
    rule(f"{OF_SERVERS}update", MEMBER, "Update a server", f"PUT {SERVER}"),
    rule(f"{OF_SERVERS}delete", MEMBER, "Delete a server", f"DELETE {SERVER}"),
    acting("servers:start", MEMBER, "Start a server", "os-start"),
    acting("servers:stop", MEMBER, "Stop a server", "os-stop"),
    acting("servers:reboot", MEMBER, "Reboot a server", "reboot"),
    acting("servers:rebuild", MEMBER, "Rebuild a server", "rebuild"),
    acting("servers:resize", MEMBER, "Resize a server", "resize"),
    acting("servers:confirm_resize", MEMBER, "Confirm that a server was resized", "confirmResize"),
    acting("servers:revert_resize", MEMBER, "Undo that a server was resized", "revertResize"),
    acting("servers:create_image", MEMBER, "Make an image of a server", "createImage"),
)
_METADATA: tuple[Rule, ...] = (
    rule(f"{API}server-metadata:index", READER, "List a server's metadata", f"GET {METADATA}"),
    rule(f"{API}server-metadata:show", READER, "Show one metadata item", f"GET {METADATA}/{{key}}"),
    rule(f"{API}server-metadata:create", MEMBER, "Add to a server's metadata", f"POST {METADATA}"),
    rule(f"{API}server-metadata:update_all", MEMBER, "Replace a server's metadata", f"PUT {METADATA}"),
    rule(f"{API}server-metadata:update", MEMBER, "Set one metadata item", f"PUT {METADATA}/{{key}}"),
    rule(f"{API}server-metadata:delete", MEMBER, "Remove one metadata item", f"DELETE {METADATA}/{{key}}"),
)
_TAGS: tuple[Rule, ...] = (
    rule(f"{API}os-server-tags:index", READER, "List a server's tags", f"GET {TAGS}"),
    rule(f"{API}os-server-tags:show", READER, "See whether a server has a tag", f"GET {TAGS}/{{tag}}"),
    rule(f"{API}os-server-tags:update_all", MEMBER, "Replace a server's tags", f"PUT {TAGS}"),
    rule(f"{API}os-server-tags:update", MEMBER, "Add a tag", f"PUT {TAGS}/{{tag}}"),
    rule(f"{API}os-server-tags:delete_all", MEMBER, "Remove all tags of a server", f"DELETE {TAGS}"),
    rule(f"{API}os-server-tags:delete", MEMBER, "Remove a tag", f"DELETE {TAGS}/{{tag}}"),
)
_MIGRATIONS: tuple[Rule, ...] = (
    rule(
        f"{OF_SERVERS}migrations:index",
        MANAGER,
        "List a server's live migrations that are under way, without their hosts",
        f"GET {MIGRATIONS}",
    ),
    rule(
        f"{OF_SERVERS}migrations:index:host",
        ADMIN,
        "See the hosts of a server's live migrations",
        f"GET {MIGRATIONS}",
    ),
    rule(
        f"{OF_SERVERS}migrations:show", ADMIN, "Show a live migration that is under way", f"GET {MIGRATION}"
    ),
    rule(
        f"{OF_SERVERS}migrations:force_complete",
        MANAGER,
        "Have a live migration come to its end",
        f"POST {MIGRATION}/action (force_complete)",
    ),
    rule(f"{OF_SERVERS}migrations:delete", MANAGER, "Call a live migration off", f"DELETE {MIGRATION}"),
)
_TOLD: tuple[Rule, ...] = (
    rule(f"{API}os-instance-actions:list", READER, "List what was ordered of a server", f"GET {ACTIONS}"),
    rule(
        f"{API}os-instance-actions:show",
        READER,
        "Show what was ordered of a server",
        f"GET {ACTIONS}/{{request_id}}",
    ),
    rule(
        f"{API}os-instance-actions:events",
        ADMIN,
        "See all of the steps of what was ordered; from 2.51 on all see them without host and traceback",
        f"GET {ACTIONS}/{{request_id}}",
    ),
    rule(
        f"{API}os-instance-actions:events:details",
        ADMIN,
        "See what a step failed of, from 2.84 on",
        f"GET {ACTIONS}/{{request_id}}",
    ),
    rule(
        f"{API}os-server-diagnostics",
        ADMIN,
        "See what a server's guest has used",
        f"GET {SERVER}/diagnostics",
    ),
    rule(f"{API}ips:index", READER, "See a server's addresses", f"GET {SERVER}/ips"),
    rule(f"{API}ips:show", READER, "See a server's addresses in a network", f"GET {SERVER}/ips/{{network}}"),
    rule("compute:server:topology:index", READER, "See a guest's NUMA nodes", f"GET {SERVER}/topology"),
    acting("os-console-output", MEMBER, "See the end of the console's log", "os-getConsoleOutput"),
    rule(
        f"{API}os-remote-consoles",
        MEMBER,
        "Get the URL of a server's console",
        f"POST {SERVER}/remote-consoles",
        f"POST {ACTION} (os-getSerialConsole)",
    ),
)
RULES: tuple[Rule, ...] = (
    *_LISTS,
    *_SHOWN,
    *_CREATED,
    *_CHANGED,
    *_METADATA,
    *_TAGS,
    *_MIGRATIONS,
    *_TOLD,
)
