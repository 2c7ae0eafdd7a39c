"""Every operation that the Compute API answers: its table of contents.

A new noun is a module with a Resource, and its lines here.
"""

from __future__ import annotations

from glancelike.web.routes import Route
from novalite.api.compute.aggregates import Aggregates
from novalite.api.compute.availability_zones import AvailabilityZones
from novalite.api.compute.extensions import Extensions
from novalite.api.compute.flavor_specs import FlavorAccess, FlavorSpecs
from novalite.api.compute.flavors import Flavors
from novalite.api.compute.health import Health
from novalite.api.compute.hypervisors import Hypervisors
from novalite.api.compute.identity import IdentityVersion
from novalite.api.compute.instance_actions import InstanceActions
from novalite.api.compute.keypairs import KeyPairs
from novalite.api.compute.limits import Limits
from novalite.api.compute.migrations import Migrations
from novalite.api.compute.quotas import QuotaClassSets, QuotaSets
from novalite.api.compute.remote_consoles import RemoteConsoles
from novalite.api.compute.server_actions import ServerActions
from novalite.api.compute.server_diagnostics import ServerDiagnostics
from novalite.api.compute.server_groups import ServerGroups
from novalite.api.compute.server_ips import ServerIps
from novalite.api.compute.server_metadata import ServerMetadata
from novalite.api.compute.server_migrations import ServerMigrations
from novalite.api.compute.server_tags import ServerTags
from novalite.api.compute.server_topology import ServerTopology
from novalite.api.compute.servers import Servers
from novalite.api.compute.services import Services
from novalite.api.compute.tenant_usage import TenantUsage
from novalite.api.compute.versions import Versions

V = "/v2.1"
SERVER = f"{V}/servers/{{server_id}}"
FLAVOR = f"{V}/flavors/{{flavor_id}}"
AGGREGATE = f"{V}/os-aggregates/{{aggregate_id}}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/", Versions, "list", public=True),
    Route("GET", V, Versions, "show", public=True),
    Route("GET", "/v3", IdentityVersion, "show", public=True),
    Route("GET", "/healthcheck", Health, "show", public=True),
    Route("GET", f"{V}/servers", Servers, "list"),
    Route("POST", f"{V}/servers", Servers, "create"),
    Route("GET", f"{V}/servers/detail", Servers, "detail"),
    Route("GET", SERVER, Servers, "show"),
    Route("PUT", SERVER, Servers, "update"),
    Route("DELETE", SERVER, Servers, "delete"),
    Route("POST", f"{SERVER}/action", ServerActions, "run"),
    Route("GET", f"{SERVER}/metadata", ServerMetadata, "list"),
    Route("POST", f"{SERVER}/metadata", ServerMetadata, "add"),
    Route("PUT", f"{SERVER}/metadata", ServerMetadata, "replace"),
    Route("GET", f"{SERVER}/metadata/{{key}}", ServerMetadata, "show"),
    Route("PUT", f"{SERVER}/metadata/{{key}}", ServerMetadata, "set"),
    Route("DELETE", f"{SERVER}/metadata/{{key}}", ServerMetadata, "delete"),
    Route("GET", f"{SERVER}/os-instance-actions", InstanceActions, "list"),
    Route("GET", f"{SERVER}/os-instance-actions/{{request_id}}", InstanceActions, "show"),
    Route("GET", f"{SERVER}/ips", ServerIps, "list"),
    Route("GET", f"{SERVER}/ips/{{network}}", ServerIps, "show"),
    Route("GET", f"{SERVER}/migrations", ServerMigrations, "list"),
    Route("GET", f"{SERVER}/migrations/{{migration_id}}", ServerMigrations, "show"),
    Route("DELETE", f"{SERVER}/migrations/{{migration_id}}", ServerMigrations, "abort"),
    Route("POST", f"{SERVER}/migrations/{{migration_id}}/action", ServerMigrations, "act"),
    Route("POST", f"{SERVER}/remote-consoles", RemoteConsoles, "create"),
    Route("GET", f"{SERVER}/diagnostics", ServerDiagnostics, "show"),
    Route("GET", f"{SERVER}/topology", ServerTopology, "show"),
    Route("GET", f"{SERVER}/tags", ServerTags, "list"),
    Route("PUT", f"{SERVER}/tags", ServerTags, "replace"),
    Route("DELETE", f"{SERVER}/tags", ServerTags, "clear"),
    Route("GET", f"{SERVER}/tags/{{tag}}", ServerTags, "show"),
    Route("PUT", f"{SERVER}/tags/{{tag}}", ServerTags, "add"),
    Route("DELETE", f"{SERVER}/tags/{{tag}}", ServerTags, "delete"),
    Route("GET", f"{V}/flavors", Flavors, "list"),
    Route("POST", f"{V}/flavors", Flavors, "create"),
    Route("GET", f"{V}/flavors/detail", Flavors, "detail"),
    Route("GET", FLAVOR, Flavors, "show"),
    Route("PUT", FLAVOR, Flavors, "update"),
    Route("DELETE", FLAVOR, Flavors, "delete"),
    Route("GET", f"{FLAVOR}/os-extra_specs", FlavorSpecs, "list"),
    Route("POST", f"{FLAVOR}/os-extra_specs", FlavorSpecs, "add"),
    Route("GET", f"{FLAVOR}/os-extra_specs/{{key}}", FlavorSpecs, "show"),
    Route("PUT", f"{FLAVOR}/os-extra_specs/{{key}}", FlavorSpecs, "set"),
    Route("DELETE", f"{FLAVOR}/os-extra_specs/{{key}}", FlavorSpecs, "delete"),
    Route("GET", f"{FLAVOR}/os-flavor-access", FlavorAccess, "list"),
    Route("POST", f"{FLAVOR}/action", FlavorAccess, "act"),
    Route("GET", f"{V}/os-keypairs", KeyPairs, "list"),
    Route("POST", f"{V}/os-keypairs", KeyPairs, "create"),
    Route("GET", f"{V}/os-keypairs/{{name}}", KeyPairs, "show"),
    Route("DELETE", f"{V}/os-keypairs/{{name}}", KeyPairs, "delete"),
    Route("GET", f"{V}/os-availability-zone", AvailabilityZones, "list"),
    Route("GET", f"{V}/os-availability-zone/detail", AvailabilityZones, "detail"),
    Route("GET", f"{V}/os-hypervisors", Hypervisors, "list"),
    Route("GET", f"{V}/os-hypervisors/detail", Hypervisors, "detail"),
    Route("GET", f"{V}/os-hypervisors/statistics", Hypervisors, "statistics"),
    Route("GET", f"{V}/os-hypervisors/{{hypervisor_id}}", Hypervisors, "show"),
    Route("GET", f"{V}/os-hypervisors/{{hypervisor_id}}/uptime", Hypervisors, "uptime"),
    Route("GET", f"{V}/os-hypervisors/{{hypervisor_id}}/search", Hypervisors, "search"),
    Route("GET", f"{V}/os-hypervisors/{{hypervisor_id}}/servers", Hypervisors, "servers"),
    Route("GET", f"{V}/os-services", Services, "list"),
    Route("PUT", f"{V}/os-services/enable", Services, "enable"),
    Route("PUT", f"{V}/os-services/disable", Services, "disable"),
    Route("PUT", f"{V}/os-services/disable-log-reason", Services, "disable_with_reason"),
    Route("PUT", f"{V}/os-services/force-down", Services, "force_down"),
    Route("PUT", f"{V}/os-services/{{service_id}}", Services, "update"),
    Route("DELETE", f"{V}/os-services/{{service_id}}", Services, "delete"),
    Route("GET", f"{V}/os-aggregates", Aggregates, "list"),
    Route("POST", f"{V}/os-aggregates", Aggregates, "create"),
    Route("GET", AGGREGATE, Aggregates, "show"),
    Route("PUT", AGGREGATE, Aggregates, "update"),
    Route("DELETE", AGGREGATE, Aggregates, "delete"),
    Route("POST", f"{AGGREGATE}/action", Aggregates, "act"),
    Route("POST", f"{AGGREGATE}/images", Aggregates, "precache"),
    Route("GET", f"{V}/os-server-groups", ServerGroups, "list"),
    Route("POST", f"{V}/os-server-groups", ServerGroups, "create"),
    Route("GET", f"{V}/os-server-groups/{{group_id}}", ServerGroups, "show"),
    Route("DELETE", f"{V}/os-server-groups/{{group_id}}", ServerGroups, "delete"),
    Route("GET", f"{V}/extensions", Extensions, "list"),
    Route("GET", f"{V}/extensions/{{alias}}", Extensions, "show"),
    Route("GET", f"{V}/os-migrations", Migrations, "list"),
    Route("GET", f"{V}/os-simple-tenant-usage", TenantUsage, "list"),
    Route("GET", f"{V}/os-simple-tenant-usage/{{project}}", TenantUsage, "show"),
    Route("GET", f"{V}/limits", Limits, "show"),
    Route("GET", f"{V}/os-quota-sets/{{project}}", QuotaSets, "show"),
    Route("PUT", f"{V}/os-quota-sets/{{project}}", QuotaSets, "update"),
    Route("DELETE", f"{V}/os-quota-sets/{{project}}", QuotaSets, "delete"),
    Route("GET", f"{V}/os-quota-sets/{{project}}/detail", QuotaSets, "detail"),
    Route("GET", f"{V}/os-quota-sets/{{project}}/defaults", QuotaSets, "defaults"),
    Route("GET", f"{V}/os-quota-class-sets/{{name}}", QuotaClassSets, "show"),
    Route("PUT", f"{V}/os-quota-class-sets/{{name}}", QuotaClassSets, "update"),
)
