"""Releases of data sets: their files on disk, however these are packed, known by the hash of what is in them.

Distributions compress archives anew, and other programs leave unpacked files behind, whole or not. So a file is good if
its unpacked content is the published one, wherever it is found, and what lies beside it does not matter.

Archives are read where they are and never unpacked on disk, so a data folder may be read-only.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from search.images.image_set import ImageSet

_TAR_ENDINGS = (".tar.gz", ".tar")  # the published one first
_GZIP_MAGIC = b"\x1f\x8b"
_ALGORITHMS = {"md5": "MD5", "sha256": "SHA-256"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A form in which a data set is published: a set of files.

    Each of them may be there as it is, gzipped as `NAME.gz`, or in the release's tar archive, in any mixture.

    Attributes:
        folder: Folder of the files below the data folder; empty for the data folder itself.
        hashes: File name -> hash of its unpacked content, such as "md5:c99cafc1...", in the order in which `parse`
            expects the files.
        parse: Returns the images for development and for testing from the files' unpacked contents.
        ending: Ending of the file names as published: ".gz" or nothing.
        archive: Name, without its ending, of the tar archive in the data folder; empty if there is none. In it only
            the names of files count, not their folders and order.
        mirrors: URLs that end in "/", tried in order; empty if the release is not downloaded.
    """

    folder: str
    hashes: Mapping[str, str]
    parse: Callable[[Mapping[str, bytes]], tuple[ImageSet, ImageSet]]
    ending: str = ""
    archive: str = ""
    mirrors: tuple[str, ...] = ()

    def missing(self, data_dir: Path) -> list[str]:
        """Return the names, as published, of files that are nowhere. What an archive holds is not looked at."""
        if any(self._archives(data_dir)):
            return []
        return [f"{name}{self.ending}" for name in self.hashes if not any(self._files(data_dir, name))]

    def read(self, data_dir: Path) -> tuple[dict[str, bytes], list[Flaw]]:
        """Read the unpacked content of each file, from the first place where it is the published one.

        Returns:
            File name -> content, in the order of `hashes`; and the flaws of the files whose published content is
            nowhere, so that all is well if there are none.
        """
        contents: dict[str, bytes] = {}
        flaws: dict[str, list[Flaw]] = {name: [] for name in self.hashes}
        places = [(path, [name]) for name in self.hashes for path in self._files(data_dir, name)]
        for path, names in [*places, *((path, [*self.hashes]) for path in self._archives(data_dir))]:
            wanted = {name: self.hashes[name] for name in names if name not in contents}
            good, found = read_checked(path, wanted)
            contents |= good
            for name, flaw in found.items():
                flaws[name].append(flaw)
        remaining: list[Flaw] = []
        for name in self.hashes:
            if name not in contents:
                gone = Flaw(data_dir / self.folder / f"{name}{self.ending}", "is missing", unreadable=True)
                remaining += flaws[name] or [gone]
        return {name: contents[name] for name in self.hashes if name in contents}, [*dict.fromkeys(remaining)]

    def downloads(self, data_dir: Path) -> dict[Path, dict[str, str]]:
        """Return what to download so that nothing is missing: paths -> names and hashes of the files within."""
        if self.archive:
            return {data_dir / f"{self.archive}{_TAR_ENDINGS[0]}": dict(self.hashes)}
        missing = {*self.missing(data_dir)}
        paths = {name: data_dir / self.folder / f"{name}{self.ending}" for name in self.hashes}
        return {path: {name: self.hashes[name]} for name, path in paths.items() if path.name in missing}

    def _files(self, data_dir: Path, name: str) -> Iterator[Path]:
        """Yield where a file is, outside of archives."""
        paths = (data_dir / self.folder / f"{name}{ending}" for ending in ("", ".gz"))
        return (path for path in paths if path.is_file())

    def _archives(self, data_dir: Path) -> Iterator[Path]:
        paths = (data_dir / f"{self.archive}{ending}" for ending in _TAR_ENDINGS if self.archive)
        return (path for path in paths if path.is_file())

    def __str__(self) -> str:
        names = ", ".join(f"{name}{self.ending}" for name in self.hashes)
        files = f"{self.folder} with {names}" if self.folder else names
        files += ", each unpacked or not" if self.ending else ""
        return f"{self.archive}{_TAR_ENDINGS[0]}, or {files}" if self.archive else files


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a file.

    Attributes:
        path: The file.
        text: What is said of it, such as "is damaged: ...".
        unreadable: Whether the file could not be read, so that nothing is known of its content.
    """

    path: Path
    text: str
    unreadable: bool = False

    def __str__(self) -> str:
        return f"{self.path} {self.text}"


def read_checked(path: Path, hashes: Mapping[str, str]) -> tuple[dict[str, bytes], dict[str, Flaw]]:
    """Read files from a path and check their hashes.

    Args:
        path: A tar archive of files, by its ending, or else one file, which may be gzipped, whatever its ending: some
            programs unpack what they download and keep its name.
        hashes: File names, and the hashes of their unpacked contents.

    Returns:
        Name -> content of files with the right hash, and name -> flaw of the others.
    """
    if not hashes:
        return {}, {}
    try:
        if path.name.endswith(_TAR_ENDINGS):
            return _read_tar(path, hashes)
        ((name, wanted),) = hashes.items()
        content, what = path.read_bytes(), "its {}"
        if content.startswith(_GZIP_MAGIC):
            content, what = gzip.decompress(content), "the {} of its unpacked content"
    except (EOFError, OSError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.strerror:  # from the system, not from an unpacker
            return {}, dict.fromkeys(hashes, Flaw(path, f"cannot be read: {error.strerror}", unreadable=True))
        return {}, dict.fromkeys(hashes, Flaw(path, "is damaged: it cannot be unpacked"))
    found = _hash(content, wanted)
    return ({name: content}, {}) if found == wanted else ({}, {name: _damage(path, what, [found], wanted)})


def _read_tar(path: Path, hashes: Mapping[str, str]) -> tuple[dict[str, bytes], dict[str, Flaw]]:
    good: dict[str, bytes] = {}
    wrong: dict[str, list[str]] = {}
    others = []
    with tarfile.open(path) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if not member.isreg():
                continue
            if name not in hashes:
                others.append(name)
            elif name not in good:
                file = archive.extractfile(member)
                assert file is not None
                content = file.read()
                found = _hash(content, hashes[name])
                if found == hashes[name]:
                    good[name] = content
                else:
                    wrong.setdefault(name, []).append(found)
    held = ", ".join([*good, *wrong, *others][:8]) or "no file"
    flaws = {
        name: _damage(path, f"the {{}} of {name} in it", wrong[name], wanted)
        if name in wrong
        else Flaw(path, f"is incomplete: it lacks {name} with the {_in_words(wanted)}, and holds {held}")
        for name, wanted in hashes.items()
        if name not in good
    }
    return good, flaws


def _damage(path: Path, what: str, found: Iterable[str], wanted: str) -> Flaw:
    algorithm, _, digest = wanted.partition(":")
    digests = " or ".join(one.partition(":")[2] for one in found)
    what = what.format(_ALGORITHMS[algorithm])
    return Flaw(path, f"is damaged: {what} is {digests}, it should be {digest}")


def _hash(content: bytes, like: str) -> str:
    """Return the hash of a content by the algorithm of another hash."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()}"


def _in_words(wanted: str) -> str:
    algorithm, _, digest = wanted.partition(":")
    return f"{_ALGORITHMS[algorithm]} {digest}"


def absence(name: str, releases: Iterable[Release], data_dir: Path) -> str:
    """Return the message that a folder does not hold a data set, with the files that it should hold.

    Args:
        name: Name of the data set.
        releases: Its releases, of which one would do.
        data_dir: The folder.
    """
    expected = f"expected there: {', or '.join(map(str, releases))}"
    if not data_dir.is_dir():
        return f"`data_dir` does not exist: {data_dir}; {expected}"
    lacking = ""
    for release in releases:
        missing = release.missing(data_dir)
        if len(missing) < len(release.hashes) or (release.folder and (data_dir / release.folder).is_dir()):
            lacking += f"{release.folder or 'it'} lacks {', '.join(missing)}; "
    return f"`data_dir` does not hold the dataset {name!r}: {data_dir}; {lacking}{expected}"
