"""A certificate authority of the tests' own, and what it signs."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class Authority:
    """A CA whose certificate is in ``path``."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = self._builder(self._name, self._key.public_key())
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.path = self._write(f"{name}.pem", own.sign(self._key, hashes.SHA256()))

    def issue(self, name: str, *addresses: str) -> tuple[Path, Path]:
        """Return certificate and key of ``name``, server or client, at 127.0.0.1 or other addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        places = [x509.IPAddress(ip_address(each)) for each in addresses or ("127.0.0.1",)]
        made = self._builder(subject, key.public_key())
        made = made.add_extension(x509.SubjectAlternativeName(places), critical=False)
        secret = self._directory / f"{name}.key"
        secret.touch(0o600)
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return self._write(f"{name}.crt", made.sign(self._key, hashes.SHA256())), secret

    def equip_qemu(
        self, directory: Path, name: str, *addresses: str, trusted: Authority | None = None
    ) -> None:
        """Put what ``name`` needs there under libvirt's names; it trusts ``trusted`` as well."""
        certificate, key = self.issue(name, *addresses)
        authorities = [self, trusted] if trusted else [self]
        (directory / "ca-cert.pem").write_bytes(b"".join(each.path.read_bytes() for each in authorities))
        for role in ("server", "client"):
            shutil.copy(certificate, directory / f"{role}-cert.pem")
            shutil.copy(key, directory / f"{role}-key.pem")

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
        )

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self._directory / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path
