"""The error tree of novalite. No HTTP here: ``api`` holds the one table of statuses.

::

    NovaliteError
    ├── InvalidInput            the caller sent something that can't be meant
    │   ├── FlavorTooSmall      the flavor can't hold the image
    │   └── ImageUnusable       the image's data isn't what it claims, or unsafe
    ├── NotFound
    │   ├── ServerNotFound  FlavorNotFound  KeyPairNotFound  ImageMissing
    │   └── InstanceNotFound    the hypervisor doesn't know the instance
    ├── Conflict
    │   ├── KeyPairExists  FlavorExists  AggregateExists
    │   ├── InvalidState        the action isn't allowed in this state
    │   ├── ServerLocked        its owner or an administrator has locked it
    │   └── StaleRecord         somebody else changed the record (compare-and-set)
    ├── Forbidden
    ├── QuotaExceeded
    ├── NoValidHost             carries each host's reason
    ├── MigrationTimedOut       a guest on its way has had its time, and stays
    ├── Unsupported             the driver lacks the capability
    ├── ConfigError             names the option; stops the start
    ├── DatabaseFault           the database refuses a statement, or isn't one
    └── Unavailable             retryable: hypervisor, database, image service or queue
        ├── HypervisorDown  ImageServiceDown  QueueDown
        ├── DatabaseDown
        │   └── OutcomeUnknown  it went away while it committed: done, or not
        └── DatabaseSchema      the schema isn't what this code needs (not retryable)
"""

from __future__ import annotations

from collections.abc import Mapping


class NovaliteError(Exception):
    """Base of every error this package raises on purpose."""

    code = "error"
    retryable = False


class InvalidInput(NovaliteError):
    code = "invalid-input"


class FlavorTooSmall(InvalidInput):
    code = "flavor-too-small"


class ImageUnusable(InvalidInput):
    code = "image-unusable"


class NotFound(NovaliteError):
    code = "not-found"


class ServerNotFound(NotFound):
    code = "server-not-found"


class FlavorNotFound(NotFound):
    code = "flavor-not-found"


class KeyPairNotFound(NotFound):
    code = "keypair-not-found"


class ImageMissing(NotFound):
    code = "image-missing"


class InstanceNotFound(NotFound):
    code = "instance-not-found"


class Conflict(NovaliteError):
    code = "conflict"


class KeyPairExists(Conflict):
    code = "keypair-exists"


class FlavorExists(Conflict):
    code = "flavor-exists"


class AggregateExists(Conflict):
    code = "aggregate-exists"


class InvalidState(Conflict):
    code = "invalid-state"


class ServerLocked(Conflict):
    code = "server-locked"


class StaleRecord(Conflict):
    code = "stale-record"
    retryable = True


class Forbidden(NovaliteError):
    code = "forbidden"


class QuotaExceeded(NovaliteError):
    code = "quota-exceeded"


class NoValidHost(NovaliteError):
    """No host can take the instance; ``reasons`` maps host name to why."""

    code = "no-valid-host"

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        told = "; ".join(f"{host}: {why}" for host, why in sorted(self.reasons.items()))
        super().__init__(f"no valid host: {told or 'no host is up'}")


class MigrationTimedOut(NovaliteError):
    code = "migration-timed-out"


class Unsupported(NovaliteError):
    code = "unsupported"


class ConfigError(NovaliteError):
    code = "config-error"


class DatabaseFault(NovaliteError):
    code = "database-fault"


class Unavailable(NovaliteError):
    code = "unavailable"
    retryable = True


class HypervisorDown(Unavailable):
    code = "hypervisor-down"


class ImageServiceDown(Unavailable):
    code = "image-service-down"


class QueueDown(Unavailable):
    code = "queue-down"


class DatabaseDown(Unavailable):
    code = "database-down"


class OutcomeUnknown(DatabaseDown):
    code = "outcome-unknown"


class DatabaseSchema(Unavailable):
    code = "database-schema"
    retryable = False
