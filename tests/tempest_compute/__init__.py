"""Tempest's compute tests against novalite, behind a real Keystone.

``python -m tests.tempest_compute`` runs all of ``tempest.api.compute`` that
is about what novalite has, with the fake virt driver on two hosts' worth of
nothing, and tells what passed, failed and was skipped, and why. ``known``
says what may fail or be skipped.
"""
