"""Read options strictly: oslo.config, plus "nobody knows this option".

oslo.config passes over an option it doesn't know, so a misspelt limit would
be a missing limit. An OptionSet remembers what was registered and refuses
the rest, by file, section and name.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oslo_config import cfg, types

from glancelike.errors import ConfigError
from glancelike.plugins import Plugin

DEFAULT = "DEFAULT"

# Values of options, by section and name.
Values = Mapping[str, Mapping[str, Any]]


class NameList(types.List):
    """Names separated by commas, in brackets or not; of ``choices`` where given.

    Glance wants the brackets, and breaks in odd ways without them.
    """

    def __init__(self, choices: Sequence[str] = ()) -> None:
        super().__init__(types.String(choices=list(choices) or None, quotes=True))

    def __call__(self, value: Any) -> list[str]:
        if isinstance(value, str):
            value = value.strip()
            if value.startswith("[") and value.endswith("]"):
                value = value[1:-1]
        names: list[str] = super().__call__(value)
        return names


class StorageSize(types.ConfigType):
    """A number of bytes, or of units of 1024: 10GB."""

    UNITS = ("", "K", "M", "G", "T")

    def __init__(self) -> None:
        super().__init__(type_name="size")

    def __call__(self, value: Any) -> int:
        found = re.fullmatch(r"([0-9]+)(?:([KMGT]?)B)?", str(value).strip())
        if found is None:
            raise ValueError(f"{value!r} is no size: expected something like 0, 1048576 or 10GB")
        units: int = 1024 ** self.UNITS.index(found[2] or "")
        return int(found[1]) * units

    def _formatter(self, value: Any) -> str:
        return str(value)


class OptionError(ValueError):
    """The configuration is wrong; the message names file, section and option."""


class OptionSet:
    """A ConfigOpts of its own, never the global one, that knows its options."""

    def __init__(self, options: Mapping[str, Sequence[cfg.Opt]]) -> None:
        self._conf = cfg.ConfigOpts()
        self._registered: dict[str, list[cfg.Opt]] = {}
        self._tolerated: set[str] = set()
        for group, opts in options.items():
            self.register(group, opts)

    def register(self, group: str, opts: Iterable[cfg.Opt]) -> None:
        """Register options in a section."""
        listed = list(opts)
        self._conf.register_opts(listed, group=_named(group))
        self._registered.setdefault(group, []).extend(listed)

    def tolerate(self, group: str) -> None:
        """Let a section have any options: who would read them can't be asked."""
        self._registered.setdefault(group, [])
        self._tolerated.add(group)

    def parse(
        self,
        argv: Sequence[str],
        *,
        project: str,
        prog: str | None = None,
        files: Sequence[str] | None = None,
        epilog: str | None = None,
    ) -> None:
        """Read the command line and the files that it names.

        ``files`` are read instead of those in oslo.config's usual places;
        ``epilog`` is what --help says at its end. Raises OptionError.
        """
        try:
            self._conf(
                list(argv),
                project=project,
                prog=prog,
                default_config_files=None if files is None else list(files),
                epilog=epilog,
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

    def of_plugin(self, plugin: type[Plugin], group: str) -> dict[str, Any]:
        """Register a plugin's options and return their values.

        They are in the section that the plugin names, else in ``group``.
        Raises OptionError.
        """
        group = plugin.group or group
        self.register(group, plugin.options)
        values = {opt.dest: self.get(group, opt.dest) for opt in plugin.options}
        try:
            further = plugin.further_options(values)
        except ConfigError as error:
            raise OptionError(str(error)) from error
        self.register(group, further)
        return values | {opt.dest: self.get(group, opt.dest) for opt in further}

    def of_part(
        self,
        options: Mapping[str, Iterable[cfg.Opt]],
        further: Callable[[Values], Mapping[str, Iterable[cfg.Opt]]] = lambda _values: {},
    ) -> Values:
        """Return the values of registered options, by section.

        ``further`` says which others there are because of these values;
        they are registered and returned as well. Raises OptionError.
        """
        values = {group: {opt.dest: self.get(group, opt.dest) for opt in options[group]} for group in options}
        try:
            added = further(values)
        except ConfigError as error:
            raise OptionError(str(error)) from error
        for group, opts in added.items():
            self.register(group, opts)
            told = {opt.dest: self.get(group, opt.dest) for opt in opts}
            values[group] = values.get(group, {}) | told
        return values

    def told(self, beginning: str) -> dict[str, dict[str, str]]:
        """Return what the files say, as it stands there, in sections whose name starts so.

        For whoever knows the options of these sections, and whether they are any.
        """
        found: dict[str, dict[str, str]] = {}
        for path in self._files():
            sections: dict[str, dict[str, list[str]]] = {}
            cfg.ConfigParser(path, sections).parse()
            for section, values in sections.items():
                if section.startswith(beginning):
                    texts = {name.replace("-", "_"): texts[-1] for name, texts in values.items()}
                    found.setdefault(section, {}).update(texts)
        return found

    def refuse_unknown(self, *, but: str = "", only: str | None = None) -> None:
        """Raise OptionError for an option or section that nothing would read.

        Sections whose name starts with ``but`` are somebody else's business,
        and all others than ``only`` if it is given.
        """
        for path in self._files():
            sections: dict[str, dict[str, Any]] = {}
            cfg.ConfigParser(path, sections).parse()
            for section, values in sections.items():
                # A section with nothing in it, as in the sample, harms nobody.
                if not values or (but and section.startswith(but)) or section in self._tolerated:
                    continue
                if only not in (None, section):
                    continue
                if section not in self._registered:
                    raise OptionError(f"{path}: nothing reads the section [{section}]")
                known = {name for opt in self._registered[section] for name in _names(opt)}
                for name in values:
                    if name.replace("-", "_") not in known:
                        raise OptionError(f"{path}: unknown option {name} in [{section}]")

    def beside(self, name: str) -> Path | None:
        """Return where a file of that name is, beside the files that were read; the last's counts first.

        Where it is nowhere, that is where it would be; None when no file was
        read, unless the name is a whole path.
        """
        directories = [Path(each).parent for each in reversed(self._files())]
        places = [Path(name)] if Path(name).is_absolute() else [each / name for each in directories]
        return next((each for each in places if each.exists()), places[0] if places else None)

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


def conf_of(options: Mapping[str, Iterable[cfg.Opt]], values: Values) -> cfg.ConfigOpts:
    """Tell values to a library that takes them as a ConfigOpts only.

    ``options`` are the library's own, by section; a value of None, or of an
    option that it hasn't, is left out.
    """
    conf = cfg.ConfigOpts()
    conf([], project="", default_config_files=[], default_config_dirs=[])
    for group, opts in options.items():
        listed = list(opts)
        conf.register_opts(listed, group=_named(group))
        given = values.get(group, {})
        for opt in listed:
            if given.get(opt.dest) is not None:
                conf.set_override(opt.dest, given[opt.dest], group=_named(group))
    return conf


def _named(group: str) -> str | None:
    """Name a section as oslo.config wants it, for which [DEFAULT] is None."""
    return None if group == DEFAULT else group


def _names(opt: cfg.Opt) -> set[str]:
    return {opt.dest, *(old.name.replace("-", "_") for old in opt.deprecated_opts if old.name)}
