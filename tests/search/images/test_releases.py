import gzip
import hashlib
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.images.releases import Release, absence
from tests.support import published
from tests.support.published import Contents

CONTENTS: Contents = {"train": b"images for training" * 100, "labels": b"0123", "test": b"images for testing"}


def release(contents: Contents = CONTENTS, algorithm: str = "sha256", ending: str = "") -> Release:
    return Release(
        folder="set/raw",
        hashes=published.hashed(contents, algorithm),
        parse=lambda contents: pytest.fail("nothing is parsed here"),
        ending=ending,
        archive="packed",
    )


def good(data_dir: Path) -> bool:
    """Whether all files are found, in their order, and nothing is said of flaws, and nothing written."""
    before = published.tree(data_dir)
    contents, flaws = release().read(data_dir)
    assert published.tree(data_dir) == before
    assert release().missing(data_dir) == []
    return not flaws and [*contents.items()] == [*CONTENTS.items()]


def said(data_dir: Path) -> list[str]:
    return [str(flaw) for flaw in release().read(data_dir)[1]]


@given(st.lists(st.sampled_from(["unpacked", "gzipped", "both", "archive"]), min_size=3, max_size=3))
def test_files_are_good_in_any_mixture_of_forms(tmp_path_factory: pytest.TempPathFactory, forms: list[str]) -> None:
    data_dir = tmp_path_factory.mktemp("data")
    archived = {}
    for (name, content), form in zip(CONTENTS.items(), forms, strict=True):
        if form in ("unpacked", "both"):
            published.unpack(data_dir / "set" / "raw", {name: content})
        if form in ("gzipped", "both"):
            published.gzip_each(data_dir / "set" / "raw", {name: content})
        if form == "archive":
            archived[name] = content
    if archived:
        published.tar(data_dir / "packed.tar.gz", archived)
    assert good(data_dir)


@pytest.mark.parametrize(("level", "mtime"), [(0, 0), (1, 1_000_000_000), (9, 7)])
def test_files_compressed_anew_are_good(level: int, mtime: int, tmp_path: Path) -> None:
    published.gzip_each(tmp_path / "set" / "raw", CONTENTS, level, mtime)
    assert good(tmp_path)


@pytest.mark.parametrize("ending", [".tar.gz", ".tar"])
@pytest.mark.parametrize("prefix", ["", "raw/", "./a/longer/path/"])
def test_archives_packed_anew_are_good(ending: str, prefix: str, tmp_path: Path) -> None:
    others = {"readme.html": b"<p>", **dict(reversed([*CONTENTS.items()])), "meta": b"names"}
    published.tar(tmp_path / f"packed{ending}", others, prefix)
    assert good(tmp_path)


def test_a_program_may_unpack_a_file_and_keep_its_name(tmp_path: Path) -> None:
    gzipped = {name: gzip.compress(content) for name, content in CONTENTS.items()}
    published.unpack(tmp_path / "set" / "raw", {"train.gz": CONTENTS["train"], "labels": gzipped["labels"]})
    published.tar(tmp_path / "packed.tar", {"test": CONTENTS["test"]})
    (tmp_path / "packed.tar").rename(tmp_path / "packed.tar.gz")
    assert good(tmp_path)


def test_what_other_programs_left_beside_good_files_does_no_harm(tmp_path: Path) -> None:
    published.unpack(tmp_path / "set" / "raw", {"train": b"half of it", "processed": b""})
    published.gzip_each(tmp_path / "set" / "raw", CONTENTS)
    (tmp_path / "packed.tar.gz").write_bytes(b"no archive")
    assert good(tmp_path)


def test_a_good_archive_makes_up_for_damaged_files(tmp_path: Path) -> None:
    published.gzip_each(tmp_path / "set" / "raw", {**CONTENTS, "labels": b"9999"})
    assert said(tmp_path) != []
    published.tar(tmp_path / "packed.tar", CONTENTS)
    assert good(tmp_path)


def test_an_archive_is_not_opened_for_what_is_there_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.unpack(tmp_path / "set" / "raw", CONTENTS)
    published.tar(tmp_path / "packed.tar", CONTENTS)
    monkeypatch.setattr(tarfile, "open", lambda path: pytest.fail("it is opened"))
    assert good(tmp_path)


def test_an_archive_with_two_files_of_a_name_is_good_if_one_of_them_is(tmp_path: Path) -> None:
    published.tar(tmp_path / "packed.tar", {"old/test": b"an older one", **CONTENTS})
    assert good(tmp_path)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_damaged_file_is_named_with_the_hashes_that_it_has_and_should_have(tmp_path: Path) -> None:
    published.unpack(tmp_path / "set" / "raw", {**CONTENTS, "labels": b"9999"})
    path = tmp_path / "set" / "raw" / "labels"
    wanted = sha256(CONTENTS["labels"])
    assert said(tmp_path) == [f"{path} is damaged: its SHA-256 is {sha256(b'9999')}, it should be {wanted}"]
    md5 = hashlib.md5(b"9999", usedforsecurity=False).hexdigest()
    assert f"its MD5 is {md5}" in str(release(algorithm="md5").read(tmp_path)[1][0])


def test_a_file_and_its_archive_that_are_both_wrong_are_both_named(tmp_path: Path) -> None:
    published.unpack(tmp_path / "set" / "raw", {**CONTENTS, "test": b"8888"})
    published.gzip_each(tmp_path / "set" / "raw", {"test": b"9999"})
    path = tmp_path / "set" / "raw" / "test"
    wanted = sha256(CONTENTS["test"])
    assert said(tmp_path) == [
        f"{path} is damaged: its SHA-256 is {sha256(b'8888')}, it should be {wanted}",
        f"{path}.gz is damaged: the SHA-256 of its unpacked content is {sha256(b'9999')}, it should be {wanted}",
    ]


def test_what_an_archive_lacks_is_said_with_what_it_holds(tmp_path: Path) -> None:
    published.tar(tmp_path / "packed.tar.gz", {"raw/train": CONTENTS["train"], "raw/test": b"9999", "meta": b""})
    assert said(tmp_path) == [
        f"{tmp_path}/packed.tar.gz is incomplete: it lacks labels with the SHA-256 {sha256(CONTENTS['labels'])}, "
        "and holds train, test, meta",
        f"{tmp_path}/packed.tar.gz is damaged: the SHA-256 of test in it is {sha256(b'9999')}, "
        f"it should be {sha256(CONTENTS['test'])}",
    ]


def test_an_archive_of_folders_holds_no_file(tmp_path: Path) -> None:
    published.tar(tmp_path / "packed.tar.gz", {})
    assert [text.partition(" and holds ")[2] for text in said(tmp_path)] == ["no file"] * 3


@pytest.mark.parametrize("kept", [0, 9, 40, -9])
def test_a_gzipped_file_that_ends_early_is_damaged(kept: int, tmp_path: Path) -> None:
    raw = tmp_path / "set" / "raw"
    published.gzip_each(raw, CONTENTS)
    path = raw / "train.gz"
    path.write_bytes(path.read_bytes()[:kept])
    (flaw,) = said(tmp_path)
    assert flaw.startswith(f"{path} is damaged: ")


@pytest.mark.parametrize(("ending", "kept"), [(".tar.gz", 0), (".tar.gz", 9), (".tar.gz", 80), (".tar", 700)])
def test_an_archive_that_ends_early_is_damaged(ending: str, kept: int, tmp_path: Path) -> None:
    path = tmp_path / f"packed{ending}"
    published.tar(path, CONTENTS)
    path.write_bytes(path.read_bytes()[:kept])
    assert said(tmp_path) == [f"{path} is damaged: it cannot be unpacked"]


@pytest.mark.parametrize("magic", ["", "1f8b", "1f8b0800", "1f8b080000000000", "425a68", "fd377a585a00"])
def test_files_that_are_no_archives_are_damaged(magic: str, tmp_path: Path) -> None:
    content = bytes.fromhex(magic) + b"<html>not found</html>" * 99
    published.unpack(tmp_path / "set" / "raw", {**CONTENTS, "test.gz": content, "test": content})
    (tmp_path / "packed.tar.gz").write_bytes(content)
    flaws = said(tmp_path)
    paths = [tmp_path / "set" / "raw" / "test", tmp_path / "set" / "raw" / "test.gz", tmp_path / "packed.tar.gz"]
    assert [flaw.partition(" is damaged: ")[0] for flaw in flaws] == [str(path) for path in paths]
    reason = "it cannot be unpacked" if magic.startswith("1f8b") else f"its SHA-256 is {sha256(content)}, it should be"
    assert all(f" is damaged: {reason}" in flaw for flaw in flaws[:2])
    assert flaws[2].endswith(" is damaged: it cannot be unpacked")


@pytest.mark.parametrize("mode", ["w:bz2", "w:xz"])
def test_archives_compressed_in_another_way_are_good_or_damaged(mode: Literal["w:bz2", "w:xz"], tmp_path: Path) -> None:
    contents = {"train": np.random.default_rng(0).bytes(200_000)}
    published.tar(tmp_path / "plain", contents)
    path = tmp_path / "packed.tar"
    with tarfile.open(tmp_path / "plain") as plain, tarfile.open(path, mode) as archive:
        for member in plain:
            archive.addfile(member, plain.extractfile(member))
    assert release(contents).read(tmp_path) == (contents, [])
    packed = path.read_bytes()
    for place in (100, len(packed) // 2, len(packed) - 100):
        path.write_bytes(packed[:place] + b"\xff" * 20 + packed[place + 20 :])
        _, (flaw,) = release(contents).read(tmp_path)
        assert str(flaw).startswith(f"{path} is damaged: ")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_unreadable_file_is_named_and_not_called_damaged(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "set" / "raw"
    published.unpack(raw, {"labels": CONTENTS["labels"], "test": CONTENTS["test"], f"train{ending}": b""})

    def refuse(path: Path) -> bytes:
        if path == raw / f"train{ending}":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", refuse)
    _, (flaw,) = release().read(tmp_path)
    assert flaw.unreadable
    assert str(flaw) == f"{raw}/train{ending} cannot be read: Permission denied"


def test_a_file_that_is_gone_is_not_passed_over(tmp_path: Path) -> None:
    published.unpack(tmp_path / "set" / "raw", {"train": CONTENTS["train"], "test": CONTENTS["test"]})
    contents, (flaw,) = release(ending=".gz").read(tmp_path)
    assert [*contents] == ["train", "test"]
    assert str(flaw) == f"{tmp_path}/set/raw/labels.gz is missing"


def test_missing_files_are_named_as_published(tmp_path: Path) -> None:
    published.unpack(tmp_path / "set" / "raw", {"train": b"", "labels.gz": b""})
    (tmp_path / "set" / "raw" / "test").mkdir()  # a folder is no file
    assert release().missing(tmp_path) == ["test"]
    assert release(ending=".gz").missing(tmp_path) == ["test.gz"]
    (tmp_path / "packed.tar").write_bytes(b"")  # what it holds is not looked at
    assert release().missing(tmp_path) == []


def test_downloads_are_the_archive_or_else_the_missing_files_as_published(tmp_path: Path) -> None:
    hashes = published.hashed(CONTENTS)
    published.unpack(tmp_path / "set" / "raw", {"train": b""})
    assert release().downloads(tmp_path) == {tmp_path / "packed.tar.gz": hashes}
    single = replace(release(ending=".gz"), archive="")
    raw = tmp_path / "set" / "raw"
    assert single.downloads(tmp_path) == {
        raw / "labels.gz": {"labels": hashes["labels"]},
        raw / "test.gz": {"test": hashes["test"]},
    }


def test_absence_says_what_is_lacking_and_what_is_expected(tmp_path: Path) -> None:
    gzipped = replace(release(ending=".gz"), archive="")
    beside = replace(release(), folder="", archive="")
    expected = (
        "expected there: set/raw with train.gz, labels.gz, test.gz, each unpacked or not, or packed.tar.gz, or set/raw "
        "with train, labels, test, or train, labels, test"
    )
    releases = [gzipped, release(), beside]
    gone = tmp_path / "gone"
    assert absence("set", releases, gone) == f"`data_dir` does not exist: {gone}; {expected}"
    lacks = f"`data_dir` does not hold the dataset 'set': {tmp_path}; "
    assert absence("set", releases, tmp_path) == f"{lacks}{expected}"
    published.unpack(tmp_path, {"test": b""})
    assert absence("set", releases, tmp_path) == f"{lacks}it lacks train, labels; {expected}"
    (tmp_path / "set" / "raw").mkdir(parents=True)
    assert "; set/raw lacks train.gz, labels.gz, test.gz; set/raw lacks train" in absence("set", releases, tmp_path)
