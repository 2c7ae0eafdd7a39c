"""Read options strictly: oslo.config, plus "nobody knows this option".

oslo.config passes over an option it doesn't know, so a misspelt limit would
be a missing limit. An OptionSet remembers what was registered and refuses
the rest, by file, section and name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from oslo_config import cfg

from glancelike.errors import ConfigError


class OptionSet:
    """A ConfigOpts of its own, never the global one, that knows its options."""

    def __init__(self) -> None:
        self.conf = cfg.ConfigOpts()
        self._known: dict[str, set[str]] = {"DEFAULT": set()}

    def register(self, opts: Iterable[cfg.Opt], group: str | None = None) -> None:
        """Register options in a section; None is [DEFAULT]."""
        listed = list(opts)
        if group:  # a section may be there without having options
            self.conf.register_group(cfg.OptGroup(group))
        self.conf.register_opts(listed, group=group)
        known = self._known.setdefault(group or "DEFAULT", set())
        for opt in listed:
            known.add(opt.dest)
            known.update(old.name.replace("-", "_") for old in opt.deprecated_opts if old.name)

    def parse(self, argv: Sequence[str], *, project: str, prog: str) -> None:
        """Read the command line and the files it or the system names."""
        self.conf(list(argv), project=project, prog=prog)

    def section(self, group: str | None) -> Any:
        """Return the values of a section, by attribute or item."""
        return self.conf[group] if group else self.conf

    @property
    def files(self) -> tuple[str, ...]:
        """The config files that were read."""
        return tuple(self.conf.config_file or ())

    def refuse_unknown(self) -> None:
        """Raise ConfigError for an option or section that nothing would read."""
        for path in self.files:
            sections: dict[str, dict[str, list[str]]] = {}
            cfg.ConfigParser(path, sections).parse()
            for section, values in sections.items():
                # A section with nothing in it, as in the sample, harms nobody.
                if values and section not in self._known:
                    raise ConfigError(f"{path}: nothing reads the section [{section}]")
                for name in values:
                    if name.replace("-", "_") not in self._known[section]:
                        raise ConfigError(f"{path}: unknown option {name} in [{section}]")
