"""Every operation that the server answers: the table of contents of the API.

A new noun is a module with a Resource, and its lines here.
"""

from __future__ import annotations

from glancelike.api import metadef_routes
from glancelike.api.cache import Cache
from glancelike.api.health import Health
from glancelike.api.image_actions import ImageActions
from glancelike.api.image_data import ImageData
from glancelike.api.image_import import ImageImport
from glancelike.api.image_locations import ImageLocations
from glancelike.api.image_members import ImageMembers
from glancelike.api.image_tags import ImageTags
from glancelike.api.images import Images
from glancelike.api.info import Info
from glancelike.api.openapi import OpenApi
from glancelike.api.presigned import Presigned
from glancelike.api.schemas import SchemaDocuments
from glancelike.api.stores import Stores
from glancelike.api.tasks import Tasks
from glancelike.api.uploads import Uploads
from glancelike.api.versions import Versions
from glancelike.web.routes import Route

IMAGES = "/v2/images"
IMAGE = "/v2/images/{image_id}"
FILE = f"{IMAGE}/file"
UPLOADS = f"{IMAGE}/uploads"
UPLOAD = f"{UPLOADS}/{{upload_id}}"
TAG = f"{IMAGE}/tags/{{tag}}"
MEMBERS = f"{IMAGE}/members"
MEMBER = f"{MEMBERS}/{{member_id}}"
TASKS = "/v2/tasks"
SCHEMAS = "/v2/schemas"
CACHE = "/v2/cache"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/", Versions, "choices", public=True),
    Route("GET", "/versions", Versions, "list", public=True),
    Route("GET", "/v2", Versions, "list", public=True),
    Route("GET", "/v2/", Versions, "list", public=True),
    Route("GET", "/healthcheck", Health, "show", public=True),
    Route("GET", "/v2/openapi.json", OpenApi, "show", public=True),
    Route("GET", IMAGES, Images, "list", "get_images"),
    Route("POST", IMAGES, Images, "create", "add_image"),
    Route("GET", IMAGE, Images, "show", "get_image"),
    Route("PATCH", IMAGE, Images, "update", "modify_image"),
    Route("DELETE", IMAGE, Images, "delete", "delete_image"),
    Route("GET", FILE, ImageData, "download", "download_image"),
    Route("HEAD", FILE, ImageData, "describe", "download_image"),
    Route("PUT", FILE, ImageData, "upload", "upload_image"),
    Route("OPTIONS", UPLOADS, Uploads, "options"),
    Route("POST", UPLOADS, Uploads, "create", "upload_image"),
    Route("OPTIONS", UPLOAD, Uploads, "options_of_one"),
    Route("HEAD", UPLOAD, Uploads, "show", "upload_image"),
    Route("PATCH", UPLOAD, Uploads, "take", "upload_image"),
    Route("DELETE", UPLOAD, Uploads, "terminate", "upload_image"),
    Route("POST", f"{IMAGE}/presigned", Presigned, "create", "upload_image"),
    Route("POST", f"{IMAGE}/presigned/{{upload_id}}/complete", Presigned, "complete", "upload_image"),
    Route("PUT", f"{IMAGE}/stage", ImageImport, "stage", "modify_image"),
    Route("POST", f"{IMAGE}/import", ImageImport, "start", "modify_image"),
    Route("GET", f"{IMAGE}/tasks", ImageImport, "tasks", "get_image"),
    Route("GET", f"{IMAGE}/locations", ImageLocations, "list", "fetch_image_location"),
    Route("POST", f"{IMAGE}/locations", ImageLocations, "add", "add_image_location"),
    Route("POST", f"{IMAGE}/actions/deactivate", ImageActions, "deactivate", "deactivate"),
    Route("POST", f"{IMAGE}/actions/reactivate", ImageActions, "reactivate", "reactivate"),
    Route("PUT", TAG, ImageTags, "add", "modify_image"),
    Route("DELETE", TAG, ImageTags, "remove", "modify_image"),
    Route("GET", MEMBERS, ImageMembers, "list", "get_members"),
    Route("POST", MEMBERS, ImageMembers, "create", "add_member"),
    Route("GET", MEMBER, ImageMembers, "show", "get_member"),
    Route("PUT", MEMBER, ImageMembers, "update", "modify_member"),
    Route("DELETE", MEMBER, ImageMembers, "delete", "delete_member"),
    Route("GET", TASKS, Tasks, "list", "tasks_api_access"),
    Route("POST", TASKS, Tasks, "create", "tasks_api_access"),
    Route("GET", f"{TASKS}/{{task_id}}", Tasks, "show", "tasks_api_access"),
    Route("DELETE", f"{TASKS}/{{task_id}}", Tasks, "delete", "tasks_api_access"),
    Route("GET", f"{SCHEMAS}/image", SchemaDocuments, "image"),
    Route("GET", f"{SCHEMAS}/task", SchemaDocuments, "task"),
    Route("GET", f"{SCHEMAS}/tasks", SchemaDocuments, "tasks"),
    Route("GET", f"{SCHEMAS}/images", SchemaDocuments, "images"),
    Route("GET", f"{SCHEMAS}/member", SchemaDocuments, "member"),
    Route("GET", f"{SCHEMAS}/members", SchemaDocuments, "members"),
    Route("GET", "/v2/info/import", Info, "import_methods"),
    Route("GET", "/v2/info/usage", Info, "usage"),
    Route("GET", "/v2/info/stores", Info, "stores"),
    Route("GET", "/v2/info/stores/detail", Info, "store_details", "stores_info_detail"),
    Route("DELETE", "/v2/stores/{store_id}/{image_id}", Stores, "remove", "delete_image_location"),
    Route("GET", CACHE, Cache, "show", "cache_list"),
    Route("DELETE", CACHE, Cache, "clear", "cache_delete"),
    Route("PUT", f"{CACHE}/{{image_id}}", Cache, "queue", "cache_image"),
    Route("DELETE", f"{CACHE}/{{image_id}}", Cache, "delete", "cache_delete"),
    Route("GET", f"{CACHE}/nodes/{{image_id}}", Cache, "nodes", "list_cached_nodes"),
    Route("POST", f"{CACHE}/clean", Cache, "clean", "cache_clean"),
    Route("POST", f"{CACHE}/prune", Cache, "prune", "cache_prune"),
    *metadef_routes.ROUTES,
)
