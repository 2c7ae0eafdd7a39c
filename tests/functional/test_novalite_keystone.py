"""The compute on an image service that a real Keystone guards."""

from __future__ import annotations

from pathlib import Path

import pytest

from glancelike.client import ImageClient
from glancelike.errors import Unreachable
from novalite.bases.settings import BasesSettings
from novalite.config import Settings, load
from novalite.errors import ConfigError, ImageMissing, ImageServiceDown
from novalite.images.http import HttpImages
from novalite.model import Caller, NewServer, Status
from novalite.testing.cloud import Cloud
from tests.functional.test_keystone import serve
from tests.keystone_fixtures import PASSWORD, Keystone

DATA = b"\0" * 4096
ROLES = frozenset({"member", "reader"})


class Passing:
    """Tokens of one user, as callers bring them."""

    def __init__(self, token: str) -> None:
        self._token = token

    def token(self) -> str:
        return self._token

    def refused(self, token: str) -> None:
        raise Unreachable("it was revoked")


def options_of(endpoint: str, keystone: Keystone, **values: str) -> dict[tuple[str, str], str]:
    told = {
        "endpoint_override": endpoint,
        "auth_type": "password",
        "auth_url": keystone.url,
        "username": "nova",
        "password": PASSWORD,
        "project_name": "service",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        **values,
    }
    return {("glance", name): value for name, value in told.items()}


def settings_of(endpoint: str, keystone: Keystone, **values: str) -> Settings:
    fake = {("DEFAULT", "compute_driver"): "fake"}
    return load([], config_files=[], overrides={**fake, **options_of(endpoint, keystone, **values)})


def test_servers_boot_from_images_of_any_project(keystone: Keystone, tmp_path: Path) -> None:
    """The worker has a token of its own, and another when that is revoked."""
    keystone.grant("alice", "p-alice", "member")
    keystone.grant("bob", "p-bob", "member")
    keystone.grant("nova", "service", "admin")
    # What is revoked is then refused by the very next request.
    server = serve(tmp_path, keystone, "token_cache_time = -1\n")
    alice, bob = (
        Caller(user, keystone.add_project(f"p-{user}"), ROLES, token=keystone.token(user, f"p-{user}"))
        for user in ("alice", "bob")
    )
    told = settings_of(server.url, keystone)
    images = HttpImages(told.glance)
    options = options_of(server.url, keystone)
    with (
        ImageClient(server.url, tokens=Passing(str(alice.token))) as client,
        Cloud(tmp_path / "compute", images=images, options=options) as cloud,
    ):
        tokens = images._opened()._tokens
        assert tokens is not None
        used = [tokens.token()]
        for _ in range(2):
            values = {"name": "private", "disk_format": "raw", "container_format": "bare"}
            image_id = str(client.create_image(values)["id"])
            (tmp_path / "data").write_bytes(DATA)
            with (tmp_path / "data").open("rb") as file:
                client.upload(image_id, file, size=len(DATA))
            (made,) = cloud.service.servers.create(alice, NewServer("vm", image_id, "42"))
            cloud.wait(made.id, Status.ACTIVE)
            with pytest.raises(ImageMissing):
                cloud.service.servers.create(bob, NewServer("vm", image_id, "42"))
            assert tokens.token() == used[-1], "one is good for many requests"
            keystone.admin.delete("/auth/tokens", headers={"X-Subject-Token": used[-1]})
            assert images.show(image_id, Caller.administrator()).owner == alice.project
            used.append(tokens.token())
        assert len(set(used)) == len(used)
    assert server.stop() == 0


def test_a_keystone_that_gives_no_token_is_waited_for(keystone: Keystone) -> None:
    keystone.grant("nova", "service", "admin")
    images = HttpImages(settings_of("http://127.0.0.1:9", keystone, password="wrong").glance)
    images.open()
    with pytest.raises(ImageServiceDown, match="Keystone gives this service no token: .*401"):
        images.show("image", Caller.administrator())
    images.close()


def test_wrong_settings_are_named_and_no_secret_is_told(keystone: Keystone) -> None:
    told = settings_of("http://127.0.0.1:9", keystone)
    assert PASSWORD not in repr(told)
    assert BasesSettings.from_json(BasesSettings.of(told).to_json()).glance == told.glance
    with pytest.raises(ConfigError, match=r"\[glance\] auth_type: .*telepathy"):
        settings_of("http://127.0.0.1:9", keystone, auth_type="telepathy")
    values = {("glance", "auth_type"): "password", ("DEFAULT", "compute_driver"): "fake"}
    images = HttpImages(load([], config_files=[], overrides=values).glance)
    with pytest.raises(ConfigError, match=r"\[glance\] auth_type password: .*auth_url"):
        images.open()
