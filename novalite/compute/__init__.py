"""The compute worker: makes what the database says true on this host."""
