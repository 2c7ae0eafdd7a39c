"""What servers are ordered with: sizes and keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from novalite.model.basics import utcnow


@dataclass(frozen=True, slots=True)
class Flavor:
    """A size of server. ``disk_gb`` 0 means as large as the image.

    ``ephemeral_gb`` is GiB and ``swap_mb`` MiB: the sizes of further disks, 0 for none.
    ``rxtx_factor`` is told to who asks; nothing goes by it.
    """

    id: str
    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    swap_mb: int = 0
    ephemeral_gb: int = 0
    rxtx_factor: float = 1.0
    public: bool = True
    description: str | None = None
    extra_specs: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime = field(default_factory=utcnow)

    @property
    def disks_gb(self) -> int:
        """Tell what all disks take of a host: swap counts up to the next GiB, as in Nova."""
        return self.disk_gb + self.ephemeral_gb - (-self.swap_mb // 1024)


# Kinds of key pairs.
SSH = "ssh"
X509 = "x509"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public SSH key of a user, or an X.509 certificate as PEM.

    ``fingerprint`` is MD5, of a certificate SHA-1, with colons.
    """

    user: str
    name: str
    public_key: str
    fingerprint: str
    type: str = SSH
    created_at: datetime = field(default_factory=utcnow)
