"""What URLs this server may open for its callers, and how patient it is.

A caller who gives a URL borrows the server's place in the network. So a URL
is taken apart here, strictly and once, into a Target; nothing else of it is
used afterwards. What two parsers could read differently (user names,
backslashes, percent-encoded hosts, numbers that stand for addresses) is
refused rather than understood. A name is judged by the addresses it
resolves to, and the connection goes to just these.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Self
from urllib.parse import quote

from glancelike.errors import ConfigError, ForbiddenUrl, Unreachable

LOG = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[..., Sequence[tuple[Any, ...]]]  # as socket.getaddrinfo

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL = 2048

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>[^#]*)(?:#.*)?")
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What inet_aton takes for a number, and so for an address: 127.1, 0x7f.1, 017700000001.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))

# The IANA registries of special-purpose addresses, without what is global.
_V4_SPECIAL = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
            *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
# All that is handed out to hosts is in 2000::/3. In there Teredo (in 2001::/23)
# and 6to4 wrap IPv4 addresses, and the rest is for tests and documentation.
_V6_GLOBAL = IPv6Network("2000::/3")
_V6_SPECIAL = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_V6_MAPPED = IPv6Network("::ffff:0:0/96")
_V6_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: how an IPv6-only host reaches IPv4


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How patient the server is with those it fetches from.

    ``read_seconds`` is what a peer may take for its headers, and then for
    each 256 KiB. ``retries`` counts failures in a row that brought nothing.
    ``skip_bytes`` is how many bytes are read and thrown away to get to the
    middle of data whose server knows no ranges.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    retries: int = 4
    backoff_seconds: float = 0.5  # doubled with each failure in a row, up to 30
    redirects: int = 10
    skip_bytes: int = 64 << 20
    cafile: str | None = None  # None: the system's
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart, in its normal form. ``path`` has the query, too."""

    scheme: str
    host: str  # a name in lower case or an address, never in brackets
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS.get(self.scheme) else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What a credential belongs to."""
        return self.scheme, self.host, self.port

    @property
    def url(self) -> str:
        """The URL to open."""
        return f"{self.scheme}://{self.authority}{self.path}"

    def __str__(self) -> str:
        """Return the URL as it may be shown: a query may be a credential."""
        path, asked, _ = self.path.partition("?")
        return f"{self.scheme}://{self.authority}{path}{'?...' if asked else ''}"


@dataclass(frozen=True, slots=True)
class UrlRules:
    """What may be opened. An allow list that isn't empty wins over its disallow list.

    Whatever the schemes, only http and https can be opened. A URL without a
    port has its scheme's. Each address that a host resolves to must be a
    public one or lie in ``allowed_networks``.
    """

    allowed_schemes: tuple[str, ...] = ("http", "https")
    disallowed_schemes: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    disallowed_hosts: tuple[str, ...] = ()
    allowed_ports: tuple[int, ...] = (80, 443)
    disallowed_ports: tuple[int, ...] = ()
    allowed_networks: tuple[Network, ...] = ()
    allow_insecure_redirects: bool = False  # from https to http

    @classmethod
    def of(cls, **options: Any) -> Self:
        """Make rules of options as a configuration has them; raise ConfigError."""
        values: dict[str, Any] = {
            name: tuple(_configured(name, each) for each in value)
            if isinstance(value, list | tuple)
            else value
            for name, value in options.items()
        }
        return cls(**values)

    def parse(self, url: str) -> Target:
        """Take a URL apart and judge all but what its name resolves to; no I/O.

        Raises ForbiddenUrl, also for what isn't a URL.
        """
        target = _parse(url)
        judged: tuple[tuple[str, Any, Sequence[Any], Sequence[Any]], ...] = (
            ("scheme", target.scheme, self.allowed_schemes, self.disallowed_schemes),
            ("host", target.host, self.allowed_hosts, self.disallowed_hosts),
            ("port", target.port, self.allowed_ports, self.disallowed_ports),
        )
        for what, found, allowed, disallowed in judged:
            if found not in allowed if allowed else found in disallowed:
                raise ForbiddenUrl(f"URLs with the {what} {found!r} must not be opened from here")
        address = _literal(target.host)
        if address is not None and not self.permits(address):
            raise _forbidden(target)
        return target

    def check(self, url: str, resolver: Resolver = socket.getaddrinfo) -> Target:
        """Judge a URL, its name's addresses included.

        Raises ForbiddenUrl, or Unreachable when the name server is away.
        """
        target = self.parse(url)
        self.resolve(target, resolver)
        return target

    def resolve(self, target: Target, resolver: Resolver = socket.getaddrinfo) -> tuple[str, ...]:
        """Return the addresses of a target, all of which may be connected to.

        Raises ForbiddenUrl when one of them may not, or when there is none:
        which of the two must not be told. Raises Unreachable when the name
        server is away.
        """
        if _literal(target.host) is not None:
            return (self.parse(target.url).host,)
        try:
            found = resolver(target.host, target.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL):
                raise Unreachable(f"{target}: the name server doesn't answer for it") from error
            LOG.warning("refused %s: %s", target, error)
            raise _forbidden(target) from None
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        # A zone ("fe80::1%eth0") belongs to a link-local address, which is refused with it.
        refused = [each for each in addresses if "%" in each or not self.permits(ipaddress.ip_address(each))]
        if refused or not addresses:
            LOG.warning("refused %s: it resolves to %s", target, ", ".join(refused) or "nothing")
            raise _forbidden(target)
        return addresses

    def permits(self, address: Address) -> bool:
        """Tell whether the server may connect to an address."""
        inner = _unwrapped(address)
        if any(each in net for net in self.allowed_networks for each in {address, inner}):
            return True
        if isinstance(inner, IPv4Address):
            return not any(inner in network for network in _V4_SPECIAL)
        return inner in _V6_GLOBAL and not any(inner in network for network in _V6_SPECIAL)


def _parse(url: str) -> Target:
    if len(url) > MAX_URL:
        raise ForbiddenUrl(f"a URL of {len(url)} characters is longer than {MAX_URL}")
    if _UNSAFE.search(url):
        raise ForbiddenUrl("a URL has no spaces, control characters or backslashes")
    split = _URL.fullmatch(url)
    if split is None:
        raise ForbiddenUrl("not a URL with a scheme and a host")
    scheme = split["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise ForbiddenUrl(f"URLs with the scheme {scheme!r} must not be opened from here")
    if "@" in split["authority"]:
        raise ForbiddenUrl("a URL must not hold a user name or a password")
    authority = _AUTHORITY.fullmatch(split["authority"])
    if authority is None:
        raise ForbiddenUrl("the URL's host must be a name in ASCII or an address, and its port a number")
    port = int(authority["port"] or DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65535:
        raise ForbiddenUrl(f"{port} is no port")
    host = _normal_host(authority["v6"] or authority["name"])
    if host is None:
        raise ForbiddenUrl("the URL's host must be a name or an address in its usual form")
    rest = split["rest"]
    path = rest if rest.startswith("/") else f"/{rest}"
    return Target(scheme, host, port, quote(path, safe=_PRINTABLE, errors="surrogatepass"))


def _normal_host(host: str) -> str | None:
    """Return a name in lower case, or an address as ipaddress writes it; None for neither."""
    literal = _literal(host.removesuffix("."))
    if literal is not None:
        return str(_mapped(literal))
    name = host.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or _NUMBER.fullmatch(labels[-1]):
        return None
    return name if all(_LABEL.fullmatch(label) for label in labels) else None


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _mapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv4-mapped one is."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that packets to ``address`` end at, or itself."""
    if isinstance(address, IPv6Address) and (address in _V6_MAPPED or address in _V6_NAT64):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _configured(option: str, value: Any) -> Any:
    """Bring one value of an option into the form that it is compared in."""
    if option.endswith("_networks"):
        try:
            return ipaddress.ip_network(value)
        except ValueError as error:
            raise ConfigError(f"{option}: {error}") from error
    if option.endswith("_ports"):
        if not str(value).isdecimal():
            raise ConfigError(f"{option}: {value!r} is no port")
        return int(value)
    if option.endswith("_hosts"):
        host = _normal_host(value.strip("[]"))
        if host is None:
            raise ConfigError(f"{option}: {value!r} is neither a name nor an address")
        return host
    return value.lower() if isinstance(value, str) else value


def _forbidden(target: Target) -> ForbiddenUrl:
    """Say no without a word on what the name resolves to, or whether it does."""
    return ForbiddenUrl(
        f"{target.scheme} to the host {target.host!r}, port {target.port}, must not be opened from here"
    )
