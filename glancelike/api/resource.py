"""What every resource of the Image API is made of."""

from __future__ import annotations

from glancelike.api.image_schema import image_schema
from glancelike.api.member_schema import MEMBER
from glancelike.api.task_schema import NEW_TASK, TASK
from glancelike.api.validation import Schema
from glancelike.service import ImageService
from glancelike.web.settings import WebSettings

# The type of an answer without a body, as from Glance: its clients try to
# read everything that is called JSON.
EMPTY = "text/html; charset=UTF-8"


class Schemas:
    """The schemas, with the formats and limits of this very service."""

    def __init__(self, service: ImageService) -> None:
        self.image = Schema("image", image_schema(service.settings))
        self.image_part = Schema("image", {**self.image.document, "required": []})
        self.member = Schema("member", MEMBER)
        self.task = Schema("task", TASK)
        self.new_task = Schema("task", NEW_TASK)


class Resource:
    """Base of the resources: their methods are the operations of ``ROUTES``."""

    def __init__(self, service: ImageService, schemas: Schemas, web: WebSettings | None = None) -> None:
        self.service = service
        self.schemas = schemas
        self.web = web or WebSettings()
