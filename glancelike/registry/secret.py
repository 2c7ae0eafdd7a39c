"""The secret that registry servers and their callers share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oslo_config import cfg

from glancelike.errors import ConfigError

SHORTEST = 16
OPTIONS = (
    cfg.StrOpt(
        "registry_secret",
        secret=True,
        help="What glancelike-registry and those who may call it know: at least 16 letters, digits or "
        "signs. Better in registry_secret_file.",
    ),
    cfg.StrOpt(
        "registry_secret_file",
        help="File with the secret instead, on a line of its own. A server takes any of several lines, a "
        "caller sends the first: so a secret can be changed without a stop.",
    ),
)


def secrets_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the secrets that OPTIONS give, none if they give none.

    Raises ConfigError, which names the option and never what it holds.
    """
    given, file = settings["registry_secret"], settings["registry_secret_file"]
    if given is not None and file is not None:
        raise ConfigError("registry_secret and registry_secret_file are both set")
    if given is not None:
        return (_checked(given, "registry_secret"),)
    if file is None:
        return ()
    try:
        lines = Path(file).read_text("utf-8").split()
    except OSError as error:
        raise ConfigError(f"registry_secret_file {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"registry_secret_file {file} holds no text") from None
    if not lines:
        raise ConfigError(f"registry_secret_file {file} is empty")
    return tuple(_checked(line, f"registry_secret_file {file}") for line in lines)


def _checked(secret: str, where: str) -> str:
    if len(secret) < SHORTEST or not re.fullmatch(r"[\x21-\x7e]+", secret):
        raise ConfigError(f"{where}: a secret has {SHORTEST} or more ASCII characters and no blanks")
    return secret
