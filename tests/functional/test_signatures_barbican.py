"""Signed images with a real Barbican behind a real Keystone."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import serialization

from tests.functional.test_signatures import RAW, certificate, sign
from tests.keystone_fixtures import PASSWORD, Keystone
from tests.server_fixtures import Server, start, write_config

START_SECONDS = 60.0
DATA = b"an image" * 10_000
CONFIG = """\
auth_strategy = keystone
{authtoken}
[key_manager]
backend = barbican
[barbican]
auth_endpoint = {keystone}
"""


@dataclass
class Cloud:
    """Keystone, Barbican, and an image server that uses both."""

    keystone: Keystone
    barbican: subprocess.Popen[bytes]
    key_manager: str
    server: Server

    def keep(self, token: str, data: bytes, kind: str = "certificate") -> str:
        """Put a secret into Barbican, and return its UUID."""
        body = {
            "name": "signer",
            "secret_type": kind,
            "payload": base64.b64encode(data).decode(),
            "payload_content_type": "application/octet-stream",
            "payload_content_encoding": "base64",
        }
        url = f"{self.key_manager}/v1/secrets"
        answer = requests.post(url, json=body, headers={"X-Auth-Token": token}, timeout=30)
        assert answer.status_code == 201, answer.text
        reference: str = answer.json()["secret_ref"]
        return reference.rpartition("/")[2]

    def create(self, token: str, certificate_id: str) -> dict[str, Any]:
        """Create an image whose data is signed."""
        signature = {
            "img_signature": sign("ECC_SECP384R1", DATA),
            "img_signature_hash_method": "SHA-256",
            "img_signature_key_type": "ECC_SECP384R1",
            "img_signature_certificate_uuid": certificate_id,
        }
        url = f"{self.server.url}/v2/images"
        answer = requests.post(url, json={**RAW, **signature}, headers={"X-Auth-Token": token}, timeout=30)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def put(self, token: str, path: str, data: bytes) -> requests.Response:
        headers = {
            "X-Auth-Token": token,
            "Content-Type": "application/octet-stream",
            "Accept": "application/json",
        }
        return requests.put(f"{self.server.url}{path}", data=data, headers=headers, timeout=60)

    def status(self, token: str, image: dict[str, Any]) -> str:
        answer = requests.get(
            f"{self.server.url}{image['self']}", headers={"X-Auth-Token": token}, timeout=30
        )
        status: str = answer.json()["status"]
        return status


@pytest.fixture(scope="module")
def cloud(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    keystone.grant("signer", "signers", "member", "creator")
    keystone.grant("stranger", "strangers", "member", "creator")
    directory = tmp_path_factory.mktemp("barbican")
    log = directory / "log"
    child = Path(__file__).parents[1] / "barbican_child.py"
    with log.open("wb") as output:
        barbican = subprocess.Popen(
            [sys.executable, str(child), str(directory), keystone.url],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": "/usr/bin:/bin", "IMAGE_PASSWORD": PASSWORD},
        )
    try:
        port = directory / "port"
        deadline = time.monotonic() + START_SECONDS
        while not (port.is_file() and port.read_text()):
            assert barbican.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        url = f"http://127.0.0.1:{port.read_text()}"
        keystone.add_endpoint("key-manager", url)
        extra = CONFIG.format(authtoken=keystone.authtoken(), keystone=keystone.url)
        server = start(write_config(tmp_path_factory.mktemp("image"), extra=extra))
        yield Cloud(keystone, barbican, url, server)
        server.stop()
    finally:
        if barbican.poll() is None:
            barbican.terminate()
        barbican.wait(20)


def test_barbican_has_the_certificate(cloud: Cloud) -> None:
    token = cloud.keystone.token("signer", "signers")
    made = certificate("ECC_SECP384R1").public_bytes(serialization.Encoding.PEM)
    certificate_id = cloud.keep(token, made)

    image = cloud.create(token, certificate_id)
    answer = cloud.put(token, image["file"], DATA[:-1])
    assert answer.status_code == 400
    assert "the signature isn't that of the data" in answer.json()["message"]
    assert cloud.status(token, image) == "queued"
    assert cloud.put(token, image["file"], DATA).status_code == 204
    assert cloud.status(token, image) == "active"


def test_barbican_is_asked_by_the_import(cloud: Cloud) -> None:
    token = cloud.keystone.token("signer", "signers")
    made = certificate("ECC_SECP384R1").public_bytes(serialization.Encoding.PEM)
    certificate_id = cloud.keep(token, made)
    for data, status in ((DATA, "active"), (DATA[1:], "queued")):
        image = cloud.create(token, certificate_id)
        assert cloud.put(token, f"{image['self']}/stage", data).status_code == 204
        answer = requests.post(
            f"{cloud.server.url}{image['self']}/import",
            json={"method": {"name": "glance-direct"}},
            headers={"X-Auth-Token": token},
            timeout=30,
        )
        assert answer.status_code == 202, answer.text
        deadline = time.monotonic() + 90
        while cloud.status(token, image) not in ("active", "queued"):
            assert time.monotonic() < deadline, cloud.server.log.read_text()
            time.sleep(0.1)
        assert cloud.status(token, image) == status
    # The image is queued again before the worker says why.
    deadline = time.monotonic() + 90
    while "Signature verification failed" not in (log := cloud.server.log.read_text()):
        assert time.monotonic() < deadline, log
        time.sleep(0.1)
    assert token not in log


def test_barbican_refuses_what_is_not_there_or_not_ones_own(cloud: Cloud) -> None:
    token, other = cloud.keystone.token("signer", "signers"), cloud.keystone.token("stranger", "strangers")
    made = certificate("ECC_SECP384R1").public_bytes(serialization.Encoding.PEM)
    for secret, said in (
        ("00000000-0000-4000-8000-000000000000", "there is no certificate"),
        (cloud.keep(other, made), "can't be had from the key manager"),
        (cloud.keep(token, b"0" * 32, "opaque"), "no X.509 certificate"),
        (cloud.keep(token, b"nonsense"), "no X.509 certificate"),
    ):
        answer = cloud.put(token, cloud.create(token, secret)["file"], DATA)
        assert answer.status_code == 400, answer.text
        assert said in answer.json()["message"]


def test_barbican_that_is_away_is_no_fault_of_the_image(cloud: Cloud) -> None:
    token = cloud.keystone.token("signer", "signers")
    image = cloud.create(token, "00000000-0000-4000-8000-000000000000")
    cloud.barbican.terminate()
    cloud.barbican.wait(20)
    answer = cloud.put(token, image["file"], DATA)
    assert (answer.status_code, cloud.status(token, image)) == (503, "queued")
