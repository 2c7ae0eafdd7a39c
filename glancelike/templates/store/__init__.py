"""A complete distribution of a store, which ``glancelike plugin new store`` copies.

The driver is real code: this project's own tests run the conformance kit on
it as it stands here.
"""
