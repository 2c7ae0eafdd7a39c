"""Fixtures that every part of the tests may use."""

from __future__ import annotations

pytest_plugins = ["tests.server_fixtures", "tests.libvirt_fixtures", "tests.database_fixtures"]
