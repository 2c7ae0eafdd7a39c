"""Frozen values that pass between the layers of novalite.

Times are aware datetimes in UTC with microseconds. Memory is MiB and disk
is GiB (as in the Compute API reference,
https://docs.openstack.org/api-ref/compute/); image sizes are bytes.
"""

from novalite.model.actions import Action, ActionEvent, ActionQuery, Order
from novalite.model.basics import GIB, MIB, Page, utcnow
from novalite.model.callers import Caller
from novalite.model.catalog import SSH, X509, Flavor, KeyPair
from novalite.model.hosts import ComputeHost, Zone
from novalite.model.images import BOOT_FILES_OF, LARGEST_BOOT_FILE, ImageInfo, check_boot_file
from novalite.model.queries import SERVER_SORT_FIELDS, ServerQuery, SortKey
from novalite.model.servers import ANYWHERE, Address, Fault, NewServer, Place, Rebuild, Server, host_name
from novalite.model.states import (
    FORCE_COMPLETE,
    LIVE,
    OF_SCHEDULER,
    RESIZED_FROM,
    SHELVED_IMAGE,
    STATUS_OF_STATE,
    STATUS_OF_TASK,
    Status,
    TaskState,
    VmState,
)
from novalite.model.usage import Limits, Usage

__all__ = [
    "ANYWHERE",
    "BOOT_FILES_OF",
    "FORCE_COMPLETE",
    "GIB",
    "LARGEST_BOOT_FILE",
    "LIVE",
    "MIB",
    "OF_SCHEDULER",
    "RESIZED_FROM",
    "SERVER_SORT_FIELDS",
    "SHELVED_IMAGE",
    "SSH",
    "STATUS_OF_STATE",
    "STATUS_OF_TASK",
    "X509",
    "Action",
    "ActionEvent",
    "ActionQuery",
    "Address",
    "Caller",
    "ComputeHost",
    "Fault",
    "Flavor",
    "ImageInfo",
    "KeyPair",
    "Limits",
    "NewServer",
    "Order",
    "Page",
    "Place",
    "Rebuild",
    "Server",
    "ServerQuery",
    "SortKey",
    "Status",
    "TaskState",
    "Usage",
    "VmState",
    "Zone",
    "check_boot_file",
    "host_name",
    "utcnow",
]
