"""Seeded faults: edits of the sources that a person could make by mistake, and that the quick tests must notice.

They are in `mutants/*.yaml`. A file holds groups of mutants with the same `tests`, the nearest ones, which are files
or folders, and mostly of one source `file`. Each mutant has a name, says what it `breaks`, and replaces the `original`
text, or makes several `edits` where one fact is written in several files. An original text occurs exactly once and is
as short as that allows, so that changes around it do not make it stale. A mutant that is `equivalent` has a proof that
no test can notice it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).with_name("mutants")


class StaleEditError(Exception):
    """An edit no longer fits the sources, so that the list of mutants has to be brought up to date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One replacement in one file.

    Attributes:
        file: Path from the root of the repository.
        original: Text that occurs exactly once in the file.
        replacement: What takes its place.
    """

    file: str
    original: str
    replacement: str

    def applied_to(self, content: str) -> str:
        """Return the content of the file with the replacement.

        Raises:
            StaleEditError: If the original text does not occur exactly once.
        """
        found = content.count(self.original)
        if found != 1:
            raise StaleEditError(f"{self.file} holds {self.original!r} {found} times instead of once")
        return content.replace(self.original, self.replacement)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A seeded fault.

    Attributes:
        name: Identifies it on the command line.
        breaks: What is wrong with it, for people who read that it survived.
        edits: The replacements, each in another file.
        tests: Test files or folders that are run first, because they are the nearest.
        equivalent: A proof that no test can notice it, because nothing changes; empty if one should.
    """

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    equivalent: str = ""


def read_mutants() -> list[Mutant]:
    """Return all mutants, by file and in the order in which they are written."""
    return [
        _mutant(name, content, group)
        for path in sorted(_FOLDER.glob("*.yaml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, content in group["mutants"].items()
    ]


def _mutant(name: str, content: Mapping[str, Any], group: Mapping[str, Any]) -> Mutant:
    edits = content.get("edits") or [
        {"file": group["file"], "original": content["original"], "replacement": content["replacement"]}
    ]
    return Mutant(
        name=name,
        breaks=content["breaks"],
        edits=tuple(Edit(**edit) for edit in edits),
        tests=tuple(group["tests"]),
        equivalent=content.get("equivalent", ""),
    )
