"""What each operation of ROUTES takes and answers, by resource and method."""

from __future__ import annotations

from collections.abc import Mapping

from glancelike.api import metadef_descriptions, patch
from glancelike.api.cache import TARGET
from glancelike.api.image_import import STORE_HEADER
from glancelike.api.operation import (
    ANY,
    FLAG,
    JSON,
    NUMBER,
    OCTETS,
    SORT_DIR,
    TEXT,
    Json,
    Operation,
    listing,
    told,
)
from glancelike.api.presigned import NEW as PRESIGN
from glancelike.api.presigned import SHOWN as PRESIGNED
from glancelike.api.task_schema import NEW_TASK
from glancelike.api.uploads import OFFSET_OCTETS as TUS_BODY
from glancelike.model import (
    SORT_FIELDS,
    TASK_SORT_FIELDS,
    ChangeOp,
    MemberStatus,
    Status,
    TaskStatus,
    TaskType,
    Visibility,
)

DATA: Json = {"type": "string", "format": "binary"}
INSTANT: Json = {
    "type": "string",
    "pattern": "^(gt|gte|eq|neq|lt|lte):",
    "description": "An operator and a time, such as gte:2026-01-31T00:00:00Z",
}
PAGE: Mapping[str, Json] = {"limit": NUMBER, "marker": TEXT}
STORE: Mapping[str, Json] = {STORE_HEADER: {"type": "string", "description": "Store to write to"}}
SIZE: Mapping[str, Json] = {"x-openstack-image-size": NUMBER}
PATCH_V20: Json = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            **{op: {"type": "string", "pattern": "^/"} for op in ChangeOp},
            "value": {},
        },
        "minProperties": 1,
    },
    "examples": [[{"replace": "/name", "value": "new"}]],
}
PATCH_V21: Json = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "op": {"type": "string", "enum": list(ChangeOp)},
            "path": {"type": "string", "pattern": "^/"},
            "value": {},
        },
        "required": ["op", "path"],
    },
    "examples": [[{"op": "replace", "path": "/name", "value": "new"}]],
}
STORE_INFO: Json = {
    "type": "object",
    "properties": {
        "id": TEXT,
        "description": TEXT,
        "default": FLAG,
        "read-only": FLAG,
        "type": TEXT,
        "weight": {"type": "integer"},
        "properties": ANY,
        "unavailable": {"type": "string", "description": "Why the store is down, if it is"},
    },
    "required": ["id"],
}
LOCATION: Json = {
    "type": "object",
    "properties": {"url": TEXT, "metadata": {"type": "object", "additionalProperties": TEXT}},
    "required": ["url", "metadata"],
}
NEW_LOCATION: Json = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "format": "uri"},
        "validation_data": {
            "type": "object",
            "properties": {"os_hash_algo": TEXT, "os_hash_value": TEXT},
            "additionalProperties": False,
        },
    },
    "required": ["url"],
    "examples": [{"url": "https://images.example/image.qcow2"}],
}
IMPORT: Json = {
    "type": "object",
    "properties": {
        "method": {
            "type": "object",
            "properties": {
                "name": {
                    "type": "string",
                    "enum": ["glance-direct", "web-download", "copy-image", "glance-download"],
                },
                "uri": TEXT,
                "digest": {"type": "string", "description": "What the data must be, as sha256:<digest>"},
                "glance_image_id": TEXT,
                "glance_region": TEXT,
                "glance_service_interface": TEXT,
            },
            "required": ["name"],
        },
        "stores": {"type": "array", "items": TEXT, "minItems": 1},
        "all_stores": {"type": "boolean"},
        "all_stores_must_succeed": {"type": "boolean"},
    },
    "required": ["method"],
    "examples": [
        {"method": {"name": "glance-direct"}},
        {"method": {"name": "web-download", "uri": "https://images.example/image.qcow2"}},
        {"method": {"name": "copy-image"}, "all_stores": True, "all_stores_must_succeed": False},
    ],
}
TASK_EXAMPLE: Json = {
    "type": "import",
    "input": {
        "import_from": "https://images.example/image.qcow2",
        "import_from_format": "qcow2",
        "image_properties": {"name": "new", "disk_format": "qcow2", "container_format": "bare"},
    },
}
VERSIONS: Json = {
    "type": "object",
    "properties": {
        "versions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": TEXT,
                    "status": {"type": "string", "enum": ["CURRENT", "SUPPORTED"]},
                    "links": {"type": "array", "items": ANY},
                },
                "required": ["id", "status", "links"],
            },
        }
    },
    "required": ["versions"],
}
USAGE: Json = {
    "type": "object",
    "properties": {
        "usage": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"usage": NUMBER, "limit": {"type": "integer", "minimum": -1}},
                "required": ["usage", "limit"],
            },
        }
    },
    "required": ["usage"],
}
CACHE_STATE: Json = {
    "type": "object",
    "properties": {
        "cached_images": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "image_id": TEXT,
                    "hits": NUMBER,
                    "last_accessed": {"type": "number"},
                    "last_modified": {"type": "number"},
                    "size": NUMBER,
                },
                "required": ["image_id", "hits", "last_accessed", "last_modified", "size"],
            },
        },
        "queued_images": {"type": "array", "items": TEXT},
    },
    "required": ["cached_images", "queued_images"],
}
PRUNED: Json = {
    "type": "object",
    "properties": {"total_files_pruned": NUMBER, "total_bytes_pruned": NUMBER},
    "required": ["total_files_pruned", "total_bytes_pruned"],
}
METHODS: Json = {
    "type": "object",
    "properties": {
        "import-methods": {
            "type": "object",
            "properties": {"value": {"type": "array", "items": TEXT}, "type": TEXT, "description": TEXT},
            "required": ["value"],
        }
    },
    "required": ["import-methods"],
}
IMAGE_FILTERS: Mapping[str, Json] = {
    **PAGE,
    "sort": {"type": "string", "description": "Keys with directions, such as name:asc,created_at"},
    "sort_key": {"type": "string", "enum": sorted(SORT_FIELDS)},
    "sort_dir": SORT_DIR,
    "name": TEXT,
    "status": {"type": "string", "enum": list(Status)},
    "visibility": {"type": "string", "enum": [*Visibility, "all"]},
    "member_status": {"type": "string", "enum": [*MemberStatus, "all"]},
    "owner": TEXT,
    "tag": TEXT,
    "protected": FLAG,
    "os_hidden": FLAG,
    "size_min": NUMBER,
    "size_max": NUMBER,
    "created_at": INSTANT,
    "updated_at": INSTANT,
}
RANGE: Mapping[str, Json] = {
    "Range": {"type": "string", "examples": ["bytes=0-99", "bytes=-10"]},
    "If-Range": TEXT,
    "If-None-Match": TEXT,
}
PREFER: Mapping[str, Json] = {"prefer": {"type": "string", "description": "Stores to read from, best first"}}
REDIRECT: Mapping[str, Json] = {
    "redirect": {
        **FLAG,
        "description": "true: answer with 307 and a URL in the store that needs no token, where there is one",
    }
}
PRESIGNED_HEADERS = {
    "Location": "With 307, where the whole data is for a while",
    "OpenStack-image-hash": "With 307, what to verify it by: algorithm:digest",
}
DATA_HEADERS = {
    "ETag": "The data's digest",
    "Accept-Ranges": "bytes",
    "Content-MD5": "The data's MD5, where computed",
}
LOCATED = {"Location": "URL of what was made"}
CREATED = {
    **LOCATED,
    "OpenStack-image-import-methods": "Ways to import the data",
    "OpenStack-image-store-ids": "Stores to write to",
}
TUS_OFFERED = {
    "Tus-Resumable": "1.0.0",
    "Tus-Version": "The versions spoken",
    "Tus-Extension": "The extensions spoken",
    "Tus-Max-Size": "The largest image, in bytes",
    "Tus-Checksum-Algorithm": "Algorithms of Upload-Checksum",
}
TUS_TOLD = {
    "Tus-Resumable": "1.0.0",
    "Upload-Offset": "Where to go on",
    "Upload-Expires": "When the upload is dropped",
}
TUS_SENT: Mapping[str, Json] = {"Tus-Resumable": {"type": "string", "enum": ["1.0.0"]}}
TUS_NEW: Mapping[str, Json] = {
    "Upload-Length": NUMBER,
    "Upload-Defer-Length": {"type": "string", "enum": ["1"]},
    "Upload-Metadata": {
        "type": "string",
        "description": "Names and values in Base64, as filename YQ==",
    },
    "Upload-Concat": {"type": "string", "examples": ["partial", "final;/v2/images/x/uploads/y"]},
}

IMAGES: Mapping[str, Operation] = {
    "Images.list": told("List images", {200: listing("images", "Image")}, query=IMAGE_FILTERS, filters=True),
    "Images.create": told(
        "Create an image",
        {201: "Image"},
        409,
        body={JSON: "NewImage"},
        answer_headers=CREATED,
    ),
    "Images.show": told("Show an image", {200: "Image"}),
    "Images.update": told(
        "Change an image",
        {200: "Image"},
        409,
        body={patch.V21: PATCH_V21, patch.V20: PATCH_V20},
        answer_headers={"Accept-Patch": "The media types of a change"},
    ),
    "Images.delete": told("Delete an image", {204: None}, 409),
    "ImageActions.deactivate": told("Keep an image's data from being downloaded", {204: None}),
    "ImageActions.reactivate": told("Let an image's data be downloaded again", {204: None}),
    "ImageTags.add": told("Add a tag", {204: None}, 413),
    "ImageTags.remove": told("Remove a tag", {204: None}),
}
DATA_TRANSFER: Mapping[str, Operation] = {
    "ImageData.download": told(
        "Download an image's data",
        {200: DATA, 204: None, 206: DATA, 304: None, 307: None},
        416,
        query={**PREFER, **REDIRECT},
        headers=RANGE,
        answer_type=OCTETS,
        answer_headers={**DATA_HEADERS, **PRESIGNED_HEADERS},
    ),
    "ImageData.describe": told(
        "Tell what a download would send",
        {200: None, 204: None, 206: None, 304: None},
        416,
        query=PREFER,
        headers=RANGE,
        answer_headers=DATA_HEADERS,
    ),
    "ImageData.upload": told(
        "Upload an image's data",
        {204: None},
        409,
        headers={**STORE, **SIZE},
        body={OCTETS: DATA},
    ),
    "Uploads.options": told("Tell what of tus 1.0.0 is spoken", {204: None}, answer_headers=TUS_OFFERED),
    "Uploads.options_of_one": told(
        "Tell what of tus 1.0.0 is spoken", {204: None}, answer_headers=TUS_OFFERED
    ),
    "Uploads.create": told(
        "Begin an upload in pieces (tus 1.0.0)",
        {201: None},
        *(403, 409, 412, 413, 415, 460),
        headers={**STORE, **TUS_SENT, **TUS_NEW},
        answer_headers={**LOCATED, **TUS_TOLD},
    ),
    "Uploads.show": told(
        "Tell how much of an upload is there",
        {200: None},
        412,
        headers=TUS_SENT,
        answer_headers=TUS_TOLD,
    ),
    "Uploads.take": told(
        "Go on with an upload; its last byte makes the image active",
        {204: None},
        *(409, 412, 460),
        headers={**TUS_SENT, "Upload-Offset": NUMBER, "Upload-Checksum": TEXT, "Upload-Length": NUMBER},
        body={TUS_BODY: DATA},
        answer_headers=TUS_TOLD,
    ),
    "Uploads.terminate": told("Give an upload up", {204: None}, *(409, 412), headers=TUS_SENT),
    "Presigned.create": told(
        "Get a URL to write an image's data to the store by", {201: PRESIGNED}, 409, body={JSON: PRESIGN}
    ),
    "Presigned.complete": told("Make what was written by it the image's data", {204: None}, 409, 413, 415),
    "ImageImport.stage": told("Keep data for an import", {204: None}, 409, headers=SIZE, body={OCTETS: DATA}),
    "ImageImport.start": told("Import an image", {202: None}, 409, headers=STORE, body={JSON: IMPORT}),
    "ImageImport.tasks": told("List an image's tasks", {200: listing("tasks", "Task", paged=False)}),
    "ImageLocations.list": told(
        "Tell other services where an image's data lies", {200: {"type": "array", "items": LOCATION}}, 409
    ),
    "ImageLocations.add": told(
        "Add a place where an image's data lies", {202: None}, 409, body={JSON: NEW_LOCATION}
    ),
    "Stores.remove": told("Take an image out of a store", {204: None}, 409),
}
MEMBERS: Mapping[str, Operation] = {
    "ImageMembers.list": told(
        "List the projects an image is shared with", {200: listing("members", "Member", paged=False)}
    ),
    "ImageMembers.create": told(
        "Share an image with a project",
        {200: "Member"},
        409,
        body={
            JSON: {
                "type": "object",
                "properties": {"member": {"type": "string", "minLength": 1, "maxLength": 255}},
                "required": ["member"],
            }
        },
    ),
    "ImageMembers.show": told("Show a member", {200: "Member"}),
    "ImageMembers.update": told(
        "Accept or reject a shared image",
        {200: "Member"},
        body={
            JSON: {
                "type": "object",
                "properties": {"status": {"type": "string", "enum": list(MemberStatus)}},
                "required": ["status"],
            }
        },
    ),
    "ImageMembers.delete": told("Stop sharing an image with a project", {204: None}),
}
TASKS: Mapping[str, Operation] = {
    "Tasks.list": told(
        "List tasks",
        {200: listing("tasks", "TaskStub")},
        query={
            **PAGE,
            "sort_key": {"type": "string", "enum": sorted(TASK_SORT_FIELDS)},
            "sort_dir": SORT_DIR,
            "type": {"type": "string", "enum": list(TaskType)},
            "status": {"type": "string", "enum": list(TaskStatus)},
        },
    ),
    "Tasks.create": told(
        "Make an image from a URL",
        {201: "Task"},
        409,
        body={JSON: {**NEW_TASK, "examples": [TASK_EXAMPLE]}},
        answer_headers=LOCATED,
    ),
    "Tasks.show": told("Show a task", {200: "Task"}),
    "Tasks.delete": told("Refuse: tasks go by themselves", {}, 405),
}
SERVICE: Mapping[str, Operation] = {
    "Versions.choices": told("List the versions of the API", {300: VERSIONS}),
    "Versions.list": told("List the versions of the API", {200: VERSIONS}),
    "Health.show": told("Tell whether the server works", {200: TEXT, 503: TEXT}, answer_type="text/plain"),
    "OpenApi.show": told("Show this document", {200: ANY, 304: None}),
    "Info.import_methods": told("Tell which import methods there are", {200: METHODS}),
    "Info.usage": told("Tell what a project uses of its quotas", {200: USAGE}),
    "Info.stores": told("List the stores", {200: listing("stores", STORE_INFO, paged=False)}),
    "Info.store_details": told(
        "List the stores in detail", {200: listing("stores", STORE_INFO, paged=False)}
    ),
    "SchemaDocuments.image": told("Show the schema of an image", {200: ANY}),
    "SchemaDocuments.images": told("Show the schema of a list of images", {200: ANY}),
    "SchemaDocuments.member": told("Show the schema of a member", {200: ANY}),
    "SchemaDocuments.members": told("Show the schema of a list of members", {200: ANY}),
    "SchemaDocuments.task": told("Show the schema of a task", {200: ANY}),
    "SchemaDocuments.tasks": told("Show the schema of a list of tasks", {200: ANY}),
    "Cache.show": told("List what is cached, and what is to be", {200: CACHE_STATE}, 404),
    "Cache.clear": told(
        "Empty the cache",
        {204: None},
        404,
        headers={TARGET: {"type": "string", "enum": ["cache", "queue", "both"]}},
    ),
    "Cache.queue": told("Have an image cached", {202: None}, 409, 413),
    "Cache.delete": told("Drop an image from the cache", {204: None}),
    "Cache.nodes": told("Tell which nodes have an image cached", {200: {"type": "array", "items": TEXT}}),
    "Cache.clean": told("Remove what can't be used", {200: None}, 404),
    "Cache.prune": told("Make the cache as small as it should be", {200: PRUNED}, 404),
}

DESCRIPTIONS: Mapping[str, Operation] = {
    **IMAGES,
    **DATA_TRANSFER,
    **MEMBERS,
    **TASKS,
    **SERVICE,
    **metadef_descriptions.DESCRIPTIONS,
}
