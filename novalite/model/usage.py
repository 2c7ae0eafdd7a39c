"""What projects use and may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What a project's servers use, or may use at most (-1: unlimited)."""

    instances: int = 0
    cores: int = 0
    ram: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """A project's quotas and what it uses of them."""

    quota: Usage
    used: Usage
    key_pairs: int = -1
    metadata_items: int = -1
    server_groups: int = -1
    server_group_members: int = -1
    server_groups_used: int = 0
