import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from approx.custom_modules import import_custom_module
from search.errors import DatasetMissingError
from search.images.downloads import download, unexpected_folders
from search.images.releases import Release
from tests.support import published
from tests.support.published import Contents

CONTENTS: Contents = {"train": b"images for training" * 100, "labels": b"0123", "test": b"images for testing"}
GZIPPED = Release(
    folder="set/raw",
    hashes=published.hashed(CONTENTS),
    parse=lambda contents: pytest.fail("nothing is parsed here"),
    ending=".gz",
    mirrors=("https://first/", "http://second/path/"),
)
PLAIN = replace(GZIPPED, folder="", ending="")
ARCHIVE = replace(GZIPPED, ending="", archive="packed")
OTHER = replace(GZIPPED, folder="other", mirrors=())


class Network:
    """Mirrors as folders, without a network.

    Attributes:
        mirrors: URL of a mirror -> the folder with its files; the others cannot be reached.
        asked: URLs that were asked for.
    """

    def __init__(self) -> None:
        self.mirrors: dict[str, Path] = {}
        self.asked: list[str] = []

    def download_url(self, url: str, folder: Path, name: str) -> None:
        """Do what torchvision's function does."""
        self.asked.append(url)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / name).exists():
            return
        mirror = self.mirrors.get(url.removesuffix(name))
        if mirror is None:
            raise URLError("no route to the host")
        if not (mirror / name).exists():
            raise HTTPError(url, 404, "Not Found", None, None)  # type: ignore[arg-type]
        shutil.copyfile(mirror / name, folder / name)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Network]:
    network = Network()
    monkeypatch.setattr(import_custom_module("torchvision.datasets.utils"), "download_url", network.download_url)
    yield network
    assert [*tmp_path.rglob("*.partial-*")] == []


@pytest.fixture
def mirror(network: Network, tmp_path: Path) -> Path:
    """What the second mirror of a release holds."""
    folder = tmp_path / "mirror"
    published.gzip_each(folder, CONTENTS, level=1)
    published.unpack(folder, CONTENTS)
    published.tar(folder / "packed.tar.gz", CONTENTS, prefix="raw/")
    network.mirrors["http://second/path/"] = folder
    return folder


@pytest.mark.parametrize(
    ("release", "names"),
    [
        (GZIPPED, ["set/raw/labels.gz", "set/raw/test.gz", "set/raw/train.gz"]),
        (PLAIN, ["labels", "test", "train"]),
        (ARCHIVE, ["packed.tar.gz"]),
    ],
)
def test_files_are_downloaded_as_published_and_good(
    release: Release, names: list[str], mirror: Path, tmp_path: Path
) -> None:
    data_dir = tmp_path / "new" / "data"
    assert download("set", [OTHER, release], data_dir) is release
    assert sorted(path.relative_to(data_dir).as_posix() for path in published.tree(data_dir)) == names
    assert release.read(data_dir) == (CONTENTS, [])


def test_only_missing_files_are_downloaded(network: Network, mirror: Path, tmp_path: Path) -> None:
    raw = tmp_path / "data" / "set" / "raw"
    published.unpack(raw, {"train": CONTENTS["train"]})
    published.gzip_each(raw, {"labels": CONTENTS["labels"]}, mtime=7)
    (raw / "test.gz.partial").mkdir()  # what a killed download left
    before = published.tree(raw)
    download("set", [GZIPPED], tmp_path / "data")
    assert network.asked == ["https://first/test.gz", "http://second/path/test.gz"]
    assert published.tree(raw) == {**before, raw / "test.gz": (mirror / "test.gz").read_bytes()}


def test_a_mirror_with_other_content_is_passed_over(network: Network, mirror: Path, tmp_path: Path) -> None:
    network.mirrors["https://first/"] = tmp_path / "wrong"
    published.gzip_each(tmp_path / "wrong", {**CONTENTS, "train": b"sign in to this network"})
    download("set", [GZIPPED], tmp_path / "data")
    assert GZIPPED.read(tmp_path / "data") == (CONTENTS, [])
    assert network.asked.count("http://second/path/train.gz") == 1
    assert network.asked.count("http://second/path/test.gz") == 0


def test_other_content_is_never_kept(network: Network, tmp_path: Path) -> None:
    for mirror in ARCHIVE.mirrors:
        network.mirrors[mirror] = tmp_path / "wrong"
    published.unpack(tmp_path / "wrong", {"packed.tar.gz": b"<html>sign in</html>"})
    with pytest.raises(DatasetMissingError, match=r"https://first/packed\.tar\.gz is damaged: it cannot be unpacked; "):
        download("set", [ARCHIVE], tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_without_a_network_each_reason_and_what_to_do_are_said(network: Network, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    network.mirrors["http://second/path/"] = tmp_path / "empty"
    folder = tmp_path / "no" / "data"
    with pytest.raises(DatasetMissingError) as caught:
        download("set", [GZIPPED], folder)
    assert str(caught.value) == (
        "dataset 'set' is not on this machine and could not be downloaded (no route to the host; HTTP Error 404: Not "
        f"Found): `data_dir` does not exist: {folder}; expected there: set/raw with train.gz, labels.gz, test.gz, each "
        "unpacked or not. Put the files there, name another folder with `data_dir` or $CROSSLAYER_DATA_DIR, or connect "
        "to the network and run the same command again"
    )
    assert not folder.parent.exists()


def test_what_was_downloaded_before_a_failure_is_kept(network: Network, mirror: Path, tmp_path: Path) -> None:
    (mirror / "test.gz").unlink()
    with pytest.raises(DatasetMissingError):
        download("set", [GZIPPED], tmp_path / "data")
    assert GZIPPED.missing(tmp_path / "data") == ["test.gz"]


def test_a_data_folder_that_cannot_be_made_is_said(network: Network, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DatasetMissingError, match=f"Not a directory: '{tmp_path}/file/data/set/raw'"):
        download("set", [GZIPPED], tmp_path / "file" / "data")
    assert network.asked == []


def test_an_interrupted_download_leaves_nothing(
    network: Network, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(url: str, folder: Path, name: str) -> None:
        folder.mkdir()
        (folder / name).write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(import_custom_module("torchvision.datasets.utils"), "download_url", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download("set", [GZIPPED], tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_two_processes_may_download_the_same(
    network: Network, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = ["at work as well"]

    def download_while_another_does(url: str, folder: Path, name: str) -> None:
        if others:
            others.pop()
            download("set", [GZIPPED], tmp_path / "data")
        network.download_url(url, folder, name)

    utils = import_custom_module("torchvision.datasets.utils")
    monkeypatch.setattr(utils, "download_url", download_while_another_does)
    download("set", [GZIPPED], tmp_path / "data")
    assert not others
    assert GZIPPED.read(tmp_path / "data") == (CONTENTS, [])


def test_nothing_is_downloaded_beside_a_part_of_another_release(network: Network, tmp_path: Path) -> None:
    assert unexpected_folders([OTHER, ARCHIVE], tmp_path) == []
    published.unpack(tmp_path / "other", {"train": CONTENTS["train"]})
    published.unpack(tmp_path / "set" / "raw", {})
    assert unexpected_folders([OTHER, ARCHIVE], tmp_path) == [tmp_path / "other"]
    advice = rf"other lacks labels\.gz, test\.gz; .*\. Add what is missing, or delete {tmp_path}/other and run the same"
    with pytest.raises(DatasetMissingError, match=advice):
        download("set", [OTHER, ARCHIVE], tmp_path)
    assert network.asked == []
