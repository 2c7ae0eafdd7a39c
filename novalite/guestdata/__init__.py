"""What a guest learns about itself: one place makes it, drive and service tell it.

``facts`` gathers it from a server's record; ``openstack`` and ``ec2`` write it
in the two forms that guests read. A config drive is what ``drive_files``
returns, as it was when the guest was made; the metadata service answers each
request from the record as it is then.
"""
