"""Who may do what: oslo.policy with Glance's rule names and defaults.

``Policy.check`` is the only place that decides by role. What a caller may
*see* at all is the registry's business (visibility), decided before. The
rules are in one module a noun; an operator overrides any of them in
``policy.yaml``, which is read again when it changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from glancelike.errors import ConfigError, Forbidden, ImageNotFound, NamespaceNotFound
from glancelike.model import Caller, Image, Namespace
from glancelike.policy import base, cache, images, metadefs, stores, tasks
from glancelike.rules import Facts, PolicyFileError, Rules, sample_of

RULES: tuple[base.Rule, ...] = (
    *base.RULES,
    *images.RULES,
    *cache.RULES,
    *stores.RULES,
    *tasks.RULES,
    *metadefs.RULES,
)

Target = Image | Namespace | Facts | None


def rules() -> tuple[base.Rule, ...]:
    """Return every rule with its default."""
    return RULES


def facts_of(target: Target) -> dict[str, str | None]:
    """Return what a check string may ask of its target, as ``%(name)s``.

    Of an image these are its fields and properties, ``project_id`` being
    its owner; of a namespace its name, owner and visibility.
    """
    if isinstance(target, Image):
        return {
            **target.properties,
            "member_id": None,  # whoever asks says whose membership it is about
            "user_id": None,
            "id": target.id,
            "image_id": target.id,
            "name": target.name,
            "status": str(target.status),
            "visibility": str(target.visibility),
            "protected": str(target.protected),
            "os_hidden": str(target.hidden),
            "disk_format": target.disk_format,
            "container_format": target.container_format,
            "owner": target.owner,
            "project_id": target.owner,
        }
    if isinstance(target, Namespace):
        return {
            "namespace": target.name,
            "visibility": target.visibility,
            "protected": str(target.protected),
            "owner": target.owner,
            "project_id": target.owner,
        }
    return dict(target or {})


class Policy:
    """Decides whether a caller may do an action; thread-safe."""

    def __init__(self, policy_file: Path | None = None) -> None:
        self._rules = Rules(RULES, policy_file)
        try:
            self._rules.open()
        except PolicyFileError as error:
            raise ConfigError(f"[oslo_policy] policy_file: {error}") from error

    def allows(self, caller: Caller, action: str, facts: Facts) -> bool:
        """Tell whether the caller may do ``action`` to a target of such facts."""
        return self._rules.allows(caller, action, facts)

    def allowed(self, caller: Caller, action: str, images: Iterable[Image]) -> tuple[Image, ...]:
        """Return those of the images that the caller may do ``action`` to."""
        decisions = self._rules.current()
        return tuple(image for image in images if decisions.allow(caller, action, facts_of(image)))

    def check(self, caller: Caller, action: str, target: Target = None, **facts: str) -> None:
        """Raise Forbidden unless the caller may do ``action``.

        ``target`` is what it is done to: an image or namespace that exists,
        or the facts of anything else, by default the caller's project.
        ``facts`` add to it. Of an image or a namespace that the caller may
        not even look at it says ImageNotFound or NamespaceNotFound.
        """
        own = {"project_id": caller.project, "owner": caller.project}
        asked = {**own, **facts_of(target), **facts}
        if self.allows(caller, action, asked):
            return
        if isinstance(target, Image) and not self.allows(caller, "get_image", asked):
            raise ImageNotFound(f"No image found with ID {target.id}")
        if isinstance(target, Namespace) and not self.allows(caller, "get_metadef_namespace", asked):
            raise NamespaceNotFound(f"Metadata definition namespace {target.name} not found")
        raise Forbidden(f"You are not authorized to complete {action} action.")

    def fulfils(self, caller: Caller, rule: str) -> bool:
        """Tell whether the caller fulfils a rule that may be the policy file's own.

        One that isn't there is fulfilled by nobody.
        """
        return self._rules.fulfils(caller, rule)

    def knows(self, rule: str) -> bool:
        """Tell whether there is such a rule, ours or the policy file's."""
        return self._rules.knows(rule)

    def recognised(self, caller: Caller) -> Caller:
        """Return the caller, an administrator only if ``context_is_admin`` says so.

        A token for the whole system makes no administrator of images.
        """
        plain = replace(caller, admin=False)
        facts = {"project_id": caller.project, "user_id": caller.user}
        if caller.system_scope is None and self.allows(plain, "context_is_admin", facts):
            return caller if caller.admin else replace(caller, admin=True)
        return plain


def sample() -> str:
    """Return the text of the sample ``policy.yaml``, all rules commented out."""
    return sample_of(RULES)
