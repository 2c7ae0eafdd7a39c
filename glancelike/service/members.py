"""Use cases of sharing: a project offers an image, another accepts it."""

from __future__ import annotations

from dataclasses import replace

from glancelike.errors import Forbidden, InvalidInput, MemberNotFound
from glancelike.model import Caller, Image, Member, MemberStatus, Visibility
from glancelike.notifications import gone, member_payload
from glancelike.service.context import Context


def _shared(context: Context, caller: Caller, image_id: str) -> Image:
    image = context.get(caller, image_id)
    if image.visibility is not Visibility.SHARED:
        raise Forbidden("Only shared images have members.")
    return image


def _owns(caller: Caller, image: Image) -> bool:
    return caller.admin or (image.owner is not None and caller.project == image.owner)


def add(context: Context, caller: Caller, image_id: str, project: str) -> Member:
    """Share the image with a project, which then may accept it."""
    image = _shared(context, caller, image_id)
    context.policy.check(caller, "add_member", image, member_id=project)
    if not isinstance(project, str) or not 0 < len(project) <= 255:
        raise InvalidInput(f"Invalid member {project!r}: expected a project id of 1 to 255 characters")
    limit = context.settings.image_member_quota
    member = context.registry.add_member(Member(image_id, project), limit=limit)
    context.notify("image.member.create", member_payload(member))
    return member


def show(context: Context, caller: Caller, image_id: str, project: str) -> Member:
    """Return one member; others than the owner see only themselves."""
    image = context.get(caller, image_id)
    if image.visibility is not Visibility.SHARED:
        raise _nobody(image, project)
    try:
        return _known(context, caller, image, project)
    except Forbidden as error:
        raise _nobody(image, project) from error


def _known(context: Context, caller: Caller, image: Image, project: str) -> Member:
    """Return a member that the caller may know of."""
    if not _owns(caller, image) and caller.project != project:
        # Who else the image is shared with is none of a member's business.
        raise _nobody(image, project)
    context.policy.check(caller, "get_member", image, member_id=project)
    return context.registry.get_member(image.id, project)


def _nobody(image: Image, project: str) -> MemberNotFound:
    return MemberNotFound(f"{project} not found in the member list of the image {image.id}.")


def list_all(context: Context, caller: Caller, image_id: str) -> tuple[Member, ...]:
    """Return the members the caller may know of."""
    image = _shared(context, caller, image_id)
    context.policy.check(caller, "get_members", image, member_id=caller.project or "")
    everybody = context.registry.list_members(image_id)
    if _owns(caller, image):
        return everybody
    return tuple(member for member in everybody if member.project == caller.project)


def set_status(context: Context, caller: Caller, image_id: str, project: str, status: MemberStatus) -> Member:
    """Accept or reject, as the member itself."""
    image = _shared(context, caller, image_id)
    try:
        wanted = MemberStatus(status)
    except ValueError:
        raise InvalidInput(f"status must be one of {', '.join(MemberStatus)}, not {status!r}") from None
    member = _known(context, caller, image, project)
    context.policy.check(caller, "modify_member", image, member_id=project)
    member = context.registry.update_member(replace(member, status=wanted))
    context.notify("image.member.update", member_payload(member))
    return member


def remove(context: Context, caller: Caller, image_id: str, project: str) -> None:
    """Stop sharing the image with a project."""
    image = _shared(context, caller, image_id)
    member = _known(context, caller, image, project)
    context.policy.check(caller, "delete_member", image, member_id=project)
    context.registry.delete_member(image_id, project)
    context.notify("image.member.delete", member_payload(member, **gone()))
