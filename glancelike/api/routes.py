"""Every operation that the server answers: the table of contents of the API.

A new noun is a module with a Resource, and its lines here.
"""

from __future__ import annotations

from glancelike.api.health import Health
from glancelike.api.image_data import ImageData
from glancelike.api.image_members import ImageMembers
from glancelike.api.image_tags import ImageTags
from glancelike.api.images import Images
from glancelike.api.info import Info
from glancelike.api.schemas import SchemaDocuments
from glancelike.api.versions import Versions
from glancelike.web.routes import Route

IMAGES = "/v2/images"
IMAGE = "/v2/images/{image_id}"
FILE = f"{IMAGE}/file"
TAG = f"{IMAGE}/tags/{{tag}}"
MEMBERS = f"{IMAGE}/members"
MEMBER = f"{MEMBERS}/{{member_id}}"
SCHEMAS = "/v2/schemas"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/", Versions, "choices", public=True),
    Route("GET", "/versions", Versions, "list", public=True),
    Route("GET", "/v2", Versions, "list", public=True),
    Route("GET", "/healthcheck", Health, "show", public=True),
    Route("GET", IMAGES, Images, "list", "get_images"),
    Route("POST", IMAGES, Images, "create", "add_image"),
    Route("GET", IMAGE, Images, "show", "get_image"),
    Route("PATCH", IMAGE, Images, "update", "modify_image"),
    Route("DELETE", IMAGE, Images, "delete", "delete_image"),
    Route("GET", FILE, ImageData, "download", "download_image"),
    Route("HEAD", FILE, ImageData, "describe", "download_image"),
    Route("PUT", FILE, ImageData, "upload", "upload_image"),
    Route("PUT", TAG, ImageTags, "add", "modify_image"),
    Route("DELETE", TAG, ImageTags, "remove", "modify_image"),
    Route("GET", MEMBERS, ImageMembers, "list", "get_members"),
    Route("POST", MEMBERS, ImageMembers, "create", "add_member"),
    Route("GET", MEMBER, ImageMembers, "show", "get_member"),
    Route("PUT", MEMBER, ImageMembers, "update", "modify_member"),
    Route("DELETE", MEMBER, ImageMembers, "delete", "delete_member"),
    Route("GET", f"{SCHEMAS}/image", SchemaDocuments, "image"),
    Route("GET", f"{SCHEMAS}/images", SchemaDocuments, "images"),
    Route("GET", f"{SCHEMAS}/member", SchemaDocuments, "member"),
    Route("GET", f"{SCHEMAS}/members", SchemaDocuments, "members"),
    Route("GET", "/v2/info/import", Info, "import_methods"),
    Route("GET", "/v2/info/stores", Info, "stores"),
)
