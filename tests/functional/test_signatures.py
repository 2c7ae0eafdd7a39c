"""Image signatures: with keys of every kind, and everything that can be wrong with them."""

from __future__ import annotations

import base64
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.x509.oid import NameOID

from glancelike import config
from glancelike.errors import ConfigError, InvalidSignature
from glancelike.model import Caller, Credentials, Status
from glancelike.policy import Policy
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService, ImportRequest, Settings
from glancelike.signatures import (
    LARGEST_CERTIFICATE,
    DirectoryCertificates,
    KeyManagerCertificates,
)
from glancelike.stores.memory import MemoryStore
from glancelike.vfs import MountTable
from tests.server_fixtures import Server

CALLER = Caller.administrator("p")
DATA = os.urandom(3 << 20)
HASHES = {
    "SHA-224": hashes.SHA224(),
    "SHA-256": hashes.SHA256(),
    "SHA-384": hashes.SHA384(),
    "SHA-512": hashes.SHA512(),
}
KEYS: dict[str, Any] = {
    "RSA-PSS": rsa.generate_private_key(65537, 2048),
    "DSA": dsa.generate_private_key(2048),
    "ECC_SECP384R1": ec.generate_private_key(ec.SECP384R1()),
    "ECC_SECP521R1": ec.generate_private_key(ec.SECP521R1()),
}


def sign(key_type: str, data: bytes, method: str = "SHA-256") -> str:
    """Return what img_signature is for the data."""
    key, digest = KEYS[key_type], HASHES[method]
    if key_type == "RSA-PSS":
        pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.MAX_LENGTH)
        made = key.sign(data, pss, digest)
    elif key_type == "DSA":
        made = key.sign(data, digest)
    else:
        made = key.sign(data, ec.ECDSA(digest))
    return base64.b64encode(made).decode()


def certificate(key_type: str, *, days: tuple[int, int] = (-1, 1)) -> x509.Certificate:
    """Make a certificate of the key, signed by itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEYS[key_type].public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days[0]))
        .not_valid_after(now + timedelta(days[1]))
        .sign(KEYS[key_type], hashes.SHA256())
    )


@dataclass
class Signed:
    """A service with a directory of certificates."""

    service: ImageService
    directory: Path
    store: MemoryStore

    def keep(self, made: x509.Certificate, suffix: str = ".pem") -> str:
        """Put a certificate into the directory and return its UUID."""
        encoding = serialization.Encoding.PEM if suffix == ".pem" else serialization.Encoding.DER
        certificate_id = str(uuid.uuid4())
        (self.directory / f"{certificate_id}{suffix}").write_bytes(made.public_bytes(encoding))
        return certificate_id

    def properties(self, key_type: str, method: str = "SHA-256", data: bytes = DATA) -> dict[str, str]:
        """Return the four properties of signed data, with a certificate that is there."""
        return {
            "img_signature": sign(key_type, data, method),
            "img_signature_hash_method": method,
            "img_signature_key_type": key_type,
            "img_signature_certificate_uuid": self.keep(certificate(key_type)),
        }

    def upload(self, properties: dict[str, str], data: bytes = DATA) -> str:
        image = self.service.create_image(CALLER, {**RAW, **properties})
        self.service.upload(CALLER, image.id, Bytes(data))
        return image.id

    def refused(self, properties: dict[str, str], data: bytes = DATA) -> str:
        """Upload in vain, prove that nothing is left, and return what was said."""
        image = self.service.create_image(CALLER, {**RAW, **properties})
        with pytest.raises(InvalidSignature) as caught:
            self.service.upload(CALLER, image.id, Bytes(data))
        after = self.service.show_image(CALLER, image.id)
        assert (after.status, after.size, after.locations) == (Status.QUEUED, None, ())
        assert not list(self.store.list())
        assert f"Signature verification failed for image {image.id}" in str(caught.value)
        return str(caught.value)


class Bytes:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int, /) -> bytes:
        block = self._data[self._at : self._at + size]
        self._at += len(block)
        return block


RAW = {"disk_format": "raw", "container_format": "bare"}


@pytest.fixture
def signed(tmp_path: Path) -> Iterator[Signed]:
    directory = tmp_path / "certificates"
    directory.mkdir()
    store = MemoryStore({})
    service = ImageService(
        MemoryRegistry({}),
        MountTable({"memory": store}, staging=MemoryStore({})),
        Policy(),
        Settings(),
        certificates=DirectoryCertificates(directory),
    )
    with service:
        yield Signed(service, directory, store)


@pytest.mark.parametrize("method", HASHES)
@pytest.mark.parametrize("key_type", KEYS)
def test_signature_of_every_kind(signed: Signed, key_type: str, method: str) -> None:
    properties = signed.properties(key_type, method)
    image_id = signed.upload(properties)
    assert signed.service.show_image(CALLER, image_id).status is Status.ACTIVE


@pytest.mark.parametrize("key_type", KEYS)
def test_signature_of_other_data(signed: Signed, key_type: str) -> None:
    said = signed.refused(signed.properties(key_type), DATA[:-1] + b"!")
    assert "isn't that of the data" in said
    assert "isn't that of the data" in signed.refused(signed.properties(key_type), DATA[:-1])


@pytest.mark.parametrize("suffix", [".pem", ".crt", ".der"])
def test_signature_certificate_files(signed: Signed, suffix: str) -> None:
    properties = signed.properties("DSA")
    properties["img_signature_certificate_uuid"] = signed.keep(certificate("DSA"), suffix).upper()
    signed.upload(properties)


def test_signature_ossn_0061_of_the_checksum_is_refused(signed: Signed) -> None:
    for checksum in (hashlib.md5(DATA).digest(), hashlib.md5(DATA).hexdigest().encode()):
        assert "isn't that of the data" in signed.refused(signed.properties("RSA-PSS", data=checksum))


@pytest.mark.parametrize("missing", ["img_signature", "img_signature_hash_method", "img_signature_key_type"])
def test_signature_with_three_properties_nothing_is_verified(signed: Signed, missing: str) -> None:
    properties = signed.properties("DSA")
    del properties[missing]
    signed.upload(properties, b"anything")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"img_signature": "abc"}, "base64"),
        ({"img_signature": "ä"}, "base64"),
        ({"img_signature": ""}, "is empty"),
        ({"img_signature": "YWJj"}, "isn't that of the data"),
        ({"img_signature_hash_method": "MD5"}, "Invalid signature hash method: MD5"),
        ({"img_signature_key_type": "RSA"}, "Invalid signature key type: RSA"),
        ({"img_signature_key_type": "DSA"}, "isn't of the type DSA"),
        ({"img_signature_certificate_uuid": str(uuid.UUID(int=7))}, "there is no certificate"),
        ({"img_signature_certificate_uuid": "../../etc/ssl/cert"}, "must be a UUID"),
        ({"img_signature_certificate_uuid": "/etc/passwd"}, "must be a UUID"),
        ({"img_signature_certificate_uuid": ""}, "must be a UUID"),
        ({"img_signature_certificate_uuid": f"{{{uuid.UUID(int=7)}}}"}, "must be a UUID"),
    ],
)
def test_signature_properties_that_are_wrong(signed: Signed, wrong: dict[str, str], said: str) -> None:
    assert said in signed.refused({**signed.properties("RSA-PSS"), **wrong})


def test_signature_with_the_wrong_curve(signed: Signed) -> None:
    properties = signed.properties("ECC_SECP384R1")
    assert "isn't of the type" in signed.refused({**properties, "img_signature_key_type": "ECC_SECP521R1"})
    other = {"img_signature_certificate_uuid": signed.keep(certificate("RSA-PSS"))}
    assert "isn't of the type" in signed.refused({**properties, **other})


@pytest.mark.parametrize("days", [(-3, -1), (1, 3)])
def test_signature_with_a_certificate_out_of_its_dates(signed: Signed, days: tuple[int, int]) -> None:
    properties = signed.properties("DSA")
    properties["img_signature_certificate_uuid"] = signed.keep(certificate("DSA", days=days))
    assert "is valid from" in signed.refused(properties)


def test_signature_with_files_that_are_no_certificates(signed: Signed) -> None:
    properties = signed.properties("DSA")
    path = signed.directory / f"{properties['img_signature_certificate_uuid']}.pem"
    good = path.read_bytes()
    for content, said in (
        (b"", "is no X.509 certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is no X.509 certificate"),
        (b"\x30\x82\x01", "is no X.509 certificate"),
        (good + b"\n" * LARGEST_CERTIFICATE, "can't be read"),
    ):
        path.write_bytes(content)
        assert said in signed.refused(properties)
        assert str(signed.directory) not in signed.refused(properties)
    path.unlink()
    os.mkfifo(path)
    assert "can't be read" in signed.refused(properties)


def test_signature_is_verified_at_import(signed: Signed) -> None:
    for data, status, task_status in ((DATA, "active", "success"), (DATA[:-1], "queued", "failure")):
        image = signed.service.create_image(CALLER, {**RAW, **signed.properties("ECC_SECP521R1")})
        signed.service.stage(CALLER, image.id, Bytes(data))
        task = signed.service.import_image(CALLER, image.id, ImportRequest("glance-direct"))
        signed.service.run_tasks()
        assert task is not None
        done = signed.service.show_task(CALLER, task.id)
        assert (str(done.status), signed.service.show_image(CALLER, image.id).status) == (task_status, status)
        assert ("Signature verification failed" in done.message) is (status == "queued")


def test_signature_without_certificates_is_refused(signed: Signed) -> None:
    bare = ImageService(
        MemoryRegistry({}),
        MountTable({"memory": signed.store}, staging=MemoryStore({})),
        Policy(),
        Settings(),
    )
    with bare:
        unsure = Signed(bare, signed.directory, signed.store)
        assert "this service has no certificates" in unsure.refused(signed.properties("DSA"))
        unsure.upload({"img_signature": "anything"})


# Key managers, by castellan

IN_MEMORY = "castellan.tests.unit.key_manager.mock_key_manager.MockKeyManager"


def test_signature_certificate_from_a_key_manager() -> None:
    from castellan.common.objects.symmetric_key import SymmetricKey
    from castellan.common.objects.x_509 import X509
    from oslo_context.context import RequestContext

    values = {"signatures": {"certificate_directory": None}, "key_manager": {"backend": IN_MEMORY}}
    certificates = KeyManagerCertificates(values)
    assert certificates.needs_token
    made = certificate("DSA")
    manager = certificates._manager
    context = RequestContext()
    certificate_id = manager.store(context, X509(made.public_bytes(serialization.Encoding.DER)))
    caller = Caller("u", "p", credentials=Credentials("token"))
    assert certificates.get(certificate_id, caller) == made
    with pytest.raises(InvalidSignature, match="there is no certificate"):
        certificates.get(str(uuid.uuid4()), caller)
    with pytest.raises(InvalidSignature, match="token"):
        certificates.get(certificate_id, CALLER)
    key = manager.store(context, SymmetricKey("AES", 128, b"0" * 16))
    with pytest.raises(InvalidSignature, match=r"no X\.509"):
        certificates.get(key, caller)
    broken = manager.store(context, X509(b"nonsense"))
    with pytest.raises(InvalidSignature, match=r"no X\.509"):
        certificates.get(broken, caller)


def load(tmp_path: Path, text: str) -> config.Config:
    file = tmp_path / "glancelike.conf"
    file.write_text(f"[DEFAULT]\nstate_path = {tmp_path}\nenabled_backends = ram:memory\n{text}")
    return config.load(["--config-file", str(file)])


def test_signature_configuration(tmp_path: Path) -> None:
    barbican = (
        "[key_manager]\nbackend = barbican\nauth_type = keystone_password\nusername = glance\n"
        "[barbican]\nauth_endpoint = http://127.0.0.1/v3\nbarbican_region_name = one\n"
        "[barbican_service_user]\nauth_type = password\nusername = glance\n"
    )
    values = load(tmp_path, barbican).signatures
    assert values["barbican"]["barbican_region_name"] == "one"
    made = KeyManagerCertificates(values)
    assert not made.needs_token
    assert made._conf.barbican.auth_endpoint == "http://127.0.0.1/v3"
    assert made._conf.key_manager.username == "glance"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[signatures]\ncertificate_directory = /nowhere\n", "/nowhere is no directory"),
        (
            "[signatures]\ncertificate_directory = /tmp\n[key_manager]\nbackend = vault\n",
            "exclude each other",
        ),
        (
            "[key_manager]\nbackend = barbican\n[barbican]\nauth_endpiont = x\n",
            "unknown option auth_endpiont",
        ),
        ("[barbican]\nauth_endpoint = http://x\n", r"nothing reads the section \[barbican\]"),
    ],
)
def test_signature_configuration_that_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.build(load(tmp_path, text))


def test_signature_by_http(run_server: Callable[..., Server], tmp_path: Path) -> None:
    import requests

    directory = tmp_path / "certificates"
    directory.mkdir()
    server = run_server(extra=f"[signatures]\ncertificate_directory = {directory}\n")
    keeper = Signed(None, directory, None)  # type: ignore[arg-type]
    for data, status in ((DATA, 204), (b"other data", 400)):
        body = {**RAW, **keeper.properties("ECC_SECP384R1")}
        image = requests.post(f"{server.url}/v2/images", json=body, timeout=30).json()
        answer = requests.put(
            f"{server.url}{image['file']}",
            data=data,
            headers={"Content-Type": "application/octet-stream", "Accept": "application/json"},
            timeout=30,
        )
        assert answer.status_code == status
        if status == 400:
            assert "Signature verification failed" in answer.json()["message"]
            assert requests.get(f"{server.url}{image['self']}", timeout=30).json()["status"] == "queued"
    assert len(list((server.config_file.parent / "images").rglob("*-*-*-*-*-*"))) == 1
