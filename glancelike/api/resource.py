"""What every resource of the Image API is made of."""

from __future__ import annotations

from glancelike.api.image_schema import image_schema
from glancelike.api.member_schema import MEMBER
from glancelike.api.validation import Schema
from glancelike.service import ImageService


class Schemas:
    """The schemas, with the formats and limits of this very service."""

    def __init__(self, service: ImageService) -> None:
        self.image = Schema("image", image_schema(service.settings))
        self.member = Schema("member", MEMBER)


class Resource:
    """Base of the resources: their methods are the operations of ``ROUTES``."""

    def __init__(self, service: ImageService, schemas: Schemas) -> None:
        self.service = service
        self.schemas = schemas
