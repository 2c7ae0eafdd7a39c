"""What the server is told to do, and what Tempest is told that it does.

Each feature is data: options of the server's configuration and of
tempest.conf, by section. What isn't in READY is left out of both, and
Tempest skips its tests. ``{data}`` stands for the URL of the server that
images are imported from, ``{images}`` for the directory of the test images.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

Options = Mapping[str, Mapping[str, str]]
LOOPBACK = "127.0.0.0/8"


@dataclass(frozen=True, slots=True)
class Feature:
    server: Options = field(default_factory=dict)
    tempest: Options = field(default_factory=dict)


BASE = Feature(
    server={
        "DEFAULT": {
            "bind_port": "0",
            "threads": "16",
            "auth_strategy": "keystone",
            # Tempest wants the order by weight to be that of the alphabet, too.
            "enabled_backends": "alpha:file, beta:file",
            "hashing_algorithm": "sha512",
            "do_secure_hash": "False",
        },
        "glance_store": {"default_backend": "alpha"},
        "image_format": {"require_image_format_match": "False"},
    },
    tempest={
        "service_available": {
            **dict.fromkeys(("neutron", "cinder", "swift", "horizon"), "False"),
            "glance": "True",
            # Nothing is booted, but the tests of image formats run only where compute is there.
            "nova": "True",
        },
        "enforce_scope": {"glance": "True"},
        "image": {
            "hashing_algorithm": "sha512",
            # A second server on the same database and stores.
            "alternate_image_endpoint": "image_alternate",
            "images_manifest_file": "{images}/manifest.yaml",
            "http_image": "{data}/image.raw",
            "http_qcow2_image": "{data}/image.qcow2",
            "build_timeout": "60",
        },
        "image-feature-enabled": {
            "image_format_enforcement": "False",
            "import_image": "False",
            "do_secure_hash": "False",
        },
    },
)

FEATURES: Mapping[str, Feature] = {
    "enforcement": Feature(
        server={"image_format": {"require_image_format_match": "True"}},
        tempest={"image-feature-enabled": {"image_format_enforcement": "True"}},
    ),
    "import": Feature(
        server={
            "DEFAULT": {"enabled_import_methods": "glance-direct,web-download,copy-image,glance-download"},
            "task": {"task_poll_interval": "1"},
            "import_filtering_opts": {"allowed_ports": "", "allowed_networks": LOOPBACK},
        },
        tempest={"image-feature-enabled": {"import_image": "True"}},
    ),
    "conversion": Feature(
        server={
            "image_import_opts": {"image_import_plugins": "image_conversion"},
            "image_conversion": {"output_format": "raw"},
        },
        tempest={"image-feature-enabled": {"image_conversion": "True"}},
    ),
    "http_store": Feature(
        server={
            "DEFAULT": {"enabled_backends": "alpha:file, beta:file, web:http"},
            "web": {"http_store_allowed_networks": LOOPBACK, "http_store_allowed_ports": ""},
        },
        tempest={"image-feature-enabled": {"http_store_enabled": "True"}},
    ),
    "locations": Feature(
        server={"DEFAULT": {"show_multiple_locations": "True", "show_image_direct_url": "True"}},
        tempest={"image-feature-enabled": {"manage_locations": "True"}},
    ),
    "secure_hash": Feature(
        # Tempest compares the MD5, too.
        server={"DEFAULT": {"do_secure_hash": "True", "compute_md5_checksum": "True"}},
        tempest={"image-feature-enabled": {"do_secure_hash": "True"}},
    ),
    "weights": Feature(
        server={"alpha": {"weight": "20"}, "beta": {"weight": "10"}},
        tempest={"image-feature-enabled": {"store_weight_enabled": "True"}},
    ),
    "cache": Feature(
        server={"DEFAULT": {"image_cache_dir": "{node}/cache"}},
        tempest={"image": {"image_caching_enabled": "True"}},
    ),
}

READY: Set[str] = frozenset(FEATURES)

# What to run with which features. Some tests upload random bytes as any
# format, and some are for servers that compute no digest of a location.
PASSES: tuple[tuple[Set[str], str], ...] = (
    (READY, r"^(?!.*test_images_dependency)"),  # those need compute and block storage
    (READY - {"enforcement", "secure_hash"}, r"ListUserImagesTest|do_secure_hash_false"),
)


def merged(kind: str, ready: Set[str] = READY) -> dict[str, dict[str, str]]:
    """Return the options of ``kind`` (server or tempest) for what is ready."""
    unknown = set(ready) - set(FEATURES)
    if unknown:
        raise KeyError(f"no such feature: {', '.join(sorted(unknown))}")
    sections: dict[str, dict[str, str]] = {}
    for feature in (BASE, *(FEATURES[name] for name in FEATURES if name in ready)):
        for section, options in getattr(feature, kind).items():
            sections.setdefault(section, {}).update(options)
    return sections


def written(sections: Options, **places: str) -> str:
    """Return the text of a configuration file."""
    lines = []
    for section, options in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {value.format(**places)}" for name, value in options.items()]
    return "\n".join(lines) + "\n"
