"""What is written on a config drive: the newest of both forms."""

from __future__ import annotations

from novalite.guestdata import ec2, openstack
from novalite.guestdata.facts import GuestFacts


def drive_files(facts: GuestFacts) -> dict[str, bytes]:
    """Return the drive's files, by path inside it."""
    files = {f"openstack/latest/{name}": told for name, told in openstack.documents(facts).items()}
    files["ec2/latest/meta-data.json"] = ec2.drive_json(facts)
    if facts.user_data:
        files["ec2/latest/user-data"] = facts.user_data
    return files
