"""novalite's configuration: what is read, and what stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from novalite import config_options
from novalite.config import list_opts, load
from novalite.errors import ConfigError
from novalite.virt.fake import FakeDriver

FAKE = {("DEFAULT", "compute_driver"): "fake"}


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "novalite.conf"
    path.write_text(text)
    return str(path)


def test_config_defaults_hang_together(tmp_path: Path) -> None:
    settings = load([], config_files=[], overrides={**FAKE, ("DEFAULT", "state_path"): str(tmp_path)})
    assert settings.instances_path == tmp_path / "instances"
    assert settings.image_cache.directory == tmp_path / "instances" / "_base"
    assert settings.database.connection == f"sqlite:///{tmp_path}/novalite.sqlite"
    assert settings.virt_driver is FakeDriver
    assert settings.scheduler.driver.name == "simple"
    assert [hook.name for hook, _ in settings.scheduler.hooks] == [
        "capacity",
        "image_properties",
        "server_group",
        "image_locality",
    ]


def test_config_reads_a_file_in_novas_names(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [DEFAULT]
        host = rack1
        compute_driver = fake
        cpu_allocation_ratio = 2.5
        osapi_compute_listen_port = 18774
        [database]
        connection = sqlite:////srv/x.db
        [scheduler]
        driver = zone
        hooks = capacity
        [fake]
        fake_vcpus = 3
        [glance]
        endpoint_override = http://glance:9292/
        [quota]
        instances = -1
        """.replace("\n        ", "\n"),
    )
    settings = load(["--config-file", path])
    assert (settings.host, settings.api.listen_port) == ("rack1", 18774)
    assert settings.virt_settings["fake_vcpus"] == 3
    assert settings.glance.endpoint == "http://glance:9292"
    assert settings.quota.instances == -1
    ((hook, values),) = settings.scheduler.hooks
    assert hook.name == "capacity"
    assert values["cpu_allocation_ratio"] == 2.5
    assert settings.scheduler.driver.name == "zone"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[DEFAULT]\ncompute_drivr = fake\n", r"novalite\.conf: unknown option compute_drivr in \[DEFAULT\]"),
        ("[scheduler]\nhook = capacity\n", r"unknown option hook in \[scheduler\]"),
        ("[schedulr]\nhooks = capacity\n", r"nothing reads the section \[schedulr\]"),
        ("[fake]\nvcpus = 1\n", r"unknown option vcpus in \[fake\]"),
        ("[quota]\ninstances = many\n", r"\[quota\] instances: .*many"),
        ("[quota]\ninstances = -2\n", r"\[quota\] instances: .*equal to -1"),
        ("[fake]\nfake_vcpus = 0\n", r"\[fake\] fake_vcpus: "),
        ("[network]\nkind = token-ring\n", r"\[network\] kind: .*token-ring"),
        (
            "[scheduler]\nhooks = capacity, telepathy\n",
            r"'telepathy' isn't installed \(installed: .*capacity, image_locality, image_properties, serv",
        ),
        ("[scheduler]\ndriver = oracle\n", r"'oracle' isn't installed \(installed: chance, simple, zone\)"),
        ("compute_driver = fake\n", r"novalite\.conf: .*[Ss]ection"),
    ],
)
def test_config_mistakes_stop_the_start_and_are_named(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=told):
        load(["--config-file", path], overrides=FAKE)


def test_config_checks_files_of_a_directory_as_well(tmp_path: Path) -> None:
    write(tmp_path, "[DEFAULT]\ntypo = 1\n")
    with pytest.raises(ConfigError, match=r"novalite\.conf: unknown option typo in \[DEFAULT\]"):
        load(["--config-dir", str(tmp_path)], config_files=[], overrides=FAKE)


def test_config_refuses_an_override_nobody_knows() -> None:
    with pytest.raises(ConfigError, match=r"unknown option colour in \[DEFAULT\]"):
        load([], config_files=[], overrides={**FAKE, ("DEFAULT", "colour"): "red"})


def test_config_leaves_messaging_options_to_the_messaging_library(tmp_path: Path) -> None:
    path = write(tmp_path, "[oslo_messaging_rabbit]\nrabbit_quorum_queue = true\n")
    assert load(["--config-file", path], overrides=FAKE).host


def test_config_shows_no_secret() -> None:
    overrides = {
        **FAKE,
        ("DEFAULT", "transport_url"): "rabbit://u:hidden1@h/",
        ("database", "connection"): "postgresql://u:hidden2@h/d",
        ("glance", "password"): "hidden3",
    }
    assert "hidden" not in repr(load([], config_files=[], overrides=overrides))


def test_config_every_option_has_help_and_a_section() -> None:
    found = dict(list_opts())
    assert set(config_options.GROUPS) < set(found)
    common = {opt.name for opt in found["DEFAULT"]}
    assert {opt.name for opt in found["fake"]} == {opt.name for opt in FakeDriver.options} - common
    assert "cpu_allocation_ratio" in common
    for group, opts in found.items():
        names = [opt.dest for opt in opts]
        assert len(names) == len(set(names)), group
        assert all(opt.help for opt in opts), group


def test_config_finds_the_policy_file_beside_it(tmp_path: Path) -> None:
    text = "[DEFAULT]\ncompute_driver = fake\n[oslo_policy]\npolicy_file = "
    for told, where, optional in (
        ("policy.yaml", tmp_path / "policy.yaml", True),
        ("rules.yaml", tmp_path / "rules.yaml", False),
        ("/srv/rules.yaml", Path("/srv/rules.yaml"), False),
        ("", None, False),
    ):
        settings = load(["--config-file", write(tmp_path, text + told)]).policy
        assert (settings.file, settings.optional) == (where, optional)
    assert load([], config_files=[], overrides=FAKE).policy.file is None
    other = tmp_path / "more"
    other.mkdir()
    (other / "novalite.conf").write_text("[DEFAULT]\nhost = other\n")
    (tmp_path / "policy.yaml").touch()
    files = [
        "--config-file",
        write(tmp_path, text + "policy.yaml"),
        "--config-file",
        f"{other}/novalite.conf",
    ]
    assert load(files).policy.file == tmp_path / "policy.yaml", "where it is, not where it would be"
