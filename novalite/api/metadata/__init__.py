"""The metadata service: what guests ask at http://169.254.169.254.

``identity`` finds out which guest it is, ``tokens`` are those of EC2's
version 2, ``documents`` is the one resource. What it tells
``novalite.guestdata`` makes.
"""
