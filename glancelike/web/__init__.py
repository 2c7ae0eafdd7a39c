"""The WSGI kit that the HTTP services share: identity, limits, errors, serving.

Nothing here knows images or servers. A service brings a table of routes
(``routes.Route``), a table of error classes (``errors.ErrorTable``) and a
renderer of its error bodies; ``app.build`` makes the WSGI application of
them and ``serve.run`` runs it under gunicorn.
"""
