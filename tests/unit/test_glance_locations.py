"""What a location of Glance's is here, and what is told of one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from glancelike.errors import InvalidInput
from glancelike.model import Location
from glancelike.service.glance_locations import place, shown
from glancelike.stores.file import FileStore
from glancelike.stores.http import HttpStore
from glancelike.stores.memory import MemoryStore
from glancelike.vfs import MountTable

ID = "4c7d2e4a-6e0c-4c79-a1ee-5cf3f2fd5d8c"


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[MountTable]:
    several = [str(tmp_path / name) for name in ("a b", "c")]
    for path in (*several, tmp_path / "one"):
        Path(path).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "one")
    web = {"http_store_allowed_hosts": ["images.example.org"]}
    table = MountTable(
        {
            "memory": MemoryStore({}),
            "one": FileStore({"filesystem_store_datadir": str(tmp_path / "one")}),
            "several": FileStore({"filesystem_store_datadirs": several}),
            "web": HttpStore(web),
        }
    )
    table.open()
    yield table
    table.close()


@pytest.mark.parametrize(
    ("path", "store"),
    [("one", "one"), ("a b", "several"), ("c", "several"), ("link", "one"), ("one/../c", "several")],
)
def test_files(mounts: MountTable, tmp_path: Path, path: str, store: str) -> None:
    found = place(mounts, f"file://{tmp_path}/{path}/{ID}", {"store": "gone", "id": 1, "x": "y"}, None)
    assert found == Location(store, ID, {"id": "1", "x": "y"})


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "file://{tmp}/one/sub/x",
        "file://{tmp}/one/../x",
        "file://{tmp}/one/.tmp/x",
        "file://{tmp}",
        "http://{tmp}/one/x",
        "cinder://x",
        "",
    ],
)
def test_what_lies_elsewhere(mounts: MountTable, tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidInput):
        place(mounts, url.format(tmp=tmp_path), {"store": "one"}, None)


@pytest.mark.parametrize("name", ["..", ".lock", "a b", "x" * 300])
def test_names_that_cannot_be_keys(mounts: MountTable, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        place(mounts, f"file://{tmp_path}/one/{name}", {}, None)


def test_the_web(mounts: MountTable) -> None:
    url = "https://images.example.org/a%20b?x=y"
    assert place(mounts, url, {}, None) == Location("web", url)
    with pytest.raises(InvalidInput, match="store web: "):
        place(mounts, "https://192.168.0.1/image", {}, None)


def test_size_and_presence(mounts: MountTable, tmp_path: Path) -> None:
    mounts["one"].store.write(ID, io.BytesIO(b"four"), size=4)
    url = f"file://{tmp_path}/one/{ID}"
    assert place(mounts, url, {}, 4) == Location("one", ID)
    with pytest.raises(InvalidInput, match="store one has 4 bytes instead of 5"):
        place(mounts, url, {}, 5)
    with pytest.raises(InvalidInput, match="store one: no such blob"):
        place(mounts, f"{url}0", {}, 4)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("swift+https://tenant%3Auser:s3cret@host/v2.0/images/abc", "swift+https://.../abc"),
        ("swift+https://user:s3/cret@host/images/abc", "swift+https://.../abc"),
        ("https://host/image?sig=s3cret", "https://.../image"),
        ("s3://key:s3cret@host", "s3://.../host"),
    ],
)
def test_no_secret_is_told(url: str, told: str) -> None:
    assert shown(url) == told
