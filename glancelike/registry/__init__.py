"""The registry SDK and the built-in registry backends."""
