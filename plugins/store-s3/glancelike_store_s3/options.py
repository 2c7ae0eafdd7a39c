"""What can be set, named as Glance names it where the thing is the same."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from oslo_config import cfg

from glancelike.errors import ConfigError

MIB = 1 << 20
WHEN = ("when_required", "when_supported")
ADDRESSING = ("auto", "path", "virtual")

OPTIONS: tuple[Any, ...] = (
    cfg.StrOpt(
        "s3_store_host",
        help="URL of the endpoint, such as https://s3.example.org. Without it: AWS, or what boto3's own "
        "configuration says.",
    ),
    cfg.StrOpt("s3_store_region_name", help="The region of the bucket; us-east-1 if nothing says another."),
    cfg.StrOpt(
        "s3_store_access_key",
        secret=True,
        help="The access key. Without it boto3 looks for credentials where it always does: environment, "
        "shared files, container, instance.",
    ),
    cfg.StrOpt("s3_store_secret_key", secret=True, help="The secret key that belongs to the access key."),
    cfg.StrOpt("s3_store_session_token", secret=True, help="The session token of temporary keys."),
    cfg.StrOpt("s3_store_bucket", help="The bucket that holds the images."),
    cfg.StrOpt(
        "s3_store_prefix",
        default="",
        help="What the names of all objects start with, such as images/. A bucket can hold several stores "
        "if none of their prefixes starts with another's.",
    ),
    cfg.BoolOpt(
        "s3_store_create_bucket_on_put",
        default=False,
        help="Make the bucket when the store is opened and there is none.",
    ),
    cfg.StrOpt(
        "s3_store_bucket_url_format",
        default="auto",
        choices=ADDRESSING,
        help="Where the bucket is named: in the path, or in the host (virtual).",
    ),
    cfg.IntOpt(
        "s3_store_large_object_size",
        default=8,
        min=1,
        help="MiB from which on an image of known size is sent in parts. Smaller ones are sent at once, from "
        "memory.",
    ),
    cfg.IntOpt(
        "s3_store_large_object_chunk_size",
        default=8,
        min=5,
        max=5120,
        help="MiB of a part. Parts are larger where 10,000 of this size can't hold the image.",
    ),
    cfg.IntOpt(
        "s3_store_thread_pools",
        default=4,
        min=1,
        max=64,
        help="How many parts of an image are sent at a time. An upload holds one more in memory, "
        "which is read meanwhile.",
    ),
    cfg.StrOpt("s3_store_cacert", help="File of CA certificates that the endpoint's certificate needs."),
    cfg.FloatOpt("s3_store_connect_timeout", default=10, min=0.1, help="Seconds to wait for a connection."),
    cfg.FloatOpt(
        "s3_store_read_timeout", default=60, min=0.1, help="Seconds in which the endpoint has to answer."
    ),
    cfg.IntOpt(
        "s3_store_max_attempts",
        default=4,
        min=1,
        help="How often a request is tried in all. A download goes on from where it broke off as often, "
        "counted from the last byte that came.",
    ),
    cfg.StrOpt(
        "s3_store_checksums",
        default="when_required",
        choices=WHEN,
        help="When requests and answers carry checksums. Many endpoints other than AWS refuse those that "
        "boto3 adds when_supported.",
    ),
    cfg.StrOpt(
        "s3_store_conditional_writes",
        default="auto",
        choices=("auto", "always", "never"),
        help="Whether the endpoint decides between two writers of one key (If-None-Match). auto: find out "
        "at the first write.",
    ),
)

_QUERY = {
    "endpoint": "s3_store_host",
    "region": "s3_store_region_name",
    "addressing": "s3_store_bucket_url_format",
    "cacert": "s3_store_cacert",
}


def from_uri(uri: str) -> dict[str, Any]:
    """Turn ``s3://bucket/prefix?endpoint=https://host`` into settings; raise ConfigError."""
    split = urlsplit(uri)
    if split.username is not None or split.password is not None:
        raise ConfigError("an s3:// URI holds no keys: boto3 finds them in the environment, or in its files")
    if not split.netloc or split.fragment:
        raise ConfigError(f"{uri!r}: an S3 store is written s3://bucket/prefix?endpoint=https://host")
    query = parse_qsl(split.query, keep_blank_values=True)
    unknown = sorted({name for name, _ in query} - set(_QUERY))
    if unknown:
        raise ConfigError(f"an s3:// URI can't have {', '.join(unknown)}: it can have {', '.join(_QUERY)}")
    prefix = unquote(split.path).lstrip("/")
    return {
        "s3_store_bucket": split.netloc,
        "s3_store_prefix": f"{prefix.rstrip('/')}/" if prefix else "",
        **{_QUERY[name]: value for name, value in query},
    }


def check(settings: Any) -> None:
    """Raise ConfigError for values that can't work, naming the option."""
    if not settings["s3_store_bucket"]:
        raise ConfigError("s3_store_bucket isn't set")
    host = settings["s3_store_host"]
    split = urlsplit(host or "https://default")
    if split.scheme not in ("http", "https") or not split.hostname or split.username is not None:
        raise ConfigError("s3_store_host must be a URL such as https://s3.example.org, without keys")
    if bool(settings["s3_store_access_key"]) != bool(settings["s3_store_secret_key"]):
        raise ConfigError("s3_store_access_key and s3_store_secret_key belong together: set both or none")
    if settings["s3_store_session_token"] and not settings["s3_store_access_key"]:
        raise ConfigError("s3_store_session_token needs s3_store_access_key and s3_store_secret_key")
    prefix = settings["s3_store_prefix"]
    if prefix.startswith(("/", ".")) or "//" in prefix:
        raise ConfigError(f"s3_store_prefix {prefix!r} can't start with / or . nor have //")
    for name, allowed in (("checksums", WHEN), ("bucket_url_format", ADDRESSING)):
        if settings[f"s3_store_{name}"] not in allowed:
            raise ConfigError(f"s3_store_{name} must be one of {', '.join(allowed)}")
    if settings["s3_store_large_object_chunk_size"] < 5:
        raise ConfigError("s3_store_large_object_chunk_size can't be less than 5 MiB: S3 refuses such parts")
