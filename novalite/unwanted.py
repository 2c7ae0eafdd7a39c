"""Removing the images that ``db.unwanted`` has written down."""

from __future__ import annotations

import logging

from novalite.db import Database
from novalite.errors import NovaliteError
from novalite.images import Images

LOG = logging.getLogger(__name__)
#: Whoever has taken some up has so long for them; what couldn't be removed is tried again then.
_AGAIN_SECONDS = 60.0


def clear(database: Database, images: Images) -> None:
    """Remove the images that are due; raise DatabaseDown.

    Those that the image service can't remove now are due again later. One
    that it won't (it is protected, most likely) is its owner's to remove.
    """
    for image in database.unwanted.take(seconds=_AGAIN_SECONDS):
        try:
            images.delete(image.id, unless_filled=image.unless_filled)
        except NovaliteError as error:
            LOG.warning("image %s, which no server needs any more, stays: %s", image.id, error)
            if error.retryable:
                continue
        database.unwanted.gone(image.id)
