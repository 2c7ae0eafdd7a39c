"""The scheduler: decides which host a server runs on."""
