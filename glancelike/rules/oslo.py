"""The one place that imports oslo.policy, and keeps it from loading what most starts never use.

It asks stevedore for further kinds of checks when the first rule is made. stevedore
looks at every installed distribution where its cache can't be used, and loads what it
finds: ``requests``, for the ``http:`` checks. Here each is loaded when a rule has one.
Should a later oslo.policy look elsewhere, then all of this is loaded, and nothing else changes.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import EntryPoint
from typing import Any

from oslo_policy import _checks, opts, policy

from glancelike import plugins


def _extension(entry: EntryPoint, kind: str, match: str) -> Any:
    return entry.load()(kind, match)


if getattr(_checks, "extension_checks", {}) is None:
    _checks.extension_checks = {
        entry.name: partial(_extension, entry) for entry in plugins.installed("oslo.policy.rule_checks")
    }

__all__ = ["opts", "policy"]
