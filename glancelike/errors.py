"""The error tree of glancelike. No HTTP here: ``api.errors`` holds the one table of statuses.

::

    GlancelikeError
    ├── InvalidInput                 the caller sent something that can't be meant
    │   ├── InvalidMarker            the marker names no visible image
    │   ├── ForbiddenUrl             a URL that this service must not open
    │   ├── InvalidSignature         img_signature isn't the data's
    │   ├── ChecksumMismatch         a piece of an upload isn't what its checksum says
    │   ├── FormatMismatch           the data isn't what disk_format claims
    │   └── UnsafeImage              the data refers to files outside itself, or worse
    ├── NotFound
    │   ├── ImageNotFound  MemberNotFound  TagNotFound  TaskNotFound
    │   ├── NamespaceNotFound  DefinitionNotFound  UploadNotFound
    │   └── NoImageData              the image has no data yet
    ├── Conflict
    │   ├── ImageExists  MemberExists  NamespaceExists  DefinitionExists
    │   ├── StaleImage  StaleTask  StaleNamespace  StaleUpload
    │   │                            somebody else changed it (compare-and-set)
    │   ├── InvalidTransition        the status doesn't allow this
    │   └── LeaseLost                another worker has taken the work over
    ├── Forbidden
    │   ├── ImageProtected           ``protected`` forbids the delete
    │   └── ReadOnlyProperty         a base property only the service sets
    ├── LimitExceeded                too many tags, members, properties …
    │   ├── ImageTooLarge            image_size_cap
    │   └── QuotaExceeded            the project's quota or unified limit
    ├── ConfigError                  names the option; stops the start
    │   └── PluginError              a plugin is missing, broken or not what it should be
    │       └── BrokenPlugin         it is installed, and its own code is what doesn't work
    ├── DataMismatch                 data isn't what the record says: size or digest differ
    ├── Unreachable                  retryable: a server doesn't answer, or not sensibly
    ├── RegistryError
    │   ├── RegistryUnavailable      retryable: the database is away
    │   │   └── OutcomeUnknown       it went away while it committed: done, or not
    │   ├── SchemaOutdated           run ``glancelike db upgrade``
    │   └── SchemaNewer              the database was upgraded by newer code
    └── StoreError                   ``store`` and ``key`` are stamped by the guard
        ├── BlobNotFound  BlobExists  BlobInUse  InvalidKey  InvalidRange  SizeMismatch
        ├── UnknownStore             no such store is mounted
        ├── Unsupported              the driver lacks the capability
        ├── StoreFull  StoreDenied
        ├── StoreUnavailable         retryable: the backend is away or too slow
        └── StoreFault               the driver broke its contract
"""

from __future__ import annotations


class GlancelikeError(Exception):
    """Base of every error this package raises on purpose."""

    code = "error"
    retryable = False


class InvalidInput(GlancelikeError):
    code = "invalid-input"


class InvalidMarker(InvalidInput):
    code = "invalid-marker"


class ForbiddenUrl(InvalidInput):
    code = "forbidden-url"


class InvalidSignature(InvalidInput):
    code = "invalid-signature"


class FormatMismatch(InvalidInput):
    code = "format-mismatch"


class UnsafeImage(InvalidInput):
    code = "unsafe-image"


class ChecksumMismatch(InvalidInput):
    code = "checksum-mismatch"


class NotFound(GlancelikeError):
    code = "not-found"


class ImageNotFound(NotFound):
    code = "image-not-found"


class MemberNotFound(NotFound):
    code = "member-not-found"


class TagNotFound(NotFound):
    code = "tag-not-found"


class TaskNotFound(NotFound):
    code = "task-not-found"


class NamespaceNotFound(NotFound):
    code = "namespace-not-found"


class DefinitionNotFound(NotFound):
    code = "definition-not-found"


class UploadNotFound(NotFound):
    code = "upload-not-found"


class NoImageData(NotFound):
    code = "no-image-data"


class Conflict(GlancelikeError):
    code = "conflict"


class ImageExists(Conflict):
    code = "image-exists"


class MemberExists(Conflict):
    code = "member-exists"


class NamespaceExists(Conflict):
    code = "namespace-exists"


class DefinitionExists(Conflict):
    code = "definition-exists"


class StaleImage(Conflict):
    code = "stale-image"
    retryable = True


class StaleTask(Conflict):
    code = "stale-task"
    retryable = True


class StaleNamespace(Conflict):
    code = "stale-namespace"
    retryable = True


class StaleUpload(Conflict):
    code = "stale-upload"
    retryable = True


class InvalidTransition(Conflict):
    code = "invalid-transition"


class LeaseLost(Conflict):
    code = "lease-lost"


class Forbidden(GlancelikeError):
    code = "forbidden"


class ImageProtected(Forbidden):
    code = "image-protected"


class ReadOnlyProperty(Forbidden):
    code = "read-only-property"


class LimitExceeded(GlancelikeError):
    code = "limit-exceeded"


class ImageTooLarge(LimitExceeded):
    code = "image-too-large"


class QuotaExceeded(LimitExceeded):
    code = "quota-exceeded"


class ConfigError(GlancelikeError):
    code = "config-error"


class PluginError(ConfigError):
    code = "plugin-error"


class BrokenPlugin(PluginError):
    code = "broken-plugin"


class DataMismatch(GlancelikeError):
    code = "data-mismatch"


class Unreachable(GlancelikeError):
    code = "unreachable"
    retryable = True


class RegistryError(GlancelikeError):
    code = "registry-error"


class RegistryUnavailable(RegistryError):
    code = "registry-unavailable"
    retryable = True


class OutcomeUnknown(RegistryUnavailable):
    code = "outcome-unknown"


class SchemaOutdated(RegistryError):
    code = "schema-outdated"


class SchemaNewer(RegistryError):
    code = "schema-newer"


class StoreError(GlancelikeError):
    """An error of a store; the guard fills in ``store`` and ``key``."""

    code = "store-error"

    def __init__(self, message: str = "", *, store: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.store = store
        self.key = key

    def __str__(self) -> str:
        said = super().__str__() or self.code
        where = f"store {self.store!r}" if self.store else ""
        if self.key is not None:
            # Where keys are URLs, a query may be a signature.
            where += f"{', ' if where else ''}key {self.key.partition('?')[0]!r}"
        return f"{said} ({where})" if where else said


class BlobNotFound(StoreError):
    code = "blob-not-found"


class BlobExists(StoreError):
    code = "blob-exists"


class BlobInUse(StoreError):
    code = "blob-in-use"


class InvalidKey(StoreError):
    code = "invalid-key"


class InvalidRange(StoreError):
    code = "invalid-range"


class SizeMismatch(StoreError):
    code = "size-mismatch"


class UnknownStore(StoreError):
    code = "unknown-store"


class Unsupported(StoreError):
    code = "unsupported"


class StoreFull(StoreError):
    code = "store-full"


class StoreDenied(StoreError):
    code = "store-denied"


class StoreUnavailable(StoreError):
    code = "store-unavailable"
    retryable = True


class StoreFault(StoreError):
    code = "store-fault"
