"""A glancelike store in OpenStack Object Storage (Swift)."""

from __future__ import annotations

from glancelike_store_swift.store import SwiftStore

__all__ = ["SwiftStore"]
