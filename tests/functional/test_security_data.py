"""What image data has done to servers before: read their files, their memory, their disks.

Each test is named after its report. The images are made with qemu-img, as
an attacker would, and go in by every way there is.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from glancelike import qemuimg
from glancelike.errors import UnsafeImage
from glancelike.importing.conversion import ImageConversion
from glancelike.model import Caller
from glancelike.policy import Policy
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService, ImportRequest, Settings
from glancelike.stores.memory import MemoryStore
from glancelike.vfs import MountTable
from tests.server_fixtures import Server, start, write_config
from tests.waiting import wait_for
from tests.web_server import WebServer, redirecting, serving, web_server

SECRET = b"a secret of the host, which no image may show. "
ALICE = Caller("alice", "p-alice", frozenset({"member", "reader"}))
MIB = 1 << 20
CONVERTING = """
image_size_cap = 67108864
reap_interval = 0
[image_import_opts]
image_import_plugins = image_conversion
[import_filtering_opts]
allowed_ports =
allowed_networks = 127.0.0.1/32
"""


@dataclass
class Cloud:
    """A server that converts what is imported, and a web server to import from."""

    server: Server
    web: WebServer

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        client = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        headers = {"Accept": "application/json"} | ({"Content-Type": kind} if body is not None else {})
        try:
            sent = body if isinstance(body, bytes) or body is None else json.dumps(body)
            client.request(method, f"/v2{path}", sent, headers)
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def new(self, disk_format: str, container_format: str = "bare") -> str:
        body = {"disk_format": disk_format, "container_format": container_format}
        status, made = self.ask("POST", "/images", body)
        assert status == 201, made
        return str(json.loads(made)["id"])

    def show(self, image_id: str) -> dict[str, Any]:
        return dict(json.loads(self.ask("GET", f"/images/{image_id}")[1]))

    def task(self, image_id: str) -> dict[str, Any]:
        """Return the image's newest task, when it has ended."""

        def newest() -> dict[str, Any]:
            return dict(json.loads(self.ask("GET", f"/images/{image_id}/tasks")[1])["tasks"][0])

        wait_for("the task's end", lambda: newest()["status"] in ("success", "failure"))
        return newest()

    def send(self, way: str, image_id: str, data: bytes, **more: str) -> str:
        """Bring data in; return "" when it is active, else what was said against it."""
        if way == "upload":
            status, said = self.ask("PUT", f"/images/{image_id}/file", data)
            assert status in (204, 415), said
            return "" if status == 204 else said.decode()
        if way == "glance-direct":
            assert self.ask("PUT", f"/images/{image_id}/stage", data)[0] == 204
        else:
            self.web.answers["/disk"] = serving(data)
            more["uri"] = self.web.url("/disk")
        status, said = self.ask("POST", f"/images/{image_id}/import", {"method": {"name": way, **more}})
        assert status == 202, said
        ended = self.task(image_id)
        assert (ended["message"] != "") is (ended["status"] == "failure")
        return str(ended["message"])

    def data(self) -> list[Path]:
        """List what lies in the store and in the staging area."""
        state = self.server.config_file.parent
        found = (path for part in ("images", "staging") for path in (state / part).rglob("*"))
        return [path for path in found if path.is_file() and re.match(r"[0-9a-f]{8}-", path.name)]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with web_server() as web:
        server = start(write_config(tmp_path_factory.mktemp("converting"), extra=CONVERTING))
        yield Cloud(server, web)
        assert server.stop() == 0


@pytest.fixture
def host_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET * (2 * MIB // len(SECRET)))
    return path


def create(path: Path, *arguments: str, size: str = "1M") -> bytes:
    """Make an image with qemu-img; return its bytes."""
    subprocess.run(["qemu-img", "create", "-q", *arguments, str(path), size], check=True)
    return path.read_bytes()


def refused(cloud: Cloud, way: str, image_id: str, data: bytes, reason: str) -> None:
    """Expect that the data is refused, for this reason, and that nothing is left of it."""
    before = cloud.data()
    said = cloud.send(way, image_id, data)
    assert re.search(reason, said), said
    assert SECRET.decode()[:8] not in said
    image = cloud.show(image_id)
    assert (image["status"], image["size"], image["checksum"]) == ("queued", None, None)
    assert cloud.data() == before


every_way = pytest.mark.parametrize("way", ["upload", "glance-direct", "web-download"])
every_container = pytest.mark.parametrize("container", ["bare", "ovf", "docker"])


@every_way
def test_good_images_pass(cloud: Cloud, tmp_path: Path, way: str) -> None:
    """Else the refusals below would prove nothing."""
    for disk_format, data in (
        ("qcow2", create(tmp_path / "good.qcow2", "-f", "qcow2")),
        ("vmdk", create(tmp_path / "good.vmdk", "-f", "vmdk", "-o", "subformat=streamOptimized")),
        ("raw", bytes(MIB)),
    ):
        image_id = cloud.new(disk_format)
        assert cloud.send(way, image_id, data) == ""
        image = cloud.show(image_id)
        assert (image["status"], image["virtual_size"]) == ("active", MIB)
        assert image["disk_format"] == (disk_format if way == "upload" else "raw")


@every_way
@every_container
def test_cve_2015_5163_a_backing_file_is_never_followed(
    cloud: Cloud, tmp_path: Path, host_file: Path, way: str, container: str
) -> None:
    """An imported qcow2 was converted together with the host's file that it named."""
    evil = create(tmp_path / "evil", "-f", "qcow2", "-F", "raw", "-u", "-b", str(host_file))
    assert str(host_file).encode() in evil
    refused(cloud, way, cloud.new("qcow2", container), evil, "backing")


@every_way
@every_container
def test_cve_2024_32498_a_data_file_is_never_followed(
    cloud: Cloud, tmp_path: Path, host_file: Path, way: str, container: str
) -> None:
    """A qcow2 may say that its data lies in another file: any of the host's."""
    option = f"data_file={tmp_path / 'data'},data_file_raw=on"
    evil = create(tmp_path / "evil", "-f", "qcow2", "-o", option)
    evil = evil.replace(
        str(tmp_path / "data").encode(), str(host_file).encode()[: len(str(tmp_path / "data"))]
    )
    refused(cloud, way, cloud.new("qcow2", container), evil, "data_file|data file")


@every_way
@pytest.mark.parametrize("claim", ["raw", "ami", "iso", "vhd", "vmdk"])
def test_cve_2024_40767_data_is_what_it_claims_to_be(
    cloud: Cloud, tmp_path: Path, way: str, claim: str
) -> None:
    """A qcow2 that was called raw, or ami, was looked at by nobody, until something probed it."""
    disguised = create(tmp_path / "disguised", "-f", "qcow2")
    image_id = cloud.new(claim, claim if claim == "ami" else "bare")
    refused(cloud, way, image_id, disguised, f"qcow2|not (valid )?{claim}")


@every_way
@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse"])
def test_cve_2022_47951_a_vmdk_names_no_other_file(
    cloud: Cloud, tmp_path: Path, host_file: Path, way: str, subformat: str
) -> None:
    """A VMDK's descriptor is text, and names the files that the data is in."""
    evil = create(tmp_path / "evil.vmdk", "-f", "vmdk", "-o", f"subformat={subformat}")
    extent = re.search(rb'"(evil-[^"]+)"', evil)
    assert extent
    evil = evil.replace(extent[1], str(host_file).encode())
    refused(cloud, way, cloud.new("vmdk"), evil, "vmdk")
    refused(cloud, way, cloud.new("raw"), evil, "vmdk")


@every_way
@pytest.mark.parametrize("extent", [b'RW 2048 FLAT "/etc/passwd" 0', b'RW 2048 VMFS "/etc/passwd"'])
def test_cve_2022_47951_not_in_the_descriptor_of_a_sparse_one_either(
    cloud: Cloud, tmp_path: Path, way: str, extent: bytes
) -> None:
    """The descriptor inside a sparse VMDK may say another thing than its header."""
    good = create(tmp_path / "evil.vmdk", "-f", "vmdk", "-o", "subformat=monolithicSparse")
    line = re.search(rb'RW \d+ SPARSE "[^"]+"', good)
    assert line
    evil = bytearray(good)
    evil[line.start() : line.start() + len(extent) + 1] = extent + b"\n"
    refused(cloud, way, cloud.new("vmdk"), bytes(evil), "vmdk")


@pytest.mark.parametrize("way", ["glance-direct", "web-download"])
def test_cve_2013_2096_a_huge_disk_in_a_small_image_fills_nothing(
    cloud: Cloud, tmp_path: Path, way: str
) -> None:
    """A few kilobytes were converted to as many gigabytes as their header said."""
    bomb = create(tmp_path / "bomb", "-f", "qcow2", size="900G")
    assert len(bomb) < MIB
    refused(cloud, way, cloud.new("qcow2"), bomb, "image_size_cap")


def test_cve_2024_47211_the_digest_is_of_what_was_fetched(cloud: Cloud, tmp_path: Path) -> None:
    """An image that had to be converted was never compared with its checksum."""
    data = create(tmp_path / "disk", "-f", "qcow2")
    image_id = cloud.new("qcow2")
    for digest in (sha256(data + b"x").hexdigest(), sha256(bytes(MIB)).hexdigest()):
        said = cloud.send("web-download", image_id, data, digest=f"sha256:{digest}")
        assert "sha256" in said
        assert cloud.show(image_id)["status"] == "queued"
    assert cloud.send("web-download", image_id, data, digest=f"sha256:{sha256(data).hexdigest()}") == ""
    image = cloud.show(image_id)
    # What is told afterwards is the digest of what is served.
    assert image["disk_format"] == "raw"
    assert image["os_hash_value"] == sha256(bytes(MIB)).hexdigest()


@pytest.mark.parametrize(
    "form", ["file://{}", "FILE://{}", "file://localhost{}", "file:{}", "{}", "local:{}"]
)
def test_cve_2025_44021_nothing_is_imported_from_a_host_path(
    cloud: Cloud, host_file: Path, form: str
) -> None:
    """A deployment took file:// paths, and wrote whichever file they named to the disk."""
    url = form.format(host_file)
    image_id = cloud.new("raw")
    body = {"method": {"name": "web-download", "uri": url}}
    assert cloud.ask("POST", f"/images/{image_id}/import", body)[0] == 400
    given = {"import_from": url, "import_from_format": "raw", "image_properties": {}}
    assert cloud.ask("POST", "/tasks", {"type": "import", "input": given})[0] == 400
    cloud.web.answers["/onward"] = redirecting(url)
    body["method"]["uri"] = cloud.web.url("/onward")
    assert cloud.ask("POST", f"/images/{image_id}/import", body)[0] == 202
    assert cloud.task(image_id)["status"] == "failure"
    assert cloud.show(image_id)["status"] == "queued"


@pytest.mark.parametrize("port", ["{}", "{}/latest/meta-data?x=1#y"])
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.2",
        "2130706434",
        "0x7f000002",
        "0177.0.0.2",
        "127.2",
        "[::ffff:127.0.0.2]",
        "[::1]",
        "0.0.0.0",
    ],
)
def test_cve_2026_34881_ossn_0105_every_import_obeys_the_rules_for_urls(
    cloud: Cloud, host: str, port: str
) -> None:
    """Redirects weren't judged, nor other ways to write an address, nor the URLs of legacy tasks."""
    url = f"http://{host}:{port.format(cloud.web.port)}"
    cloud.web.requests.clear()
    image_id = cloud.new("raw")
    body = {"method": {"name": "web-download", "uri": url}}
    assert cloud.ask("POST", f"/images/{image_id}/import", body)[0] == 400
    given = {"import_from": url, "import_from_format": "raw", "image_properties": {}}
    count = len(json.loads(cloud.ask("GET", "/images?limit=1000")[1])["images"])
    assert cloud.ask("POST", "/tasks", {"type": "import", "input": given})[0] == 400
    assert len(json.loads(cloud.ask("GET", "/images?limit=1000")[1])["images"]) == count
    assert cloud.web.requests == []
    # And so does every step of the way, whoever began it.
    cloud.web.answers["/onward"] = redirecting(url)
    body["method"]["uri"] = cloud.web.url("/onward")
    assert cloud.ask("POST", f"/images/{image_id}/import", body)[0] == 202
    assert cloud.task(image_id)["status"] == "failure"
    given["import_from"] = cloud.web.url("/onward")
    status, made = cloud.ask("POST", "/tasks", {"type": "import", "input": given})
    assert status == 201
    assert cloud.task(json.loads(made)["image_id"])["status"] == "failure"
    assert {each.path for each in cloud.web.requests} == {"/onward"}


# qemu-img itself


class Spied(subprocess.Popen[bytes]):
    """Runs programs as ever, and keeps what they were called with."""

    called: list[list[str]]

    def __init__(self, args: Any, *rest: Any, **more: Any) -> None:
        if args[0] == "prlimit":
            self.called.append(list(args))
        super().__init__(args, *rest, **more)


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    Spied.called = []
    monkeypatch.setattr(qemuimg.subprocess, "Popen", Spied)
    return Spied.called


@pytest.fixture
def convert() -> Iterator[Callable[[bytes, str], str]]:
    """Return a function that imports data with conversion and returns the task's message."""
    stores = MountTable({"memory": MemoryStore({})}, staging=MemoryStore({}))
    plugins = [ImageConversion({"output_format": "qcow2"})]
    service = ImageService(MemoryRegistry({}), stores, Policy(), Settings(), import_plugins=plugins)

    def run(data: bytes, disk_format: str) -> str:
        image = service.create_image(ALICE, {"disk_format": disk_format, "container_format": "bare"})
        service.stage(ALICE, image.id, io.BytesIO(data), size=len(data))
        service.import_image(ALICE, image.id, ImportRequest("glance-direct"))
        assert service.run_tasks() == 1
        (task,) = service.image_tasks(ALICE, image.id)
        return task.message

    with service:
        yield run


FORMATS = {"vmdk": "vmdk", "vdi": "vdi", "vhd": "vpc", "vhdx": "vhdx", "qcow2": "qcow2", "raw": "raw"}


@pytest.mark.parametrize("disk_format", sorted(FORMATS))
def test_cve_2026_24708_qemu_img_is_always_told_the_format(
    spied: list[list[str]],
    convert: Callable[[bytes, str], str],
    tmp_path: Path,
    disk_format: str,
) -> None:
    """qemu-img that isn't told finds out from the data, and the data is the attacker's."""
    name = FORMATS[disk_format]
    option = ["-o", "subformat=dynamic"] if name == "vpc" else []
    assert convert(create(tmp_path / "disk", "-f", name, *option), disk_format) == ""
    assert bool(spied) is (disk_format != "qcow2")
    for argv in spied:
        command = argv[argv.index("qemu-img") + 1 :]
        assert command[command.index("-f") + 1] == name
        assert command[0] in ("info", "convert")
        assert "-O" in command or command[0] == "info"


def test_cve_2026_24708_a_call_without_the_format_is_refused(tmp_path: Path) -> None:
    create(tmp_path / "disk", "-f", "qcow2")
    with pytest.raises(ValueError, match="format"):
        qemuimg.run(["info", str(tmp_path / "disk")])


@pytest.mark.parametrize("claim", sorted(set(FORMATS) - {"qcow2"}))
def test_cve_2024_44082_qemu_img_sees_only_what_was_looked_at(
    spied: list[list[str]],
    convert: Callable[[bytes, str], str],
    tmp_path: Path,
    claim: str,
) -> None:
    """Images went to qemu-img before anybody had looked what they were."""
    assert re.search(f"qcow2|not (valid )?{claim}", convert(create(tmp_path / "disk", "-f", "qcow2"), claim))
    assert spied == []


def test_cve_2015_5162_qemu_img_runs_under_limits(
    spied: list[list[str]], convert: Callable[[bytes, str], str], tmp_path: Path
) -> None:
    """A crafted image made qemu-img take all memory, or compute for ever."""
    assert convert(create(tmp_path / "disk", "-f", "vdi"), "vdi") == ""
    assert [argv[argv.index("qemu-img") + 1] for argv in spied] == ["info", "convert"]
    for argv in spied:
        limits = dict(re.findall(r"--(\w+)=(\d+)", " ".join(argv[: argv.index("qemu-img")])))
        assert argv[0] == "prlimit"
        assert 0 < int(limits["cpu"]) <= 3600
        assert 0 < int(limits["as"]) <= 2 << 30
        assert limits["core"] == "0"
        assert "convert" not in argv or 0 < int(limits["fsize"]) < 100 * MIB


def test_cve_2015_5162_a_huge_table_is_the_end_of_qemu_img_alone(tmp_path: Path) -> None:
    """The first-level table of this image, which QEMU takes to memory, has sixteen mebibytes."""
    evil, good = tmp_path / "evil", tmp_path / "good"
    create(evil, "-f", "qcow2", "-o", "cluster_size=512", size="64G")
    create(good, "-f", "qcow2")
    tight = qemuimg.Limits(cpu_seconds=8, address_space=64 * MIB)
    qemuimg.run(["info", "-f", "qcow2", str(good)], tight)
    with pytest.raises(UnsafeImage, match="qemu-img info"):
        qemuimg.run(["info", "-f", "qcow2", str(evil)], tight)
    assert qemuimg.info(evil, "qcow2")["virtual-size"] == 64 << 30
