"""Rules of images, their data, members and locations."""

from __future__ import annotations

from glancelike.policy.base import (
    ADMIN,
    ADMIN_OR_MEMBER,
    ADMIN_OR_READER,
    MEMBER,
    SERVICE,
    SHARED_WITH,
    VISIBLE,
    Rule,
    rule,
)

IMAGES = "/v2/images"
IMAGE = "/v2/images/{image_id}"
MEMBERS = f"{IMAGE}/members"
ONE_MEMBER = f"{MEMBERS}/{{member_id}}"
MEMBER_OR_READER = f"{ADMIN} or role:reader and (project_id:%(project_id)s or {SHARED_WITH})"
DOWNLOAD = f"{ADMIN} or (role:member and ({VISIBLE}))"

RULES: tuple[Rule, ...] = (
    rule(
        "add_image",
        f"{ADMIN} or ({MEMBER} and project_id:%(owner)s)",
        "Create an image",
        f"POST {IMAGES}",
    ),
    rule("delete_image", ADMIN_OR_MEMBER, "Delete an image", f"DELETE {IMAGE}"),
    rule("get_image", f"{ADMIN} or (role:reader and ({VISIBLE}))", "Show an image", f"GET {IMAGE}"),
    rule("get_images", ADMIN_OR_READER, "List images", f"GET {IMAGES}"),
    rule(
        "modify_image",
        ADMIN_OR_MEMBER,
        "Change an image or its tags, stage its data, import it",
        f"PATCH {IMAGE}",
        f"PUT {IMAGE}/tags/{{tag}}",
        f"DELETE {IMAGE}/tags/{{tag}}",
        f"PUT {IMAGE}/stage",
        f"POST {IMAGE}/import",
    ),
    rule("publicize_image", ADMIN, "Make an image public", f"POST {IMAGES}", f"PATCH {IMAGE}"),
    rule(
        "communitize_image",
        ADMIN_OR_MEMBER,
        "Make an image a community image",
        f"POST {IMAGES}",
        f"PATCH {IMAGE}",
    ),
    rule("download_image", DOWNLOAD, "Download an image's data", f"GET {IMAGE}/file"),
    rule(
        "download_from_store",
        DOWNLOAD,
        "Choose the store that an image's data is downloaded from (?prefer=)",
        f"GET {IMAGE}/file",
    ),
    rule(
        "upload_image",
        ADMIN_OR_MEMBER,
        "Upload an image's data, at once or in pieces",
        f"PUT {IMAGE}/file",
        f"POST {IMAGE}/uploads",
        f"HEAD {IMAGE}/uploads/{{upload_id}}",
        f"PATCH {IMAGE}/uploads/{{upload_id}}",
        f"DELETE {IMAGE}/uploads/{{upload_id}}",
        f"POST {IMAGE}/presigned",
        f"POST {IMAGE}/presigned/{{upload_id}}/complete",
    ),
    rule(
        "delete_image_location",
        ADMIN,
        "Take a location from an image; delete its data from one store",
        f"PATCH {IMAGE}",
        "DELETE /v2/stores/{store_id}/{image_id}",
    ),
    rule("get_image_location", ADMIN_OR_READER, "Read an image's locations", f"GET {IMAGE}"),
    rule("set_image_location", ADMIN_OR_MEMBER, "Set an image's locations", f"PATCH {IMAGE}"),
    rule(
        "add_image_location",
        f"{SERVICE} or ({MEMBER} and project_id:%(owner)s)",
        "Add a location to a queued image",
        f"POST {IMAGE}/locations",
    ),
    rule("fetch_image_location", SERVICE, "Fetch an image's locations", f"GET {IMAGE}/locations"),
    rule("add_member", ADMIN_OR_MEMBER, "Share an image", f"POST {MEMBERS}"),
    rule("delete_member", ADMIN_OR_MEMBER, "Stop sharing an image", f"DELETE {ONE_MEMBER}"),
    rule("get_member", MEMBER_OR_READER, "Show a member of an image", f"GET {ONE_MEMBER}"),
    rule("get_members", MEMBER_OR_READER, "List the members of an image", f"GET {MEMBERS}"),
    rule(
        "modify_member",
        f"{ADMIN} or (role:member and {SHARED_WITH})",
        "Accept or reject a shared image",
        f"PUT {ONE_MEMBER}",
    ),
    rule(
        "deactivate",
        ADMIN_OR_MEMBER,
        "Take an image out of use for a while",
        f"POST {IMAGE}/actions/deactivate",
    ),
    rule("reactivate", ADMIN_OR_MEMBER, "Put an image into use again", f"POST {IMAGE}/actions/reactivate"),
    rule("copy_image", ADMIN, "Copy an image's data to other stores", f"POST {IMAGE}/import"),
)
