"""The registry server's WSGI application: any registry backend, served call by call."""

from glancelike.registry.server.app import ROUTES as ROUTES
from glancelike.registry.server.app import create_app as create_app
from glancelike.registry.server.auth import SecretAuth as SecretAuth
