"""Reading YAML files whose every key is checked, with errors that name the file, the line and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from energy.errors import HardwareError
from energy.estimates import Estimate

_MOST = 1_000_000


class Record:
    """A YAML mapping whose keys are taken one by one, checked, and must all be used.

    Args:
        node: The mapping.
        file: The file's name, for errors.
        path: Keys that lead to it, each with a dot behind it.

    Raises:
        HardwareError: If it is not a mapping, or a key stands twice.
    """

    def __init__(self, node: yaml.Node | None, file: str, path: str = "") -> None:
        self._file, self._path = file, path
        self._line = 1 if node is None else node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            what = path.rstrip(".") or "the file"
            raise HardwareError(f"{file}:{self._line}: {what} must be a mapping of keys to values")
        self._nodes: dict[str, yaml.Node] = {}
        self._key_lines: dict[str, int] = {}
        self._taken: list[str] = []
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in self._nodes:
                raise HardwareError(f"{file}:{line}: the key {path + key!r} stands twice")
            self._nodes[key] = value_node
            self._key_lines[key] = line

    def __contains__(self, key: str) -> bool:
        return key in self._nodes

    @property
    def keys(self) -> list[str]:
        """All keys, in their order in the file."""
        return list(self._nodes)

    def refuse(self, key: str, wanted: str, given: object) -> HardwareError:
        """An error about the value of a key, which was taken."""
        return HardwareError(f"{self._where(key)}: {self._path}{key} must be {wanted}, got {given!r}")

    def wrong(self, key: str, reason: str) -> HardwareError:
        """An error about a key, in words of its own."""
        return HardwareError(f"{self._where(key)}: {self._path}{key}: {reason}")

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self._value(key)
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(key, "a text", value)
        return value

    def choice(self, key: str, allowed: Collection[str]) -> str:
        """One of some words."""
        value = self._value(key)
        if value not in allowed:
            raise self.refuse(key, f"one of {', '.join(allowed)}", value)
        return str(value)

    def is_word(self, key: str, word: str) -> bool:
        """Whether the value is this word, which stands in place of a mapping."""
        node = self._node(key)
        return isinstance(node, yaml.ScalarNode) and node.value == word

    def is_list(self, key: str) -> bool:
        """Whether the value is a list."""
        return isinstance(self._node(key), yaml.SequenceNode)

    def is_mapping(self, key: str) -> bool:
        """Whether the value is a mapping."""
        return isinstance(self._node(key), yaml.MappingNode)

    def items(self, key: str) -> list[Any]:
        """The single values of a list that has some."""
        node = self._node(key)
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise HardwareError(f"{self._where(key)}: {self._path}{key} must be a list of at least one value")
        return [self._constructed(key, item) for item in node.value]

    def number(self, key: str) -> Any:
        """A value, as a number if it is one; the caller checks it."""
        return self._number(key)

    def truth(self, key: str) -> bool:
        """True or false."""
        value = self._value(key)
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false", value)
        return value

    def positive(self, key: str) -> float:
        """A positive, finite number."""
        value = self._number(key)
        if not _is_positive(value):
            raise self.refuse(key, "a positive number", value)
        return float(value)

    def not_negative(self, key: str) -> float:
        """A finite number of at least 0."""
        value = self._number(key)
        if value != 0 and not _is_positive(value):
            raise self.refuse(key, "a number of at least 0", value)
        return float(value)

    def whole(self, key: str) -> int:
        """A whole number from 1 to a million, which no count here exceeds."""
        value = self._value(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
            raise self.refuse(key, f"a whole number from 1 to {_MOST}", value)
        return value

    def whole_or(self, key: str, word: str) -> int | None:
        """A whole number from 1 to a million, or None for a word that stands for none."""
        value = self._value(key)
        if value == word:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
            raise self.refuse(key, f"a whole number from 1 to {_MOST}, or {word}", value)
        return value

    def estimate(self, key: str) -> Estimate:
        """Three numbers of at least 0 under low, value and high, in rising order."""
        record = self.mapping(key)
        found = Estimate(record.not_negative("low"), record.not_negative("value"), record.not_negative("high"))
        record.finish()
        if not found.low <= found.value <= found.high:
            raise self.refuse(key, "low <= value <= high", tuple(found))
        return found

    def positive_estimate(self, key: str) -> Estimate:
        """Three numbers above 0, likewise."""
        found = self.estimate(key)
        if not found.low > 0:
            raise self.refuse(key, "above 0", tuple(found))
        return found

    def mapping(self, key: str) -> Record:
        """A nested mapping."""
        return Record(self._node(key), self._file, f"{self._path}{key}.")

    def sourced(self, key: str) -> Record:
        """A nested mapping that says where its numbers come from."""
        record = self.mapping(key)
        record.check_source()
        return record

    def sourced_mappings(self, key: str) -> dict[str, Record]:
        """Names, each of a mapping that says where its numbers come from."""
        names = self.mapping(key)
        return {name: names.sourced(name) for name in names.keys}

    def sourced_list(self, key: str) -> list[Record]:
        """At least two mappings, each of which says where its numbers come from."""
        node = self._node(key)
        if not isinstance(node, yaml.SequenceNode) or len(node.value) < 2:
            raise HardwareError(f"{self._where(key)}: {self._path}{key} must be a list of at least two points")
        records = [Record(item, self._file, f"{self._path}{key}[{index}].") for index, item in enumerate(node.value)]
        for record in records:
            record.check_source()
        return records

    def check_source(self) -> None:
        """Take the source and its year, which every number needs."""
        self.text("source")
        self.whole("year")

    def finish(self, optional: Collection[str] = ()) -> None:
        """Refuse keys that nobody took, naming those that were taken or could have been."""
        known = list(dict.fromkeys([*self._taken, *optional]))
        for key in self._nodes:
            if key not in self._taken:
                near = get_close_matches(key, known, n=1)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                raise HardwareError(
                    f"{self._where(key)}: unknown key {self._path + key!r}{meant or '.'} Keys here: {', '.join(known)}"
                )

    def _where(self, key: str) -> str:
        return f"{self._file}:{self._key_lines.get(key, self._line)}"

    def _node(self, key: str) -> yaml.Node:
        if key not in self._nodes:
            near = get_close_matches(key, [other for other in self._nodes if other not in self._taken], n=1)
            meant = f"; line {self._key_lines[near[0]]} has {near[0]!r}" if near else ""
            raise HardwareError(f"{self._file}:{self._line}: the key {self._path + key!r} is missing{meant}")
        if key not in self._taken:
            self._taken.append(key)
        return self._nodes[key]

    def _number(self, key: str) -> Any:
        """A value, as a number if it is one that YAML 1.1 takes for a text, such as 2.0e2."""
        value = self._value(key)
        try:
            return float(value) if isinstance(value, str) else value
        except ValueError:
            return value

    def _value(self, key: str) -> Any:
        return self._constructed(key, self._node(key))

    def _constructed(self, key: str, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise HardwareError(f"{self._where(key)}: {self._path}{key} must be a single value")
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError):
            return node.value


def read_record(text: str, file: str, *, example: str = "one of those in energy/hardware") -> Record:
    """The mapping that a YAML file holds.

    Args:
        text: What the file holds.
        file: Its name, for errors.
        example: What to start from instead of an empty file.

    Raises:
        HardwareError: If it is not YAML, or not a mapping.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            raise HardwareError(f"{file} is empty; start from {example}")
        return Record(node, file)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise HardwareError(f"{file}:{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise HardwareError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None


def read_text(path: Path, what: str) -> str:
    """The text of a file.

    Raises:
        HardwareError: If it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise HardwareError(f"cannot read {what} file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise HardwareError(f"{what} file {path} is not a text file") from None


def _is_positive(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 < value < math.inf
