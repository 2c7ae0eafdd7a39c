"""The APIs: what callers say over HTTP, turned into calls of the service."""
