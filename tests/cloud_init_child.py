"""Run one of cloud-init's data sources as ``cloud-init init`` does, and tell what it found.

It is cloud-init's code from the search to the end. What it would ask the
machine it runs on (firmware, network cards) it is told here, since that
machine is the test's and no guest.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from cloudinit import dmi, helpers, net, util  # type: ignore[import-not-found]

#: The guest's, with an ephemeral disk and a swap disk.
DISKS = ("/dev/vda", "/dev/vdb", "/dev/vdc")


def main(told: dict[str, Any]) -> None:
    name = told["source"]
    dmi.read_dmi_data = told["dmi"].get
    net.get_interfaces_by_mac = lambda *_, **__: {told["mac"]: "eth0"}
    exists = os.path.exists
    os.path.exists = lambda path: path in DISKS or exists(path)
    util._DNS_REDIRECT_IP = set()  # else it looks whether name servers here lie
    # What isn't there is asked for again after a second, five times.
    sleep, time.sleep = time.sleep, lambda seconds: sleep(min(seconds, 0.01))
    directory = Path(told["directory"])
    paths = helpers.Paths({"cloud_dir": str(directory / "cloud"), "run_dir": str(directory / "run")})
    (directory / "run").mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"cloudinit.sources.DataSource{name}")
    system = {"datasource_list": [name], "datasource": {name: told["settings"]}}
    source = getattr(module, f"DataSource{name}")(system, None, paths)
    if not source.get_data():
        sys.exit(f"{name} found nothing")
    found = {
        "instance_id": source.get_instance_id(),
        "hostname": source.get_hostname(),
        "keys": source.get_public_ssh_keys(),
        "user_data": source.get_userdata_raw().decode("latin-1"),
        "network": source.network_config,
        "launch_index": source.launch_index,
        "zone": source.availability_zone,
        "platform": source.platform_type,
        "subplatform": source.subplatform,
        **{name: source.device_name_to_device(name) for name in ("ephemeral0", "swap")},
    }
    found["hostname"] = getattr(found["hostname"], "hostname", found["hostname"])
    print(json.dumps(found))


main(json.loads(sys.argv[1]))
