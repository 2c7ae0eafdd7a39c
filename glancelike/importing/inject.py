"""``inject_image_metadata``: properties that every imported image gets."""

from __future__ import annotations

from oslo_config import cfg

from glancelike.importing.base import ImportPlugin, Subject


class InjectImageMetadata(ImportPlugin):
    """Add properties to images of callers without certain roles."""

    group = "inject_metadata_properties"
    options = (
        cfg.DictOpt("inject", default={}, help="Properties to add, as name:value, comma separated."),
        cfg.ListOpt(
            "ignore_user_roles",
            default=["admin"],
            help="Images of callers with one of these roles are left alone.",
        ),
    )

    def process(self, subject: Subject) -> None:
        """Add the properties; those of the same name are replaced."""
        if self.settings["inject"] and not subject.caller.roles & set(self.settings["ignore_user_roles"]):
            subject.set_properties(self.settings["inject"])
