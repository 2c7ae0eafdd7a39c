"""The store SDK and the built-in store drivers."""
