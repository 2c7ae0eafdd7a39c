"""The operator's command."""

from __future__ import annotations

from pathlib import Path

import pytest

from novalite.cli import main


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
