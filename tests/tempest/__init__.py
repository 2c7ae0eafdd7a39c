"""Tempest's image tests against this project's server, behind a real Keystone.

``python -m tests.tempest`` runs all of ``tempest.api.image`` and tells what
passed, failed and was skipped, and why. ``features`` says what is switched
on, ``known`` what may fail or be skipped.
"""
