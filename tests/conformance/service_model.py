"""A plain model of an image: who sees it, who finds it, who may change it."""

from __future__ import annotations

from dataclasses import dataclass, field

from glancelike.model import Caller, MemberStatus, Status, Visibility

V = Visibility


@dataclass
class Known:
    """All that the model knows of an image."""

    id: str
    owner: str | None
    visibility: Visibility
    formats: bool
    status: Status = Status.QUEUED
    protected: bool = False
    hidden: bool = False
    name: str | None = None
    tags: set[str] = field(default_factory=set)
    members: dict[str, MemberStatus] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    data: bytes | None = None

    def mine(self, caller: Caller) -> bool:
        return caller.project == self.owner

    def seen(self, caller: Caller) -> bool:
        """Tell whether the caller knows that the image is there."""
        return (
            caller.admin
            or self.mine(caller)
            or self.visibility in (V.PUBLIC, V.COMMUNITY)
            or (self.visibility is V.SHARED and caller.project in self.members)
        )

    def listed(self, caller: Caller) -> bool:
        """Tell whether the caller finds it who asks for nothing particular."""
        if self.hidden or not self.seen(caller):
            return False
        if self.mine(caller):
            return True
        if self.visibility is V.SHARED and not caller.admin:
            return self.members.get(str(caller.project)) is MemberStatus.ACCEPTED
        return self.visibility is not V.COMMUNITY

    def changeable(self, caller: Caller) -> bool:
        """Tell whether the caller may change it, seen as it is."""
        return caller.admin or (self.mine(caller) and "member" in caller.roles)
