"""The OpenStack Image API v2 over an ImageService.

``routes.ROUTES`` is the table of contents: one module per noun, its JSON
schema beside it, ``errors.TABLE`` for the statuses, ``wire`` for the bodies.
"""
