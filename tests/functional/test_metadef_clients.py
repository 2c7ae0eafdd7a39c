"""OpenStack's own clients and the operator's commands on metadata definitions."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import glanceclient
import glanceclient.exc
import openstack.exceptions
import pytest

from tests import warm
from tests.functional.test_clients import Client, connect, openstack_client
from tests.server_fixtures import BIN, Server, start, write_config

pytestmark = [
    pytest.mark.clients,
    # openstacksdk warns of what it does itself.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]
PROPERTIES = {"cores": {"title": "Cores", "type": "integer", "minimum": 1}}


def glance(server: Server) -> Client:
    return Client([str(BIN / "glance"), "--os-auth-token", "none", "--os-image-url", server.url], {})


@pytest.fixture
def library(api_server: Server) -> Any:
    """python-glanceclient as a library, which checks every answer by our schemas."""
    return glanceclient.Client(endpoint=f"{api_server.url}/v2", token="none")


def manage(server: Server, *words: str, status: int = 0) -> str:
    """Run ``glancelike metadefs``."""
    command = [str(BIN / "glancelike"), "--config-file", str(server.config_file), "metadefs", *words]
    done = warm.run(command)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_glanceclient_commands(api_server: Server, tmp_path: Path) -> None:
    client = glance(api_server)
    schema = tmp_path / "namespace.json"
    schema.write_text(
        json.dumps(
            {
                "namespace": "Glance::Imported",
                "visibility": "public",
                "properties": PROPERTIES,
                "objects": [{"name": "CPU", "properties": PROPERTIES}],
                "tags": [{"name": "one"}],
                "resource_type_associations": [{"name": "OS::Glance::Image", "prefix": "hw_"}],
            }
        )
    )
    made = client("md-namespace-import", "--file", str(schema))
    assert "Glance::Imported" in made
    shown = client("md-namespace-show", "Glance::Imported", "--resource-type", "OS::Glance::Image")
    assert "hw_cores" in shown
    listed = client("md-namespace-list", "--resource-types", "OS::Glance::Image", "--visibility", "public")
    assert re.search(r"\| Glance::Imported +\|", listed)
    integer = json.dumps({"type": "integer", "minimum": 1})
    words = (
        "Glance::Imported",
        "--name",
        "threads",
        "--title",
        "Threads",
        "--type",
        "integer",
        "--schema",
        integer,
    )
    client("md-property-create", *words)
    assert "threads" in client("md-property-list", "Glance::Imported")
    client("md-tag-create-multiple", "Glance::Imported", "--names", "one,two")
    tags = client("md-tag-list", "Glance::Imported")
    assert all(tag in tags for tag in ("one", "two"))
    said = client.refused("md-tag-create", "Glance::Imported", "--name", "one")
    assert "409" in said
    client("md-namespace-update", "Glance::Imported", "--protected", "True")
    assert "is protected" in client.refused("md-namespace-delete", "Glance::Imported")
    client("md-namespace-update", "Glance::Imported", "--protected", "False")
    client("md-namespace-delete", "Glance::Imported")
    assert "404" in client.refused("md-namespace-show", "Glance::Imported")


def test_glanceclient_library(library: Any) -> None:
    namespaces, tags, objects = library.metadefs_namespace, library.metadefs_tag, library.metadefs_object
    made = namespaces.create(
        namespace="Library", description="d", properties=PROPERTIES, tags=[{"name": "t"}]
    )
    assert made.properties == PROPERTIES
    assert [tag["name"] for tag in namespaces.get("Library").tags] == ["t"]
    renamed = namespaces.update("Library", namespace="Library2", visibility="public")
    assert renamed.properties == PROPERTIES
    made = objects.create("Library2", name="o", properties=PROPERTIES)
    assert made.required == []
    assert objects.update("Library2", "o", description="changed", name="p").name == "p"
    assert [each.name for each in objects.list("Library2")] == ["p"]
    properties = library.metadefs_property
    made = properties.create("Library2", name="x", title="X", type="string", default="a")
    assert properties.update("Library2", "x", title="Y").title == "Y"
    assert sorted(each.name for each in properties.list("Library2")) == ["cores", "x"]
    types = library.metadefs_resource_type
    types.associate("Library2", name="OS::Nova::Flavor", prefix="hw:")
    assert [each.prefix for each in types.get("Library2")] == ["hw:"]
    assert "OS::Nova::Flavor" in [each.name for each in types.list()]
    assert namespaces.get("Library2", resource_type="OS::Nova::Flavor").properties.keys() == {
        "hw:cores",
        "hw:x",
    }
    types.deassociate("Library2", "OS::Nova::Flavor")
    assert tags.create("Library2", "u").name == "u"
    assert tags.update("Library2", "u", name="v").name == "v"
    assert [each.name for each in tags.create_multiple("Library2", tags=["a", "b"])] == ["a", "b"]
    assert sorted(each.name for each in tags.list("Library2")) == ["a", "b"]
    for noun in (tags, objects, properties):
        noun.delete_all("Library2")
        assert list(noun.list("Library2")) == []
    namespaces.delete("Library2")
    with pytest.raises(glanceclient.exc.HTTPNotFound):
        namespaces.get("Library2")


def test_glanceclient_pages(library: Any) -> None:
    for number in range(7):
        library.metadefs_namespace.create(namespace=f"page{number}")
    found = library.metadefs_namespace.list(page_size=2, sort_key="namespace", sort_dir="asc")
    names = [each.namespace for each in found if each.namespace.startswith("page")]
    assert names == [f"page{number}" for number in range(7)]
    for name in names:
        library.metadefs_namespace.delete(name)


def test_openstacksdk(api_server: Server) -> None:
    image = connect(api_server).image
    made = image.create_metadef_namespace(namespace="Sdk", display_name="SDK", is_protected=False)
    assert made.visibility == "private"
    image.update_metadef_namespace(made, description="changed", visibility="public")
    assert image.get_metadef_namespace("Sdk").description == "changed"
    assert "Sdk" in [each.namespace for each in image.metadef_namespaces(visibility="public", limit=1)]
    image.create_metadef_resource_type_association("Sdk", name="OS::Sdk", prefix="s_")
    assert [each.name for each in image.metadef_resource_type_associations("Sdk")] == ["OS::Sdk"]
    assert "OS::Sdk" in [each.name for each in image.metadef_resource_types()]
    image.create_metadef_property("Sdk", name="p", title="P", type="string")
    image.update_metadef_property("p", "Sdk", name="p", title="Q", type="string")
    assert image.get_metadef_property("p", "Sdk").title == "Q"
    assert [each.name for each in image.metadef_properties("Sdk")] == ["p"]
    image.create_metadef_object("Sdk", name="o", properties=PROPERTIES)
    image.create_metadef_object("Sdk", name="o2")
    assert image.get_metadef_object("o", "Sdk").properties == PROPERTIES
    assert [each.name for each in image.metadef_objects("Sdk")] == ["o", "o2"]
    image.update_metadef_object("o", "Sdk", name="o", description="changed")
    image.add_tag_to_metadef_namespace("Sdk", "t")
    image.remove_tags_from_metadef_namespace("Sdk")
    image.delete_metadef_object("o", "Sdk")
    image.delete_all_metadef_objects("Sdk")
    image.delete_metadef_property("p", "Sdk")
    image.delete_metadef_resource_type_association("OS::Sdk", "Sdk")
    for what in ("namespace", "namespaces", "object", "objects", "properties", "property", "resource_type"):
        assert getattr(image, f"get_metadef_{what}_schema")().properties
    image.delete_metadef_namespace("Sdk")
    with pytest.raises(openstack.exceptions.NotFoundException):
        image.get_metadef_namespace("Sdk")


def test_openstackclient(api_server: Server) -> None:
    client = openstack_client(api_server)
    words = ("image", "metadef")
    made = json.loads(
        client(*words, "namespace", "create", "Osc", "--description", "d", "--public", "-f", "json")
    )
    assert made["namespace"] == "Osc"
    client(*words, "namespace", "set", "Osc", "--display-name", "shown", "--tag", "a")
    client(
        *words,
        "property",
        "create",
        "Osc",
        "--name",
        "p",
        "--title",
        "P",
        "--type",
        "string",
        "--schema",
        "{}",
    )
    client(*words, "object", "create", "--namespace", "Osc", "o")
    client(*words, "resource", "type", "association", "create", "Osc", "OS::Osc")
    shown = json.loads(client(*words, "namespace", "show", "Osc", "-f", "json"))
    assert shown["display_name"] == "shown"
    client(*words, "namespace", "delete", "Osc")


def test_what_an_operator_loads(run_server: Any, tmp_path: Path) -> None:
    server = run_server()
    added = manage(server, "load").splitlines()
    assert len(added) >= 4
    assert all(line.endswith(": added") for line in added)
    assert all(line.endswith(": is there already") for line in manage(server, "load").splitlines())
    client = server.connect()
    client.request("GET", "/v2/metadefs/namespaces/OS::Compute::LibvirtImage")
    found = json.loads(client.getresponse().read())
    assert "hw_disk_bus" in found["properties"]
    assert found["protected"] is True
    client.request("GET", "/v2/metadefs/resource_types")
    assert json.loads(client.getresponse().read())["resource_types"][0]["name"] == "OS::Cinder::Volume"
    manage(server, "export", str(tmp_path / "out"))
    assert len(list((tmp_path / "out").iterdir())) == len(added)
    manage(server, "unload", str(tmp_path / "out"))
    assert manage(server, "export", str(tmp_path / "empty")) == ""
    assert "added" in manage(server, "load", str(tmp_path / "out"))
    manage(server, "load", "--prefer-new", "--overwrite", status=2)
    manage(server, "unload", status=2)
    assert "nowhere" in manage(server, "load", str(tmp_path / "nowhere"), status=1)
    manage(server, "unload", "--all")


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server of two processes."""
    server = start(write_config(tmp_path_factory.mktemp("workers"), workers=2))
    yield server
    assert server.stop() == 0


def test_edits_of_several_processes_all_land(two_workers: Server) -> None:
    def call(method: str, path: str, body: object = None) -> int:
        client = two_workers.connect()
        headers = {"Content-Type": "application/json"} if body else {}
        client.request(method, f"/v2/metadefs/namespaces{path}", json.dumps(body) if body else None, headers)
        answer = client.getresponse()
        answer.read()
        client.close()
        return answer.status

    assert call("POST", "", {"namespace": "busy"}) == 201
    start_together = threading.Barrier(8)

    def edit(number: int) -> list[int]:
        start_together.wait()
        return [
            call("POST", "/busy/properties", {"name": f"p{number}", "title": "P", "type": "string"}),
            call("POST", f"/busy/tags/t{number}"),
            call("POST", "/busy/tags/the-same"),
        ]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(edit, range(8)))
    assert [each[:2] for each in answers] == [[201, 201]] * 8
    assert sorted(each[2] for each in answers) == [201] + [409] * 7
    client = two_workers.connect()
    client.request("GET", "/v2/metadefs/namespaces/busy")
    found = json.loads(client.getresponse().read())
    assert found["properties"].keys() == {f"p{number}" for number in range(8)}
    assert {tag["name"] for tag in found["tags"]} == {f"t{number}" for number in range(8)} | {"the-same"}
