"""Read YAML files and check every key; errors name the file, the line and the allowed values."""

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


class YamlMapping:
    """A YAML mapping whose keys are read one by one and checked; `finish` rejects those that were not read.

    Args:
        node: The parsed node.
        file: The file's name, for errors.
        path: Keys that lead to the mapping, each followed by a dot.

    Raises:
        HardwareError: If the node is not a mapping, or a key is duplicated.
    """

    def __init__(self, node: yaml.Node | None, file: str, path: str = "") -> None:
        self._file, self._path = file, path
        self._line = 1 if node is None else node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            what = path.rstrip(".") or "the file"
            raise HardwareError(f"{file}:{self._line}: {what} must be a mapping of keys to values")
        self._nodes: dict[str, yaml.Node] = {}
        self._key_lines: dict[str, int] = {}
        self._read: list[str] = []
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in self._nodes:
                raise HardwareError(f"{file}:{line}: duplicate key {path + key!r}")
            self._nodes[key] = value_node
            self._key_lines[key] = line

    def __contains__(self, key: str) -> bool:
        return key in self._nodes

    @property
    def keys(self) -> list[str]:
        """All keys, in file order."""
        return list(self._nodes)

    def invalid(self, key: str, wanted: str, given: object) -> HardwareError:
        """Make the error that a key's value is not what it must be."""
        return HardwareError(f"{self._where(key)}: {self._path}{key} must be {wanted}, got {given!r}")

    def error(self, key: str, reason: str) -> HardwareError:
        """Make an error about a key."""
        return HardwareError(f"{self._where(key)}: {self._path}{key}: {reason}")

    def text(self, key: str) -> str:
        """Read a string that is not empty."""
        value = self._value(key)
        if not isinstance(value, str) or not value.strip():
            raise self.invalid(key, "a string", value)
        return value

    def choice(self, key: str, allowed: Collection[str]) -> str:
        """Read one of the allowed words."""
        value = self._value(key)
        if value not in allowed:
            raise self.invalid(key, f"one of {', '.join(allowed)}", value)
        return str(value)

    def is_word(self, key: str, word: str) -> bool:
        """Whether the value is this word instead of a mapping."""
        node = self._node(key)
        return isinstance(node, yaml.ScalarNode) and node.value == word

    def is_list(self, key: str) -> bool:
        """Whether the value is a list."""
        return isinstance(self._node(key), yaml.SequenceNode)

    def is_mapping(self, key: str) -> bool:
        """Whether the value is a mapping."""
        return isinstance(self._node(key), yaml.MappingNode)

    def items(self, key: str) -> list[Any]:
        """Read a list of at least one scalar."""
        node = self._node(key)
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise HardwareError(f"{self._where(key)}: {self._path}{key} must be a list of at least one value")
        return [self._constructed(key, item) for item in node.value]

    def number(self, key: str) -> Any:
        """Read a scalar, as a number if it is one; the caller checks it."""
        return self._number(key)

    def truth(self, key: str) -> bool:
        """Read a boolean."""
        value = self._value(key)
        if not isinstance(value, bool):
            raise self.invalid(key, "true or false", value)
        return value

    def positive(self, key: str) -> float:
        """Read a positive, finite number."""
        value = self._number(key)
        if not _is_positive(value):
            raise self.invalid(key, "a positive number", value)
        return float(value)

    def not_negative(self, key: str) -> float:
        """Read a finite number of at least 0."""
        value = self._number(key)
        if value != 0 and not _is_positive(value):
            raise self.invalid(key, "a number of at least 0", value)
        return float(value)

    def whole(self, key: str) -> int:
        """Read an integer from 1 to 1,000,000, which no count here exceeds."""
        value = self._value(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
            raise self.invalid(key, f"a whole number from 1 to {_MOST}", value)
        return value

    def whole_or(self, key: str, word: str) -> int | None:
        """Read an integer from 1 to 1,000,000, or a word that means None."""
        value = self._value(key)
        if value == word:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
            raise self.invalid(key, f"a whole number from 1 to {_MOST}, or {word}", value)
        return value

    def estimate(self, key: str) -> Estimate:
        """Read three numbers of at least 0 under low, value and high, in ascending order."""
        content = self.mapping(key)
        found = Estimate(content.not_negative("low"), content.not_negative("value"), content.not_negative("high"))
        content.finish()
        if not found.low <= found.value <= found.high:
            raise self.invalid(key, "low <= value <= high", tuple(found))
        return found

    def positive_estimate(self, key: str) -> Estimate:
        """Read an estimate whose three numbers are above 0."""
        found = self.estimate(key)
        if not found.low > 0:
            raise self.invalid(key, "above 0", tuple(found))
        return found

    def mapping(self, key: str) -> YamlMapping:
        """Read a nested mapping."""
        return YamlMapping(self._node(key), self._file, f"{self._path}{key}.")

    def sourced(self, key: str) -> YamlMapping:
        """Read a nested mapping that gives the source of its numbers."""
        content = self.mapping(key)
        content.check_source()
        return content

    def sourced_mappings(self, key: str) -> dict[str, YamlMapping]:
        """Read a mapping of names to mappings that give the source of their numbers."""
        names = self.mapping(key)
        return {name: names.sourced(name) for name in names.keys}

    def sourced_list(self, key: str) -> list[YamlMapping]:
        """Read a list of at least two mappings that give the source of their numbers."""
        node = self._node(key)
        if not isinstance(node, yaml.SequenceNode) or len(node.value) < 2:
            raise HardwareError(f"{self._where(key)}: {self._path}{key} must be a list of at least two points")
        mappings = [
            YamlMapping(item, self._file, f"{self._path}{key}[{index}].") for index, item in enumerate(node.value)
        ]
        for content in mappings:
            content.check_source()
        return mappings

    def check_source(self) -> None:
        """Read the source and its year, which every number needs."""
        self.text("source")
        self.whole("year")

    def finish(self, optional: Collection[str] = ()) -> None:
        """Raise HardwareError if a key was not read, naming those that were read and the `optional` ones."""
        known = list(dict.fromkeys([*self._read, *optional]))
        for key in self._nodes:
            if key not in self._read:
                near = get_close_matches(key, known, n=1)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                raise HardwareError(
                    f"{self._where(key)}: unknown key {self._path + key!r}{meant or '.'} Keys here: {', '.join(known)}"
                )

    def _where(self, key: str) -> str:
        return f"{self._file}:{self._key_lines.get(key, self._line)}"

    def _node(self, key: str) -> yaml.Node:
        if key not in self._nodes:
            near = get_close_matches(key, [other for other in self._nodes if other not in self._read], n=1)
            meant = f"; line {self._key_lines[near[0]]} has {near[0]!r}" if near else ""
            raise HardwareError(f"{self._file}:{self._line}: the key {self._path + key!r} is missing{meant}")
        if key not in self._read:
            self._read.append(key)
        return self._nodes[key]

    def _number(self, key: str) -> Any:
        """Read a scalar; a number that YAML 1.1 parses as a string, such as 2.0e2, is converted."""
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


def read_mapping(text: str, file: str, *, example: str = "one of those in energy/hardware") -> YamlMapping:
    """Parse YAML whose top level is a mapping.

    Args:
        text: YAML.
        file: The file's name, for errors.
        example: What to suggest as a starting point if the file is empty.

    Raises:
        HardwareError: If the text is not valid YAML, or not a mapping.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            raise HardwareError(f"{file} is empty; start from {example}")
        return YamlMapping(node, file)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise HardwareError(f"{file}:{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise HardwareError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None


def read_text(path: Path, what: str) -> str:
    """Read a text file.

    Args:
        path: The file.
        what: What it describes, for errors.

    Raises:
        HardwareError: If the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise HardwareError(f"cannot read {what} file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise HardwareError(f"{what} file {path} is not a text file") from None


def _is_positive(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 < value < math.inf
