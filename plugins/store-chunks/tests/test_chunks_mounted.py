"""The chunk store among mounted stores: in the library, and as the configuration says."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

import glancelike
from glancelike.config import load
from glancelike.errors import ConfigError
from glancelike.model import Caller
from glancelike.stores.file import FileStore
from glancelike.testing.sources import payload

ADMIN = Caller.administrator("project")


def test_images_of_the_library_lie_in_chunks(tmp_path: Path) -> None:
    files = FileStore({"filesystem_store_datadir": str(tmp_path)})
    dedup = "chunks://files?method=fixed&avg_size=65536&min_size=4096"
    with glancelike.open_service("memory://", stores={"dedup": dedup, "files": files}) as images:
        data = payload(300_000)
        for name in ("one", "two"):
            values = {"name": name, "disk_format": "raw", "container_format": "bare"}
            image = images.create_image(ADMIN, values)
            images.upload(ADMIN, image.id, io.BytesIO(data))
            with images.open_image(ADMIN, image.id) as file:
                assert file.read() == data
        assert len(list(files.list("chunks/"))) == 5
        assert len(list(files.list("blobs/"))) == 2
        # The service's own gc knows nothing of these keys, and leaves them alone.
        assert list(images.gc(grace_seconds=0)) == []
        assert len(list(files.list("chunks/"))) == 5


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        ("chunks://", "another store's id"),
        ("chunks://files/path", "another store's id"),
        ("chunks://files?avg_size=much", "avg_size isn't a number"),
        ("chunks://files?colour=3", "unknown option chunk_store_colour"),
        ("chunks://files?method=guess", "it must be cdc or fixed"),
        ("chunks://files?avg_size=1000000000", "chunk_store_avg_size = 1000000000: it must be from"),
        ("chunks://files?min_size=1048576", "each must be larger"),
        ("chunks://nowhere", "no store is mounted as 'nowhere'"),
    ],
)
def test_a_uri_that_cannot_work_is_refused(tmp_path: Path, uri: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        glancelike.open_service("memory://", stores={"files": f"file://{tmp_path}", "dedup": uri})


def test_the_configuration_stacks_stores_and_the_check_tries_them(tmp_path: Path) -> None:
    written = tmp_path / "glancelike.conf"
    written.write_text(
        f"[DEFAULT]\nstate_path = {tmp_path}\nenabled_backends = dedup:chunks, files:file\n"
        f"[glance_store]\ndefault_backend = dedup\n[dedup]\nchunk_store_over = files\n"
    )
    config = load(["--config-file", str(written)])
    assert config.stores["dedup"].settings["chunk_store_over"] == "files"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "glancelike.cli",
            "--config-file",
            str(written),
            "store",
            "check",
            "--json",
            "dedup",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bytes used for blobs of" in done.stdout
