"""A real Keystone for the tests: SQLite, fernet tokens, a free loopback port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from keystoneauth1.adapter import Adapter
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

START_SECONDS = 60.0
PASSWORD = "correct horse"
REGION = "RegionOne"
DEFAULT_DOMAIN = "default"
AUTHTOKEN = """\
[keystone_authtoken]
auth_url = {url}
auth_type = password
project_domain_name = Default
user_domain_name = Default
project_name = service
username = image
password = {password}
service_type = image
"""


class Keystone:
    """A running Keystone, and what an administrator does with it.

    Roles admin, member, reader and service; the project ``service`` with
    the user ``image``, whom image services act as; ``admin`` in the project
    of that name and on the system. Everybody's password is PASSWORD.
    """

    def __init__(self, directory: Path) -> None:
        self.log = directory / "keystone.log"
        self._access = directory / "access.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("keystone_child.py")), str(directory)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**_environment(), "ADMIN_PASSWORD": PASSWORD},
                start_new_session=True,
            )
        try:
            self.url = f"http://127.0.0.1:{self._port(directory / 'port')}/v3"
            self.admin = self.adapter(self.session("admin", "admin"))
            self.add_project("service")
            self.grant("image", "service", "admin", "service")
        except BaseException:
            self.stop()
            raise

    def _port(self, file: Path) -> int:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if file.is_file() and (text := file.read_text()):
                return int(text)
            time.sleep(0.05)
        raise AssertionError(f"Keystone didn't start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """End it by its pid."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def validations(self) -> int:
        """Return how often it was asked about a token."""
        self.admin.get("/regions")  # what came before this is in the log now
        return self._access.read_text().count('"GET /v3/auth/tokens')

    def authtoken(self) -> str:
        """Return the section of a configuration that makes a service use this Keystone."""
        return AUTHTOKEN.format(url=self.url, password=PASSWORD)

    def auth(self, user: str, project: str | None = None, **scope: Any) -> v3.Password:
        """Return how a user logs in: to a project, or to another ``scope``, or to nothing."""
        if project is not None:
            scope |= {"project_name": project, "project_domain_id": DEFAULT_DOMAIN}
        return v3.Password(self.url, username=user, password=PASSWORD, user_domain_id=DEFAULT_DOMAIN, **scope)

    def session(self, user: str, project: str | None = None, **scope: Any) -> Session:
        return Session(self.auth(user, project, **scope), timeout=30)

    def token(self, user: str, project: str | None = None, **scope: Any) -> str:
        """Return a new token."""
        token: str = self.session(user, project, **scope).get_token()
        return token

    def adapter(self, session: Session) -> Adapter:
        """Return a client of the Identity API."""
        return Adapter(session, endpoint_override=self.url)

    def environment(self, user: str, project: str) -> dict[str, str]:
        """Return the variables that OpenStack's command-line clients read."""
        return {
            "OS_AUTH_URL": self.url,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_USERNAME": user,
            "OS_PASSWORD": PASSWORD,
            "OS_PROJECT_NAME": project,
            "OS_USER_DOMAIN_ID": DEFAULT_DOMAIN,
            "OS_PROJECT_DOMAIN_ID": DEFAULT_DOMAIN,
            "OS_REGION_NAME": REGION,
        }

    def add_project(self, name: str) -> str:
        """Make a project, if need be, and return its id."""
        return self._make("project", {"name": name, "domain_id": DEFAULT_DOMAIN})

    def grant(self, user: str, project: str, *roles: str) -> str:
        """Give a user, who is made if need be, roles on a project; return the user's id."""
        body = {"name": user, "password": PASSWORD, "domain_id": DEFAULT_DOMAIN}
        user_id, project_id = self._make("user", body), self.add_project(project)
        for role in roles:
            role_id = self._make("role", {"name": role})
            self.admin.put(f"/projects/{project_id}/users/{user_id}/roles/{role_id}")
        return user_id

    def add_endpoint(self, service_type: str, url: str) -> None:
        """Put a service into the catalog, or move it."""
        service_id = self._make("service", {"type": service_type, "name": service_type})
        known = self.admin.get("/endpoints", params={"service_id": service_id}).json()["endpoints"]
        for endpoint in known:
            self.admin.patch(f"/endpoints/{endpoint['id']}", json={"endpoint": {"url": url}})
        if not known:
            for interface in ("public", "internal", "admin"):
                body = {"interface": interface, "url": url, "service_id": service_id, "region_id": REGION}
                self.admin.post("/endpoints", json={"endpoint": body})

    def _make(self, kind: str, body: dict[str, Any]) -> str:
        """Make what isn't there by that name, and return its id."""
        found = self.admin.get(f"/{kind}s", params={"name": body["name"]}).json()[f"{kind}s"]
        made = found[0] if found else self.admin.post(f"/{kind}s", json={kind: body}).json()[kind]
        return str(made["id"])


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
