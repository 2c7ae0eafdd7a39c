"""The OpenStack Compute API v2.1 over a ComputeService.

``routes.ROUTES`` is the table of contents: one module per noun, its JSON
schema beside it, ``errors.TABLE`` for the statuses, ``view`` for the bodies.
``microversion`` says which microversions are spoken.
"""
