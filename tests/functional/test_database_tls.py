"""TLS to the database, as the connection's URL asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa

from glancelike.errors import RegistryUnavailable
from glancelike.registry.sql import SqlRegistry
from tests.certificates import Authority
from tests.database_servers import NOBODY, PASSWORD, SERVERS, USER, DatabaseServer, PostgresServer

CIPHER = "SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'"


class Secured:
    """A server with a certificate."""

    def __init__(self, kind: type[DatabaseServer], directory: Path) -> None:
        self.authority = Authority(directory)
        certificate, key = self.authority.issue("server")
        files = {"cert": certificate, "key": key, "ca": self.authority.path}
        if kind is PostgresServer:
            if os.geteuid() == 0:
                os.chown(key, NOBODY, NOBODY)
            options = {"ssl": "on", **{f"ssl_{name}_file": str(path) for name, path in files.items()}}
        else:
            options = {f"ssl-{name}": str(path) for name, path in files.items()}
        self.server = kind(directory / "server", options)
        self.url = self.server.make_database("tls")

    def connect(self, query: Mapping[str, str], url: str | None = None) -> str | None:
        """Upgrade and open the registry; return the connection's cipher, if any."""
        url = sa.make_url(url or self.url).update_query_dict(query).render_as_string(hide_password=False)
        registry = SqlRegistry({"connection": url, "statement_timeout": 10.0})
        registry.upgrade()
        registry.open()
        try:
            with registry._reading() as connection:
                if isinstance(self.server, PostgresServer):
                    asked = "SELECT cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                else:
                    asked = CIPHER
                cipher: str | None = connection.exec_driver_sql(asked).scalar()
                return cipher or None
        finally:
            registry.close()


@pytest.fixture(scope="module", params=SERVERS, ids=lambda kind: kind.name)
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if reason := request.param.missing():
        pytest.skip(reason)
    secured = Secured(request.param, tmp_path_factory.mktemp("tls"))
    yield secured
    secured.server.stop()


def verifying(server: DatabaseServer, authority: Path) -> dict[str, str]:
    """Return what a URL has to say so that the server is verified, its name included."""
    if isinstance(server, PostgresServer):
        return {"sslmode": "verify-full", "sslrootcert": str(authority)}
    return {"ssl_ca": str(authority), "ssl_check_hostname": "true"}


def test_the_servers_certificate_is_verified(secured: Secured, tmp_path: Path) -> None:
    assert secured.connect(verifying(secured.server, secured.authority.path))
    other = Authority(tmp_path, "other")
    with pytest.raises(RegistryUnavailable, match="certificate verify failed"):
        secured.connect(verifying(secured.server, other.path))


def test_the_servers_name_is_verified(secured: Secured) -> None:
    query = verifying(secured.server, secured.authority.path)
    with pytest.raises(RegistryUnavailable, match="localhost"):  # of which the certificate says nothing
        secured.connect(query, secured.url.replace("127.0.0.1", "localhost"))


def test_a_clients_certificate(secured: Secured) -> None:
    """An account that needs a certificate isn't entered without."""
    server, account = secured.server, "certified"
    certificate, key = secured.authority.issue(account)
    query = verifying(server, secured.authority.path)
    if isinstance(server, PostgresServer):
        rules = server.directory / "data" / "pg_hba.conf"
        rules.write_text(f"hostssl all {account} 127.0.0.1/32 cert\n{rules.read_text()}")
        server.execute(f"CREATE ROLE {account} SUPERUSER LOGIN")
        server.execute("SELECT pg_reload_conf()")
        own = {"sslcert": str(certificate), "sslkey": str(key)}
    else:
        server.execute(f"CREATE USER '{account}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}' REQUIRE X509")
        server.execute(f"GRANT ALL ON *.* TO '{account}'@'127.0.0.1'")
        own = {"ssl_cert": str(certificate), "ssl_key": str(key)}
    url = secured.url.replace(f"//{USER}:", f"//{account}:")
    with pytest.raises(RegistryUnavailable):
        secured.connect(query, url)
    assert secured.connect({**query, **own}, url)


def test_a_server_without_tls_is_refused(database_server: DatabaseServer, tmp_path: Path) -> None:
    """Who asks for TLS isn't served without it."""
    url = sa.make_url(database_server.make_database("plain"))
    try:
        query = verifying(database_server, Authority(tmp_path).path)
        registry = SqlRegistry({"connection": url.update_query_dict(query).render_as_string(False)})
        with pytest.raises(RegistryUnavailable, match="SSL"):
            registry.upgrade()
    finally:
        database_server.drop_database("plain")
