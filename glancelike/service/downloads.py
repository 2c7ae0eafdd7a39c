"""Import methods that fetch: from a URL, from another region's image service.

Everything goes through the one Opener with the operator's rules for URLs;
what is fetched lands in the staging store, so that a dropped connection, a
wrong digest or a dead worker leave nothing behind in the image's stores.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from glancelike.errors import DataMismatch, Forbidden, GlancelikeError, InvalidInput, Unreachable
from glancelike.model import Image
from glancelike.service.context import Context
from glancelike.service.ingest import Stored
from glancelike.service.staging import current, put
from glancelike.service.tasks import Job

DIGEST = re.compile(r"(?P<algorithm>[a-z0-9_-]+):(?P<value>[0-9a-fA-F]+)")
LARGEST_RECORD = 1 << 20  # bytes of JSON that describe the source image
NOT_COPIED = "os_glance"

Fetch = Callable[[Job, Mapping[str, Any]], None]


def check(context: Context, method: str, parameters: Mapping[str, Any]) -> None:
    """Check a method's parameters while its caller waits; raise InvalidInput, ForbiddenUrl."""
    if method == "web-download":
        uri = parameters.get("uri")
        if not isinstance(uri, str) or not uri:
            raise InvalidInput("Import method 'web-download' requires 'uri'")
        expected_digest(parameters)
        try:
            context.opener.rules.check(uri)
        except Unreachable:
            return  # the name server may answer by the time the task is run
    elif method == "glance-download":
        for name in ("glance_region", "glance_image_id"):
            if not isinstance(parameters.get(name), str):
                raise InvalidInput(f"'{name}' needs to be set for glance-download import method")
        try:
            uuid.UUID(parameters["glance_image_id"])
        except ValueError:
            raise InvalidInput(
                f"Remote image id does not look like a UUID: {parameters['glance_image_id']}"
            ) from None


def expected_digest(parameters: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return algorithm and hexadecimal digest of ``digest``, such as ``sha256:ab12…``."""
    given = parameters.get("digest")
    if given is None:
        return None
    match = DIGEST.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise InvalidInput("'digest' must be like sha256:<hexadecimal digest>")
    algorithm, value = match["algorithm"], match["value"].lower()
    try:
        length = hashlib.new(algorithm, usedforsecurity=False).digest_size * 2
    except ValueError:
        length = 0
    if not length:
        raise InvalidInput(f"'digest': unknown algorithm {algorithm}")
    if len(value) != length:
        raise InvalidInput(
            f"'digest': a {algorithm} digest has {length} hexadecimal digits, not {len(value)}"
        )
    return algorithm, value


def fetch(job: Job, method: str, parameters: Mapping[str, Any]) -> None:
    """Put what the method names into the staging store."""
    if method in FETCH:
        FETCH[method](job, parameters)


def _web_download(job: Job, parameters: Mapping[str, Any]) -> None:
    context = job.context
    with context.opener.open(parameters["uri"], cap=context.settings.image_size_cap) as source:
        put(job, source, size=source.size, **_verified(expected_digest(parameters)))


def _verified(expected: tuple[str, str] | None) -> dict[str, Any]:
    """Return what has ``put`` check a digest."""
    if expected is None:
        return {}
    algorithm, value = expected

    def verify(stored: Stored) -> None:
        found = stored.outcome.digests[algorithm]
        if found != value:
            raise DataMismatch(f"the data's {algorithm} is {found}, not {value}")

    return {"algorithms": (algorithm,), "check": verify}


def _glance_download(job: Job, parameters: Mapping[str, Any]) -> None:
    context = job.context
    credentials = job.caller.credentials
    if credentials is None:
        raise Forbidden("glance-download needs the token of an identity service")
    endpoint = find_endpoint(
        credentials.catalog,
        parameters["glance_region"],
        parameters.get("glance_service_interface", "public"),
    )
    url = f"{endpoint}/v2/images/{uuid.UUID(parameters['glance_image_id'])}"
    headers = {"X-Auth-Token": credentials.token}
    with context.opener.open(url, headers=headers, cap=LARGEST_RECORD) as reader:
        described = _described(b"".join(reader), url)
    taken = {
        name: value
        for name, value in described.items()
        if isinstance(value, str)
        and name.startswith(context.settings.glance_download_properties)
        and not name.startswith(NOT_COPIED)
    }
    formats = {name: described[name] for name in ("disk_format", "container_format")}
    _remember(job, formats, taken)
    algorithm, digest = described.get("os_hash_algo"), described.get("os_hash_value")
    told = (
        isinstance(algorithm, str) and isinstance(digest, str) and algorithm in hashlib.algorithms_available
    )
    expected = (str(algorithm), str(digest)) if told else None
    with context.opener.open(f"{url}/file", headers=headers, cap=context.settings.image_size_cap) as source:
        if source.size is not None and source.size != described["size"]:
            raise DataMismatch(f"{url} has {source.size} bytes, not {described['size']}")
        put(
            job,
            source,
            size=described["size"],
            change=lambda image: replace(image, properties={**image.properties, **taken}, **formats),
            **_verified(expected),
        )


def _described(body: bytes, url: str) -> dict[str, Any]:
    try:
        described = json.loads(body)
        usable = (
            described["status"] == "active"
            and isinstance(described["size"], int)
            and isinstance(described["disk_format"], str)
            and isinstance(described["container_format"], str)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise GlancelikeError(f"{url} doesn't answer as an image service does") from error
    if not usable:
        raise GlancelikeError(f"{url}: the source image isn't active, or has no formats")
    found: dict[str, Any] = described
    return found


def _remember(job: Job, formats: Mapping[str, str], taken: Mapping[str, str]) -> None:
    """Note what the image is like now, in case that the import fails later."""
    if "before" in job.notes:
        return
    image = current(job)
    before = {name: getattr(image, name) for name in formats}
    properties = {name: image.properties.get(name) for name in taken}
    job.save({**job.notes, "before": {**before, "properties": properties}})


def restored(image: Image, notes: Mapping[str, Any]) -> Image:
    """Return the image with what glance-download found in it before."""
    before = notes.get("before")
    if before is None:
        return image
    properties = dict(image.properties)
    for name, value in before["properties"].items():
        if value is None:
            properties.pop(name, None)
        else:
            properties[name] = value
    return replace(
        image,
        disk_format=before["disk_format"],
        container_format=before["container_format"],
        properties=properties,
    )


def find_endpoint(catalog: Sequence[Mapping[str, Any]], region: str, interface: str) -> str:
    """Return the image service's URL without its version, from a catalog of either form.

    https://docs.openstack.org/api-ref/identity/v3/#authentication-and-token-management
    """
    for service in catalog:
        if service.get("type") != "image":
            continue
        for endpoint in service.get("endpoints", ()):
            if region not in (endpoint.get("region_id"), endpoint.get("region")):
                continue
            url = endpoint.get(f"{interface}URL")
            if endpoint.get("interface") == interface:
                url = endpoint.get("url")
            if isinstance(url, str):
                return re.sub(r"/v2/?$", "", url.rstrip("/"))
    raise GlancelikeError(f"the catalog has no image service in region {region!r}, interface {interface!r}")


FETCH: Mapping[str, Fetch] = {"web-download": _web_download, "glance-download": _glance_download}
