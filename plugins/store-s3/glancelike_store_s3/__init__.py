"""A store for glancelike in a bucket of S3."""

from glancelike_store_s3.store import S3Store as S3Store
