"""What may fail or be skipped, and why: patterns of a test's name, and of a skip's reason."""

from __future__ import annotations

# Pattern of names -> why they fail. What passes all the same is told, to be taken out.
FAILURES: dict[str, str] = {}

# Pattern of reasons -> why skipping is right.
SKIPS = {
    r"^Glance does not currently reject unusable images on upload": "the test of uploads is for usable "
    "images; that of imports has the others",
    r"^Unable to test compute image formats if glance does not allow": "the server refuses bad images, so "
    "compute never sees them",
    r"^Image format enforcement prevents testing with bogus image data": "a pass of its own runs these",
    r"^do_secure_hash is enabled": "the same pass runs these",
    r"^Skipped until bug: ": "Tempest itself leaves them out",
}
