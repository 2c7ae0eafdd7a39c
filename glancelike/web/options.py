"""Read options strictly: oslo.config, plus "nobody knows this option".

oslo.config passes over an option it doesn't know, so a misspelt limit would
be a missing limit. An OptionSet remembers what was registered and refuses
the rest, by file, section and name.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oslo_config import cfg

DEFAULT = "DEFAULT"


class OptionError(ValueError):
    """The configuration is wrong; the message names file, section and option."""


class OptionSet:
    """A ConfigOpts of its own, never the global one, that knows its options."""

    def __init__(self, options: Mapping[str, Sequence[cfg.Opt]]) -> None:
        self._conf = cfg.ConfigOpts()
        self._registered: dict[str, list[cfg.Opt]] = {}
        for group, opts in options.items():
            self.register(group, opts)

    def register(self, group: str, opts: Iterable[cfg.Opt]) -> None:
        """Register options in a section."""
        listed = list(opts)
        self._conf.register_opts(listed, group=_named(group))
        self._registered.setdefault(group, []).extend(listed)

    def parse(
        self,
        argv: Sequence[str],
        *,
        project: str,
        prog: str | None = None,
        files: Sequence[str] | None = None,
    ) -> None:
        """Read the command line and the files that it names.

        ``files`` are read instead of those in oslo.config's usual places.
        Raises OptionError.
        """
        try:
            self._conf(
                list(argv),
                project=project,
                prog=prog,
                default_config_files=None if files is None else list(files),
            )
        except cfg.ConfigFileParseError as error:
            raise OptionError(f"{error.config_file}: {error.msg}") from error
        except cfg.Error as error:
            raise OptionError(str(error)) from error

    def override(self, group: str, name: str, value: Any) -> None:
        """Set a value that wins over all files; raise OptionError for an unknown option."""
        if not self.has(group, name):
            raise OptionError(f"unknown option {name} in [{group}]")
        self._conf.set_override(name, value, group=_named(group))

    def has(self, group: str, name: str) -> bool:
        """Tell whether an option is registered."""
        return any(opt.dest == name for opt in self._registered.get(group, ()))

    def get(self, group: str, name: str) -> Any:
        """Return a value; raise OptionError naming section and option when it's bad."""
        try:
            return self._conf[name] if group == DEFAULT else self._conf[group][name]
        except (cfg.Error, ValueError) as error:
            raise OptionError(f"[{group}] {name}: {error}") from error

    def section(self, group: str) -> dict[str, Any]:
        """Return all values of a section."""
        return {opt.dest: self.get(group, opt.dest) for opt in self._registered[group]}

    def refuse_unknown(self, *, but: str = "") -> None:
        """Raise OptionError for an option or section that nothing would read.

        Sections whose name starts with ``but`` are somebody else's business.
        """
        for path in self._files():
            sections: dict[str, dict[str, Any]] = {}
            cfg.ConfigParser(path, sections).parse()
            for section, values in sections.items():
                # A section with nothing in it, as in the sample, harms nobody.
                if not values or (but and section.startswith(but)):
                    continue
                if section not in self._registered:
                    raise OptionError(f"{path}: nothing reads the section [{section}]")
                known = {name for opt in self._registered[section] for name in _names(opt)}
                for name in values:
                    if name.replace("-", "_") not in known:
                        raise OptionError(f"{path}: unknown option {name} in [{section}]")

    def _files(self) -> list[str]:
        directories = [Path(each) for each in self._conf.config_dir or ()]
        return [
            *(self._conf.config_file or ()),
            *(str(path) for each in directories for path in sorted(each.glob("*.conf"))),
        ]


def sample_of(namespace: str) -> str:
    """Return a sample config file with all options that a package lists.

    ``namespace`` is an entry point of ``oslo.config.opts``.
    """
    from oslo_config import generator

    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(["--namespace", namespace], default_config_files=[], default_config_dirs=[])
    text = io.StringIO()
    generator.generate(conf, text)
    return text.getvalue()


def _named(group: str) -> str | None:
    """Name a section as oslo.config wants it, for which [DEFAULT] is None."""
    return None if group == DEFAULT else group


def _names(opt: cfg.Opt) -> set[str]:
    return {opt.dest, *(old.name.replace("-", "_") for old in opt.deprecated_opts if old.name)}
