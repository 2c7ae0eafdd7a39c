"""The image cache: what it refuses, what it keeps, what it does when killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from novalite.errors import FlavorTooSmall, ImageServiceDown, ImageUnusable, Unavailable
from novalite.virt import qemuimg
from novalite.virt.disks import ImageCache, key_of

pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.skipif(shutil.which("qemu-img") is None, reason="QEMU isn't installed"),
]

SIZE = 4 << 20


def make(path: Path, fmt: str, *options: str, size: int = SIZE) -> Path:
    """Make an image with qemu-img; ``fmt`` is qemu's name.

    For LUKS it measures the CPU, and fails on a busy machine ("Unable to get
    accurate CPU usage"): then once more.
    """
    command = ["qemu-img", "create", "-q", "-f", fmt, *options, str(path), str(size)]
    for _attempt in range(20):
        made = subprocess.run(command, capture_output=True, text=True)
        if "accurate CPU usage" not in made.stderr:
            break
        time.sleep(0.2)
    assert made.returncode == 0, made.stderr
    return path


def copying(source: Path) -> Callable[[Path], None]:
    def fetch(target: Path) -> None:
        shutil.copyfile(source, target)

    return fetch


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache")


def files(cache: ImageCache) -> list[str]:
    return sorted(path.suffix for path in cache.directory.iterdir())


# -- formats ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "made", "options", "used"),
    [
        ("raw", "raw", (), "raw"),
        ("ami", "raw", (), "raw"),
        ("qcow2", "qcow2", (), "qcow2"),
        ("vmdk", "vmdk", ("-o", "subformat=monolithicSparse"), "qcow2"),
        ("vhd", "vpc", ("-o", "force_size"), "qcow2"),
        ("vhdx", "vhdx", (), "qcow2"),
        ("vdi", "vdi", (), "qcow2"),
    ],
)
def test_formats_that_boot(
    cache: ImageCache, tmp_path: Path, claimed: str, made: str, options: tuple[str, ...], used: str
) -> None:
    source = make(tmp_path / "image", made, *options)
    base = cache.ensure("i", claimed, copying(source))
    assert (base.format, base.virtual_size) == (used, SIZE)
    assert base.path.stat().st_mode & 0o777 == 0o444
    assert qemuimg.info(base.path, used)["virtual-size"] == SIZE
    assert files(cache) == [".base", ".json", ".lock"]


def test_a_stream_optimized_vmdk_boots(cache: ImageCache, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(os.urandom(1 << 20))
    vmdk = tmp_path / "vmdk"
    options = ["-O", "vmdk", "-o", "subformat=streamOptimized"]
    subprocess.run(["qemu-img", "convert", "-f", "raw", *options, str(raw), str(vmdk)], check=True)
    base = cache.ensure("i", "vmdk", copying(vmdk))
    back = tmp_path / "back"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(base.path), str(back)], check=True)
    assert back.read_bytes() == raw.read_bytes()


def test_a_raw_disk_with_a_partition_table_boots(cache: ImageCache, tmp_path: Path) -> None:
    disk = bytearray(SIZE)
    disk[510:512] = b"\x55\xaa"
    (tmp_path / "image").write_bytes(disk)
    assert cache.ensure("i", "raw", copying(tmp_path / "image")).format == "raw"


@pytest.mark.skipif(shutil.which("genisoimage") is None, reason="genisoimage isn't installed")
def test_an_iso_is_a_raw_disk(cache: ImageCache, tmp_path: Path) -> None:
    iso = tmp_path / "image.iso"
    (tmp_path / "content").mkdir()
    subprocess.run(["genisoimage", "-quiet", "-o", str(iso), str(tmp_path / "content")], check=True)
    assert cache.ensure("i", "iso", copying(iso)).format == "raw"
    with pytest.raises(ImageUnusable, match="claims to be raw but is iso"):
        cache.ensure("i", "raw", copying(iso))


# -- what is refused ----------------------------------------------------------------


def refused(cache: ImageCache, claimed: str, source: Path, why: str) -> None:
    with pytest.raises(ImageUnusable, match=why) as caught:
        cache.ensure("bad-one", claimed, copying(source))
    assert "bad-one" in str(caught.value)
    assert files(cache) == [".lock"]


def test_a_backing_file_is_refused(cache: ImageCache, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:x:0:0" + bytes(1 << 20))
    refused(cache, "qcow2", make(tmp_path / "image", "qcow2", "-F", "raw", "-b", str(secret)), "backing file")


def test_an_external_data_file_is_refused(cache: ImageCache, tmp_path: Path) -> None:
    option = f"data_file={tmp_path / 'data'},data_file_raw=on"
    refused(cache, "qcow2", make(tmp_path / "image", "qcow2", "-o", option), "data_file")


def test_a_flat_vmdk_is_refused(cache: ImageCache, tmp_path: Path) -> None:
    refused(
        cache, "vmdk", make(tmp_path / "image.vmdk", "vmdk", "-o", "subformat=monolithicFlat"), "subformat"
    )


def test_unknown_qcow2_features_are_refused(cache: ImageCache, tmp_path: Path) -> None:
    image = make(tmp_path / "image", "qcow2")
    with image.open("r+b") as header:
        header.seek(72)  # incompatible features, big endian
        header.write(b"\x80")
    refused(cache, "qcow2", image, "features")


@pytest.mark.slow
def test_an_encrypted_disk_is_refused(cache: ImageCache, tmp_path: Path) -> None:
    easily = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
    secret = ["--object", "secret,id=s,data=abc", "-o", easily]
    refused(cache, "qcow2", make(tmp_path / "image", "qcow2", *secret), "encrypted")


@pytest.mark.parametrize(
    ("claimed", "made"),
    [("raw", "qcow2"), ("qcow2", "raw"), ("raw", "vmdk"), ("vhd", "qcow2"), ("qcow2", "qed"), ("iso", "raw")],
)
def test_a_claim_that_isnt_true_is_refused(
    cache: ImageCache, tmp_path: Path, claimed: str, made: str
) -> None:
    refused(cache, claimed, make(tmp_path / "image", made), f"claims to be {claimed} but is {made}")


@pytest.mark.parametrize("claimed", ["", "qed", "luks", "tar", "../raw"])
def test_formats_that_dont_boot_are_refused(cache: ImageCache, tmp_path: Path, claimed: str) -> None:
    with pytest.raises(ImageUnusable, match="disk_format"):
        cache.ensure("i", claimed, copying(make(tmp_path / "image", "raw")))


@pytest.mark.parametrize("kept", [0, 100])
def test_a_truncated_qcow2_is_refused(cache: ImageCache, tmp_path: Path, kept: int) -> None:
    image = make(tmp_path / "image", "qcow2")
    os.truncate(image, kept)
    with pytest.raises(ImageUnusable):
        cache.ensure("i", "qcow2", copying(image))


def test_a_disk_too_large_is_refused_before_it_is_converted(cache: ImageCache, tmp_path: Path) -> None:
    image = make(tmp_path / "image", "vdi", size=1 << 40)
    started = time.monotonic()
    with pytest.raises(FlavorTooSmall, match="1099511627776"):
        cache.ensure("i", "vdi", copying(image), max_virtual_size=1 << 30)
    assert time.monotonic() - started < 60
    assert files(cache) == [".lock"]


def test_a_disk_too_large_for_one_flavor_is_kept_for_another(cache: ImageCache, tmp_path: Path) -> None:
    image = make(tmp_path / "image", "qcow2")
    for _ in range(2):
        with pytest.raises(FlavorTooSmall, match=str(SIZE)):
            cache.ensure("i", "qcow2", copying(image), max_virtual_size=SIZE - 1)
        image.unlink(missing_ok=True)  # what was fetched once isn't fetched again
    assert cache.ensure("i", "qcow2", copying(image), max_virtual_size=SIZE).virtual_size == SIZE


# -- digests --------------------------------------------------------------------------


def test_another_digest_is_another_base(cache: ImageCache, tmp_path: Path) -> None:
    image = make(tmp_path / "image", "qcow2")
    bases = [
        cache.ensure("i", "qcow2", copying(image), digest=("sha512", digest)).path
        for digest in ("aa", "bb", "aa")
    ]
    assert bases[0] == bases[2] != bases[1]


def test_a_fetch_that_finds_other_bytes_leaves_nothing(cache: ImageCache) -> None:
    def fetch(target: Path) -> None:
        target.write_bytes(b"not the image")
        raise ImageUnusable("its sha256 digest isn't that")

    with pytest.raises(ImageUnusable, match="digest"):
        cache.ensure("i", "qcow2", fetch, digest=("sha256", "00"))
    assert [path.suffix for path in cache.directory.iterdir()] == [".lock"]


# -- once, and never half ---------------------------------------------------------------


def test_it_is_fetched_once_by_many_threads(cache: ImageCache, tmp_path: Path) -> None:
    image = make(tmp_path / "image", "qcow2")
    fetches = []

    def fetch(target: Path) -> None:
        fetches.append(threading.get_ident())
        time.sleep(0.2)
        shutil.copyfile(image, target)

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _turn: cache.ensure("i", "qcow2", fetch), range(6)))
    assert len(fetches) == 1
    assert len(set(found)) == 1


FETCHER = """
import shutil, sys, time
from pathlib import Path
from novalite.virt.disks import ImageCache
directory, source, log, seconds = sys.argv[1:]
def fetch(target):
    with open(log, "a") as told:
        told.write("fetch\\n")
    target.write_bytes(b"half")
    print("fetching", flush=True)
    time.sleep(float(seconds))
    shutil.copyfile(source, target)
print(ImageCache(Path(directory)).ensure("i", "qcow2", fetch).path, flush=True)
"""


def start_fetcher(cache: ImageCache, image: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", FETCHER, str(cache.directory), str(image), str(log), str(seconds)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_it_is_fetched_once_by_many_processes(cache: ImageCache, tmp_path: Path) -> None:
    image, log = make(tmp_path / "image", "qcow2"), tmp_path / "log"
    children = [start_fetcher(cache, image, log, 0.5) for _ in range(3)]
    for child in children:
        with child:
            child.communicate(timeout=60)
        assert child.returncode == 0
    assert log.read_text() == "fetch\n"


def test_a_killed_download_is_made_anew(cache: ImageCache, tmp_path: Path) -> None:
    image, log = make(tmp_path / "image", "qcow2"), tmp_path / "log"
    with start_fetcher(cache, image, log, 100) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "fetching\n"
        child.kill()
    assert ".part" in files(cache)
    base = cache.ensure("i", "qcow2", copying(image))
    assert base.path.read_bytes() == image.read_bytes()
    assert files(cache) == [".base", ".json", ".lock"]


def test_a_download_that_fails_leaves_nothing(cache: ImageCache, tmp_path: Path) -> None:
    def fetch(target: Path) -> None:
        target.write_bytes(b"half")
        raise ImageServiceDown("gone")

    with pytest.raises(ImageServiceDown):
        cache.ensure("i", "raw", fetch)
    assert files(cache) == [".lock"]


def test_a_full_disk_is_unavailable_and_leaves_nothing(cache: ImageCache) -> None:
    def fetch(target: Path) -> None:
        target.write_bytes(b"half")
        with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
            full.write(b"x")

    with pytest.raises(Unavailable, match="No space left"):
        cache.ensure("i", "raw", fetch)
    assert files(cache) == [".lock"]


@pytest.mark.parametrize("damage", ["grown", "cut", "touched", "no record", "torn record", "no data"])
def test_a_damaged_entry_is_made_anew(cache: ImageCache, tmp_path: Path, damage: str) -> None:
    image = make(tmp_path / "image", "qcow2")
    base = cache.ensure("i", "qcow2", copying(image))
    record = base.path.with_suffix(".json")
    base.path.chmod(0o644)
    match damage:
        case "grown":
            base.path.write_bytes(base.path.read_bytes() + b"x")
        case "cut":
            os.truncate(base.path, 1000)
        case "touched":
            base.path.write_bytes(b"x" * image.stat().st_size)
        case "no record":
            record.unlink()
        case "torn record":
            record.write_text(record.read_text()[:10])
        case "no data":
            base.path.unlink()
    again = cache.ensure("i", "qcow2", copying(image))
    assert again == base
    assert again.path.read_bytes() == image.read_bytes()


def test_what_is_cached_isnt_fetched_again(cache: ImageCache, tmp_path: Path) -> None:
    base = cache.ensure("i", "qcow2", copying(make(tmp_path / "image", "qcow2")))

    def fetch(_target: Path) -> None:
        pytest.fail("it is cached")

    assert cache.ensure("i", "qcow2", fetch) == base
    assert ImageCache(cache.directory).ensure("i", "qcow2", fetch) == base


# -- pruning -------------------------------------------------------------------------------


def test_prune_keeps_what_is_in_use(cache: ImageCache, tmp_path: Path) -> None:
    image = make(tmp_path / "image", "qcow2")
    named, linked, unused = (cache.ensure(name, "qcow2", copying(image)) for name in "abc")
    (tmp_path / "instance-base").hardlink_to(linked.path)
    assert cache.prune({named.path}) == [unused.path]
    assert named.path.exists()
    assert linked.path.exists()
    assert not unused.path.exists()
    assert cache.ensure("c", "qcow2", copying(image)) == unused


def test_it_tells_which_images_it_has(cache: ImageCache, tmp_path: Path) -> None:
    assert cache.images() == []
    source = tmp_path / "source"
    source.write_bytes(b"\0" * 512)
    names = ["9bb1cb4f-46d9-4f26-b8b5-4ea7ff3d0ab4", "of an.odd_name", "kernel", "pruned", "fetched now"]
    for name in names[:-1]:
        fmt = "aki" if name == "kernel" else "raw"
        base = cache.ensure(name, fmt, copying(source))
        if name == "pruned":
            base.path.unlink()
    (cache.directory / f"{key_of('fetched now', 'raw', None)}.lazy").touch()
    key = key_of("a store's own", "raw", None)
    (cache.directory / f"{key}.base").write_bytes(b"\0" * 512)
    cache.record(key, "a store's own", "raw", 512, local=True)
    assert cache.images() == names[1::-1], "the latest first"
    first = cache.directory / f"{key_of(names[0], 'raw', None)}.base"
    (tmp_path / "link").hardlink_to(first)
    assert cache.images() == names[:2], "that was its latest use"
    record = first.with_suffix(".json")
    told = json.loads(record.read_bytes())
    record.write_text(json.dumps({name: told[name] for name in told if name not in ("image", "local")}))
    assert cache.images() == names[:2], "as an earlier version has recorded it"


def test_prune_leaves_alone_what_is_being_fetched(cache: ImageCache, tmp_path: Path) -> None:
    image, log = make(tmp_path / "image", "qcow2"), tmp_path / "log"
    with start_fetcher(cache, image, log, 0.5) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "fetching\n"
        assert cache.prune(set()) == []
        assert Path(child.stdout.readline().strip()).exists()
        child.wait(60)


def test_prune_and_ensure_race_without_harm(cache: ImageCache, tmp_path: Path) -> None:
    image = make(tmp_path / "image", "qcow2")
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(cache.ensure, "i", "qcow2", copying(image)) for _ in range(30)]
        while not all(job.done() for job in jobs):
            cache.prune(set())
        for job in jobs:
            assert job.result().virtual_size == SIZE
    assert cache.ensure("i", "qcow2", copying(image)).path.exists()


# -- qemu-img ------------------------------------------------------------------------------


def test_qemu_img_is_ended_at_its_limits(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(8 << 20))
    argv = ["convert", "-f", "raw", "-O", "raw", str(source), str(tmp_path / "target")]
    with pytest.raises(ImageUnusable, match="convert"):
        qemuimg.run(argv, qemuimg.Limits(file_bytes=1 << 20))
    with pytest.raises(ImageUnusable, match="convert"):
        qemuimg.run(argv, qemuimg.Limits(address_space=16 << 20))
    qemuimg.run(argv, qemuimg.Limits(file_bytes=16 << 20))
