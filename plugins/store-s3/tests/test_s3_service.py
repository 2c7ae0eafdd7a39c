"""The README's two ways: a store named by a URI, in a program and in a server's configuration."""

from __future__ import annotations

import io
from pathlib import Path

import boto3
import pytest

import glancelike
from glancelike import config
from glancelike.testing.sources import payload

SIZE = (9 << 20) + 1


def test_images_in_a_bucket(moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROMTHEENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    boto3.client("s3", endpoint_url=moto, region_name="us-east-1").create_bucket(Bucket="service")
    uri = f"s3://service/some/prefix?endpoint={moto}&addressing=path"
    me = glancelike.Caller.administrator("my-project")
    data = payload(SIZE)
    with glancelike.open_service(f"sqlite:///{tmp_path}/images.db", stores={"objects": uri}) as images:
        record = {"name": "disk", "disk_format": "raw", "container_format": "bare"}
        image = images.create_image(me, record)
        image = images.upload(me, image.id, io.BytesIO(data))
        assert (image.status, image.size) == ("active", SIZE)
        with images.open_image(me, image.id) as file:
            file.seek(-5, io.SEEK_END)
            assert file.read() == data[-5:]
        assert [location.store for location in image.locations] == ["objects"]


def test_configuration(moto: str, tmp_path: Path) -> None:
    file = tmp_path / "glancelike.conf"
    file.write_text(f"""[DEFAULT]
enabled_backends = objects:s3
[glance_store]
default_backend = objects
[objects]
s3_store_host = {moto}
s3_store_bucket = configured
s3_store_create_bucket_on_put = true
s3_store_bucket_url_format = path
s3_store_access_key = KEY
s3_store_secret_key = secret
s3_store_read_timeout = 20
""")
    loaded = config.load(["--config-file", str(file)])
    assert loaded.stores["objects"].name == "s3"
    assert loaded.stores["objects"].settings["s3_store_read_timeout"] == 20
    assert loaded.stores["objects"].settings["s3_store_large_object_chunk_size"] == 8
