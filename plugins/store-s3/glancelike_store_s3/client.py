"""How boto3 is set up; it is imported when a store is opened, not before."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from glancelike.errors import ConfigError

# A thread that finds none of these free opens one more and closes it afterwards.
CONNECTIONS = 32
REGION = "us-east-1"


class Clients:
    """Makes the clients of one store, all from one session, which is what costs."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._session: Any = None
        # To make clients isn't safe in several threads; to use one is.
        self._lock = threading.Lock()

    def make(self, *, unsigned: bool = False, **changes: Any) -> Any:
        """Make a client, which threads may share; raise ConfigError.

        ``unsigned``: the body isn't read for its signature first, so it may
        be one that can't be read twice; such a request is sent only once.
        ``changes`` replace options of the same name.
        """
        from botocore.exceptions import BotoCoreError

        _quiet()
        said = {**self._settings, **changes}
        try:
            with self._lock:
                if self._session is None:
                    self._session = _session(said)
                return self._session.client(
                    "s3",
                    region_name=said["s3_store_region_name"] or self._session.region_name or REGION,
                    endpoint_url=said["s3_store_host"] or None,
                    verify=said["s3_store_cacert"] or None,
                    config=_config(said, unsigned),
                )
        except (BotoCoreError, ValueError, OSError) as error:
            raise ConfigError(f"no client for S3 can be made: {error}") from error


def _session(said: Mapping[str, Any]) -> Any:
    import boto3
    import botocore.session

    core = botocore.session.get_session()
    core.register_component("data_loader", _loader())
    return boto3.session.Session(
        botocore_session=core,
        aws_access_key_id=said["s3_store_access_key"] or None,
        aws_secret_access_key=said["s3_store_secret_key"] or None,
        aws_session_token=said["s3_store_session_token"] or None,
    )


@lru_cache(maxsize=1)
def _loader() -> Any:
    """Return what reads boto's descriptions of S3: a megabyte of JSON, once a process."""
    from botocore.loaders import create_loader

    return create_loader()


def _config(said: Mapping[str, Any], unsigned: bool) -> Any:
    from botocore.config import Config

    checksums = "when_required" if unsigned else said["s3_store_checksums"]
    details: dict[str, Any] = {"addressing_style": said["s3_store_bucket_url_format"]}
    if unsigned:
        details["payload_signing_enabled"] = False
    return Config(
        signature_version="s3v4",
        s3=details,
        connect_timeout=said["s3_store_connect_timeout"],
        read_timeout=said["s3_store_read_timeout"],
        retries={
            "mode": "standard",
            "total_max_attempts": 1 if unsigned else said["s3_store_max_attempts"],
        },
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        user_agent_extra="glancelike",
    )


def _quiet() -> None:
    """Keep boto's debug messages, which show tokens and signatures, out of the logs.

    Only where nobody has set a level for them: who wants to see them says so.
    """
    for name in ("boto3", "botocore"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
