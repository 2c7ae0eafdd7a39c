"""The operator's command."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from novalite.cli import main
from novalite.db import Database
from novalite.model import Flavor, ImageInfo, Server, Usage


@pytest.fixture
def conf(tmp_path: Path) -> str:
    path = tmp_path / "novalite.conf"
    path.write_text(f"[DEFAULT]\nstate_path = {tmp_path}\ncompute_driver = fake\n")
    return str(path)


def test_cli_upgrade_and_check(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config-file", conf, "db", "check"]) == 1
    assert "run novalite db upgrade" in capsys.readouterr().err
    for _ in range(2):
        assert main(["--config-file", conf, "db", "upgrade"]) == 0
    assert main(["--config-file", conf, "db", "check"]) == 0
    assert "is what this version needs" in capsys.readouterr().out


def test_cli_purge(conf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config-file", conf, "db", "purge"]) == 1
    assert "run novalite db upgrade" in capsys.readouterr().err
    assert main(["--config-file", conf, "db", "upgrade"]) == 0
    database = Database(f"sqlite:///{tmp_path / 'novalite.sqlite'}")
    database.open()
    flavor, image = Flavor("f", "f", 1, 64, 0), ImageInfo("image")
    made = [Server(str(uuid.uuid4()), "vm", "p", "u", flavor, image) for _ in range(7)]
    for server in database.servers.insert(made, quota=Usage(-1, -1, -1), minimum=1)[:5]:
        database.servers.delete_unplaced(server)
    for told, said in (
        ((), "purged 0 servers"),
        (("--age-in-days", "0", "--max-rows", "2"), "purged 2 servers"),
        (("--age_in_days", "0"), "purged 3 servers"),
    ):
        assert main(["--config-file", conf, "db", "purge", *told]) == 0
        assert said in capsys.readouterr().out
    assert len(database.servers.find([server.id for server in made])) == 2
    database.close()
    for wrong, why in (
        (("--age-in-days", "-1"), "must not be negative"),
        (("--age-in-days", "999999999"), "no date lies"),
        (("--max-rows", "-2"), "--max-rows must be -1 or more"),
    ):
        assert main(["--config-file", conf, "db", "purge", *wrong]) == 1
        assert why in capsys.readouterr().err


def test_cli_a_wrong_configuration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config-file", str(tmp_path / "nope.conf"), "db", "check"]) == 2
    assert "nope.conf" in capsys.readouterr().err


def test_cli_has_no_hosts_fetch_images_that_would_not_hear_of_it(
    conf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config-file", conf, "image", "precache", "--host", "one", "image"]) == 2
    assert "transport_url stays within each process" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--config-file", conf, "image", "precache", "image"])
    assert "one of the arguments --host --aggregate is required" in capsys.readouterr().err


def test_cli_prints_samples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "sample"]) == 0
    assert "#compute_driver = libvirt" in capsys.readouterr().out
    assert main(["policy", "sample"]) == 0
    assert '#"os_compute_api:servers:create": "rule:project_member_or_admin"' in capsys.readouterr().out
