"""A store on another store: blobs as chunks, each chunk stored once.

::

    store       the driver: every method of the contract
    uploads     resumable uploads
    cutting     where one chunk ends and the next begins
    manifest    the list of a blob's chunks: its format, a draft, reading by range
    chunks      the names of chunks, storing and verified loading
    sessions    what a writer announces, so that no collector takes what it relies on
    collector   removes what no manifest lists; its docstring says why that is safe
    lower       the store below
"""

from __future__ import annotations

from glancelike_store_chunks.store import ChunkStore

__all__ = ["ChunkStore"]
