"""Fetching images before a server needs them."""

from __future__ import annotations

import logging

from novalite.compute.build import BaseImages
from novalite.errors import NovaliteError
from novalite.images import Images
from novalite.model import Caller

LOG = logging.getLogger(__name__)


class Precaching:
    """Fetches images into this host's cache. What fails is only logged: a boot fetches it then."""

    def __init__(self, bases: BaseImages, images: Images) -> None:
        self._bases = bases
        self._images = images

    def run(self, image_id: str) -> None:
        """Fetch an image unless it's here."""
        try:
            self._bases.precache(self._images.show(image_id, Caller.administrator()))
        except NovaliteError as error:
            LOG.warning("image %s isn't fetched ahead: %s", image_id, error)
        else:
            LOG.info("image %s is here", image_id)
