"""X.509 certificates that users of Windows guests log in with.

One is made as Nova does: signed by itself, for ten years, for an RSA key and
the user as ``user@localhost`` (a user principal name, which Windows maps to
an account).
"""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from novalite.errors import InvalidInput
from novalite.model import utcnow

_UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_LIFETIME = timedelta(days=3650)
_KEY_BITS = 2048
_NAME_CHARS = 64  # of a common name, by X.520
_UTF8_STRING = 12  # ASN.1's tag
_MOST_CHARS = 65535


def make(user: str) -> tuple[str, str]:
    """Return a certificate and its private key, both as PEM."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user[:_NAME_CHARS] or "user")])
    principal = f"{user}@localhost".encode()[:127]  # a length that is one byte in DER
    now = utcnow()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # the guest's clock may be behind
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.OtherName(_UPN, bytes([_UTF8_STRING, len(principal)]) + principal)]
            ),
            critical=False,
        )
        .sign(private, hashes.SHA256())
    )
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode().strip(), secret.decode()


def fingerprint_of(certificate: str) -> str:
    """Return the SHA-1 fingerprint of a certificate as PEM; raise InvalidInput."""
    try:
        if len(certificate) > _MOST_CHARS:
            raise ValueError(f"more than {_MOST_CHARS} characters")
        found = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError as error:
        raise InvalidInput(f"the public key isn't an X.509 certificate as PEM: {error}") from error
    digest = found.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - a name, nothing is trusted by it
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))
