"""A store that keeps each blob as an image of Ceph's RADOS Block Device (RBD)."""

from glancelike_store_rbd.store import RbdStore

__all__ = ["RbdStore"]
