"""Image signatures: verify the data while it passes.

An image with all four ``img_signature`` properties is taken only if the
signature is the data's own, made with the key of the certificate that the
properties name. With some of them but not all, nothing is verified, as
in Glance: https://docs.openstack.org/glance/latest/user/signature.html

What is signed is the data itself, never a checksum of it (OSSN-0061).
cursive does the cryptography; it is imported when an image is signed.
"""

from __future__ import annotations

import logging
import os
import stat
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oslo_config import cfg

from glancelike.errors import ConfigError, InvalidSignature, PluginError, Unreachable
from glancelike.model import Caller, Image
from glancelike.web.options import Values, conf_of

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

LOG = logging.getLogger(__name__)

SIGNATURE = "img_signature"
HASH_METHOD = "img_signature_hash_method"
KEY_TYPE = "img_signature_key_type"
CERTIFICATE = "img_signature_certificate_uuid"
PROPERTIES = frozenset({SIGNATURE, HASH_METHOD, KEY_TYPE, CERTIFICATE})

GROUP, KEY_MANAGER, SERVICE_USER = "signatures", "key_manager", "barbican_service_user"
SUFFIXES = (".pem", ".crt", ".der")
LARGEST_CERTIFICATE = 64 << 10  # bytes; a certificate has some two thousand
HTTP_STATUS = ("status_code", "http_status")  # as barbicanclient and keystoneauth call it
NEEDED = "pip install glancelike[signatures]"

OPTIONS: Mapping[str, Sequence[cfg.Opt]] = {
    GROUP: (
        cfg.StrOpt(
            "certificate_directory",
            help="Directory of the X.509 certificates that images are signed with: files named like "
            "the certificate's UUID, with .pem, .crt or .der. For clouds without a key manager.",
        ),
    ),
    KEY_MANAGER: (
        cfg.StrOpt(
            "backend",
            help="Key manager that has the certificates: 'barbican' or another of castellan's. None by "
            "default. With it, this section and those of the backends ([barbican], [vault]) take "
            "castellan's options. Without [key_manager] auth_type the caller's own token is used.",
        ),
    ),
}


def further_options(values: Values) -> dict[str, list[cfg.Opt]]:
    """Return castellan's options, where a key manager is configured.

    Raises PluginError when castellan isn't installed, ConfigError for an
    ``auth_type`` of [barbican_service_user] that isn't.
    """
    if not values[KEY_MANAGER]["backend"]:
        return {}
    return {group: [opt for opt in opts if opt.dest != "backend"] for group, opts in _castellan_options()}


def certificates_of(values: Values) -> Certificates:
    """Make what looks up certificates, as the configuration says.

    Raises ConfigError when it says two things, or a directory that isn't
    one; PluginError when cursive isn't installed.
    """
    directory, backend = values[GROUP]["certificate_directory"], values[KEY_MANAGER]["backend"]
    if directory and backend:
        raise ConfigError("[signatures] certificate_directory and [key_manager] backend exclude each other")
    if not directory and not backend:
        return NoCertificates()
    _cursive()
    if backend:
        return KeyManagerCertificates(values)
    if not Path(directory).is_dir():
        raise ConfigError(f"[{GROUP}] certificate_directory: {directory} is no directory")
    return DirectoryCertificates(directory)


class Certificates(ABC):
    """Where certificates come from.

    ``needs_token`` says that the caller's own token is needed to get one.
    """

    needs_token = False

    @abstractmethod
    def get(self, certificate_id: str, caller: Caller) -> Certificate:
        """Return a certificate; raise InvalidSignature, Unreachable."""


class NoCertificates(Certificates):
    """Nothing is configured: what is signed can't be verified, so it is refused."""

    def get(self, certificate_id: str, caller: Caller) -> Certificate:
        raise InvalidSignature(
            "this service has no certificates (neither a certificate_directory nor a key manager)"
        )


class DirectoryCertificates(Certificates):
    """Certificates in a local directory, in PEM or DER."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)

    def get(self, certificate_id: str, caller: Caller) -> Certificate:
        from cryptography import x509

        name = _canonical(certificate_id)
        for suffix in SUFFIXES:
            try:
                data = _read_small(self._directory / f"{name}{suffix}")
            except FileNotFoundError:
                continue
            except OSError as error:
                # The directory is the operator's; callers learn nothing of it.
                LOG.error("certificate %s can't be read: %s", name, error)  # noqa: TRY400
                raise InvalidSignature(f"certificate {name} can't be read") from error
            load = x509.load_pem_x509_certificate if b"-----BEGIN" in data else x509.load_der_x509_certificate
            try:
                return load(data)
            except ValueError as error:
                raise InvalidSignature(f"certificate {name} is no X.509 certificate: {error}") from error
        raise InvalidSignature(f"there is no certificate {name}")


class KeyManagerCertificates(Certificates):
    """Certificates in a key manager such as Barbican, by castellan."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self.needs_token = not values[KEY_MANAGER].get("auth_type")

    @cached_property
    def _conf(self) -> cfg.ConfigOpts:
        return conf_of(dict(_castellan_options()), self._values)

    @cached_property
    def _manager(self) -> Any:
        from castellan import key_manager

        return key_manager.API(self._conf)

    def get(self, certificate_id: str, caller: Caller) -> Certificate:
        from castellan.common.exception import ManagedObjectNotFoundError
        from castellan.common.objects.x_509 import X509
        from cryptography import x509

        name = _canonical(certificate_id)
        context = self._context(caller)
        try:
            found = self._manager.get(context, name)
            encoded = found.get_encoded() if isinstance(found, X509) else None
            return x509.load_der_x509_certificate(encoded or b"")
        except (ManagedObjectNotFoundError, KeyError) as error:
            raise InvalidSignature(f"there is no certificate {name}") from error
        except ValueError as error:
            raise InvalidSignature(f"what the key manager has as {name} is no X.509 certificate") from error
        except Exception as error:
            # Each backend lets the errors of all that it is built on through.
            LOG.error("certificate %s: %s: %s", name, type(error).__name__, error)  # noqa: TRY400
            raise _refusal(name, error) from error

    def _context(self, caller: Caller) -> Any:
        """Return what castellan proves us, or the caller, to the key manager by."""
        if not self.needs_token:
            from castellan.common.utils import credential_factory

            return credential_factory(self._conf)
        from oslo_context.context import RequestContext

        if caller.credentials is None:
            raise InvalidSignature("the key manager wants a token of the caller's, and there is none")
        return RequestContext(
            auth_token=caller.credentials.token,
            project_id=caller.project,
            request_id=caller.request_id,
            overwrite=False,
        )


class Verification:
    """A Watcher that refuses data whose signature isn't right."""

    def __init__(self, image_id: str, verifier: Any) -> None:
        self._image_id = image_id
        self._verifier = verifier

    def feed(self, block: bytes, /) -> None:
        """Hash a block."""
        self._verifier.update(block)

    def finish(self, count: int, /) -> None:
        """Raise InvalidSignature unless the signature is that of all the data."""
        from cryptography import exceptions

        try:
            self._verifier.verify()
        except (exceptions.InvalidSignature, exceptions.UnsupportedAlgorithm, ValueError) as error:
            raise _failed(self._image_id, "the signature isn't that of the data") from error
        LOG.info("image %s: the signature is good", self._image_id)


def is_signed(image: Image) -> bool:
    """Tell whether the image's data has to have a good signature."""
    return image.properties.keys() >= PROPERTIES


def verification_of(image: Image, certificates: Certificates, caller: Caller) -> Verification | None:
    """Return what verifies the image's data, None where it isn't signed.

    Raises InvalidSignature where it can't be verified, Unreachable where the
    key manager is away.
    """
    if not is_signed(image):
        return None
    try:
        return Verification(image.id, _verifier(image.properties, certificates, caller))
    except InvalidSignature as error:
        raise _failed(image.id, str(error)) from error


def _verifier(properties: Mapping[str, str], certificates: Certificates, caller: Caller) -> Any:
    certificate = certificates.get(properties[CERTIFICATE], caller)
    utils, exception = _cursive()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cursive.certificate_utils import is_within_valid_dates

    try:
        signature = utils.get_signature(properties[SIGNATURE])
        hash_method = utils.get_hash_method(properties[HASH_METHOD])
        key_type = utils.SignatureKeyType.lookup(properties[KEY_TYPE])
    except exception.SignatureVerificationError as error:
        raise InvalidSignature(str(error)) from error
    except ValueError as error:
        raise InvalidSignature(f"{SIGNATURE} isn't base64") from error
    if not signature:
        raise InvalidSignature(f"{SIGNATURE} is empty")
    if not is_within_valid_dates(certificate):
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        raise InvalidSignature(
            f"certificate {properties[CERTIFICATE]} is valid from {since:%Y-%m-%d} to {until:%Y-%m-%d} only"
        )
    try:
        key: Any = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError) as error:
        raise InvalidSignature(f"the certificate's key can't be used: {error}") from error
    # All elliptic curves are one class: which curve it is tells the name alone.
    curve = getattr(getattr(key, "curve", None), "name", "").upper()
    if not isinstance(key, key_type.public_key_type) or (curve and key_type.name != f"ECC_{curve}"):
        raise InvalidSignature(f"the certificate's key isn't of the type {key_type.name}")
    return key_type.create_verifier(signature, hash_method, key)


def _failed(image_id: str, why: str) -> InvalidSignature:
    return InvalidSignature(f"Signature verification failed for image {image_id}: {why}")


def _refusal(name: str, error: Exception) -> Exception:
    """Tell a key manager that says no from one that is away."""
    said = [getattr(each, name, None) for each in (error, error.__context__) for name in HTTP_STATUS]
    if any(isinstance(status, int) and 400 <= status < 500 for status in said):
        return InvalidSignature(f"certificate {name} can't be had from the key manager")
    return Unreachable(f"the key manager can't be asked for certificate {name}")


def _canonical(certificate_id: str) -> str:
    """Return a UUID in its usual form; nothing else can name a certificate, or a file."""
    try:
        if len(certificate_id) == 36:
            return str(uuid.UUID(certificate_id))
    except ValueError:
        pass
    raise InvalidSignature(f"{CERTIFICATE} must be a UUID")


def _read_small(path: Path) -> bytes:
    # Without O_NONBLOCK a FIFO would keep us waiting.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is no regular file")
        data = file.read(LARGEST_CERTIFICATE + 1)
    if len(data) > LARGEST_CERTIFICATE:
        raise OSError(f"{path} is larger than {LARGEST_CERTIFICATE} bytes")
    return data


def _cursive() -> tuple[Any, Any]:
    """Import cursive's functions and errors; raise PluginError without it."""
    try:
        from cursive import exception, signature_utils
    except ImportError as error:
        raise PluginError(f"image signatures: {error}; {NEEDED}") from error
    return signature_utils, exception


def _castellan_options() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options of castellan and of the service user's auth plugin."""
    try:
        from castellan.options import list_opts
    except ImportError as error:
        raise PluginError(f"[{KEY_MANAGER}] backend: {error}; {NEEDED}") from error
    from keystoneauth1 import loading

    options = [(str(group), list(opts)) for group, opts in list_opts()]
    password = loading.get_auth_plugin_conf_options(loading.get_plugin_loader("password"))
    for group, opts in options:
        if group == SERVICE_USER:
            opts.extend(password)
    return options
