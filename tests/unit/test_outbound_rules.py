"""Which URLs may be opened, without opening any."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glancelike.errors import ConfigError, ForbiddenUrl, Unreachable
from glancelike.outbound.options import limit_options, limits_of, rule_options, rules_of
from glancelike.urlrules import MAX_URL, Resolver, UrlRules

RULES = UrlRules()
ANY_PORT = UrlRules(allowed_ports=())


def resolving(*addresses: str) -> Resolver:
    """Resolve every name to these addresses."""

    def resolver(_host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return resolver


def failing(code: int) -> Resolver:
    def resolver(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        raise socket.gaierror(code, "no such name")

    return resolver


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTPS://Example.COM./a", "https://example.com/a"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("https://example.com:/a", "https://example.com/a"),
        ("http://example.com:443/a", "http://example.com:443/a"),
        ("http://example.com?a=b", "http://example.com/?a=b"),
        ("http://example.com/a?b=c#d", "http://example.com/a?b=c"),
        ("http://example.com/a%20b/%2e%2e/c", "http://example.com/a%20b/%2e%2e/c"),
        ("http://example.com/ü?ü", "http://example.com/%C3%BC?%C3%BC"),
        ("http://example.com/\ud800", "http://example.com/%ED%A0%80"),
        ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"),
        ("http://a_b.example/", "http://a_b.example/"),
        ("http://1.1.1.1./", "http://1.1.1.1/"),
        ("http://[2606:4700::0:1111]/", "http://[2606:4700::1111]/"),
        ("http://[::ffff:1.1.1.1]/", "http://1.1.1.1/"),
        ("http://[64:ff9b::1.1.1.1]/", "http://[64:ff9b::101:101]/"),
        ("http://1.example/", "http://1.example/"),
        ("http://example.com/@user:1@b", "http://example.com/@user:1@b"),
    ],
)
def test_normal_form(url: str, normal: str) -> None:
    target = RULES.parse(url)
    assert target.url == normal
    assert RULES.parse(normal) == target


# CVE-2026-34881: encodings of an address that a library's parser lets pass
# and the connection understands.
ENCODED = [
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0X7F.0.0.1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://127.0.0.0x1/",
    "http://0x/",
    "http://127.0.0.1./",
    "http://127.0.0.01/",
    "http://256.256.256.256/",
    "http://1.1.1.1.1/",
    "http://%31%32%37.0.0.1/",
    "http://127%2e0.0.1/",
    "http://①②⑦.0.0.1/",
    "http://127。0。0。1/",
    "http://bücher.example/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:ffff:7f00:0001]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[fec0::1]/",
    "http://[fd00:ec2::254]/",
    "http://[ff02::1]/",
    "http://[::1]evil.example/",
    "http://[::1/",
    "http://::1/",
    "http://[v1.x]/",
]


@pytest.mark.parametrize("url", ENCODED)
def test_cve_2026_34881_encoded_addresses(url: str) -> None:
    with pytest.raises(ForbiddenUrl):
        ANY_PORT.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "http:example.com",
        "http:/example.com",
        "http:///example.com",
        "http://",
        "http://:80/",
        "http://?example.com",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:-1/",
        "http://example.com:８０/",
        "http://example.com:80:80/",
        "http://good.example@10.0.0.1/",
        "http://user:password@good.example/",
        "http://@good.example/",
        "http://good.example\\@evil.example/",
        "http://good.example\\.evil.example/",
        "http:\\\\good.example/",
        "http://good.example /",
        " http://good.example/",
        "http://good.example/\n",
        "http://good.example/\r\nX-Header: y",
        "http://good.exam\tple/",
        "http://good.example/\0",
        "http://good..example/",
        "http://.good.example/",
        "http://good.example../",
        "http://-good.example/",
        "http://good-.example/",
        f"http://{'a' * 64}.example/",
        f"http://{'a.' * 127}example/",
        "http://good.example/" + "a" * MAX_URL,
        "file:///etc/passwd",
        "ftp://good.example/",
        "gopher://good.example/",
        "javascript://good.example/",
        "data:text/plain,x",
    ],
)
def test_what_is_no_url_to_open(url: str) -> None:
    with pytest.raises(ForbiddenUrl):
        ANY_PORT.parse(url)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "169.254.169.254"),
        *("172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
        *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1"),
        *("2001::1", "2001:db8::1", "2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1", "fe80::1", "ff02::1"),
    ],
)
def test_cve_2026_34881_a_name_is_judged_by_its_addresses(address: str) -> None:
    with pytest.raises(ForbiddenUrl) as caught:
        RULES.check("http://image.example/", resolving("1.1.1.1", address))
    assert address not in str(caught.value)
    assert "image.example" in str(caught.value)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::1.1.1.1"]
)
def test_public_addresses(address: str) -> None:
    target = RULES.check("http://image.example/", resolving(address))
    assert RULES.resolve(target, resolving(address, address)) == (address,)


@given(st.ip_addresses())
@example(ipaddress.ip_address("192.0.0.9"))
def test_what_python_takes_for_private_is_never_permitted(address: Any) -> None:
    wraps = address.version == 6 and (address.ipv4_mapped or address in ipaddress.ip_network("64:ff9b::/96"))
    if RULES.permits(address) and not wraps:
        assert address.is_global
        assert not address.is_multicast


def test_a_zone_is_refused() -> None:
    with pytest.raises(ForbiddenUrl):
        RULES.check("http://image.example/", resolving("fe80::1%eth0"))


def test_no_name_and_no_public_address_are_told_alike() -> None:
    said = set()
    for resolver in (failing(socket.EAI_NONAME), resolving("10.0.0.1"), resolving()):
        with pytest.raises(ForbiddenUrl) as caught:
            RULES.check("http://image.example/", resolver)
        said.add(str(caught.value))
    assert len(said) == 1


def test_a_name_server_that_is_away_is_retryable() -> None:
    with pytest.raises(Unreachable) as caught:
        RULES.check("http://image.example/path?key=s3cret", failing(socket.EAI_AGAIN))
    assert "s3cret" not in str(caught.value)


def test_addresses_are_not_looked_up() -> None:
    target = RULES.check("http://1.1.1.1/", failing(socket.EAI_NONAME))
    assert RULES.resolve(target, resolving("127.0.0.1")) == ("1.1.1.1",)


def test_allowed_networks() -> None:
    rules = UrlRules.of(allowed_networks=["10.2.0.0/16", "fd00::/8"])
    for address in ("10.2.3.4", "::ffff:10.2.3.4", "64:ff9b::10.2.3.4", "fd12::1", "1.1.1.1"):
        rules.check("http://image.example/", resolving(address))
    rules.parse("http://10.2.3.4/")
    for address in ("10.3.0.1", "127.0.0.1", "::ffff:10.3.0.1", "fe80::1"):
        with pytest.raises(ForbiddenUrl):
            rules.check("http://image.example/", resolving(address))
    with pytest.raises(ForbiddenUrl):
        rules.check("http://image.example/", resolving("10.2.3.4", "10.3.0.1"))


@pytest.mark.parametrize(
    ("options", "url", "allowed"),
    [
        ({"allowed_schemes": ["HTTPS"]}, "https://good.example/", True),
        ({"allowed_schemes": ["https"]}, "http://good.example/", False),
        ({"allowed_schemes": [], "disallowed_schemes": ["http"]}, "http://good.example/", False),
        ({"allowed_schemes": [], "disallowed_schemes": ["http"]}, "https://good.example/", True),
        ({"allowed_schemes": ["http"], "disallowed_schemes": ["http"]}, "http://good.example/", True),
        ({"allowed_schemes": []}, "ftp://good.example/", False),
        ({"allowed_schemes": ["file"]}, "file:///etc/passwd", False),
        ({"allowed_hosts": ["Good.example."]}, "http://GOOD.example/", True),
        ({"allowed_hosts": ["good.example"]}, "http://evil.example/", False),
        ({"allowed_hosts": ["good.example"]}, "http://good.example.evil.example/", False),
        (
            {"allowed_hosts": ["good.example"], "disallowed_hosts": ["good.example"]},
            "http://good.example/",
            True,
        ),
        ({"disallowed_hosts": ["evil.example"]}, "http://EVIL.example./", False),
        ({"disallowed_hosts": ["evil.example"]}, "http://good.example/", True),
        ({"disallowed_hosts": ["1.1.1.1"]}, "http://[::ffff:1.1.1.1]/", False),
        ({"disallowed_hosts": ["[2606:4700::1]"]}, "http://[2606:4700:0::1]/", False),
        ({"allowed_hosts": ["10.0.0.1"]}, "http://10.0.0.1/", False),
        ({"allowed_hosts": ["10.0.0.1"], "allowed_networks": ["10.0.0.0/8"]}, "http://10.0.0.1/", True),
        ({}, "http://good.example:8080/", False),
        ({}, "http://good.example:443/", True),
        ({"allowed_ports": ["8080"]}, "http://good.example:8080/", True),
        ({"allowed_ports": ["8080"]}, "http://good.example/", False),
        ({"allowed_ports": [], "disallowed_ports": ["22"]}, "http://good.example:22/", False),
        ({"allowed_ports": [], "disallowed_ports": ["22"]}, "http://good.example:23/", True),
        ({"allowed_ports": ["22"], "disallowed_ports": ["22"]}, "http://good.example:22/", True),
        ({"allowed_ports": [], "disallowed_ports": ["80"]}, "http://good.example/", False),
    ],
)
def test_lists(options: dict[str, Any], url: str, allowed: bool) -> None:
    try:
        UrlRules.of(**options).parse(url)
    except ForbiddenUrl:
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"allowed_networks": ["10.0.0.1/8"]}, "allowed_networks"),
        ({"allowed_networks": ["inside"]}, "allowed_networks"),
        ({"disallowed_hosts": ["0x7f.1"]}, "disallowed_hosts"),
        ({"allowed_hosts": ["http://host"]}, "allowed_hosts"),
        ({"allowed_ports": ["http"]}, "allowed_ports"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        UrlRules.of(**options)


def test_the_options_say_the_rules_and_the_limits() -> None:
    values = {opt.dest: opt.default for opt in (*rule_options("x_"), *limit_options("x_"))}
    assert rules_of(values, "x_") == UrlRules()
    limits = limits_of({**values, "x_retries": 7, "https_insecure": True}, "x_")
    assert (limits.retries, limits.verify, limits.redirects) == (7, False, 10)
    with pytest.raises(ConfigError, match="https_ca_certificates_file"):
        limits_of({**values, "https_ca_certificates_file": "/nope.pem"}, "x_")


def test_what_is_shown_has_no_query() -> None:
    assert str(RULES.parse("http://good.example/a?signature=s3cret")) == "http://good.example/a?..."
