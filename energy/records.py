"""Read YAML files and check every key; errors name the file, the line and the allowed values."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from energy.errors import HardwareError
from energy.estimates import Estimate

_MOST = 1_000_000
_WRONG = object()  # in place of the value of a key whose mistake is noted already
_UNITS = {"mhz": "MHz", "kb": "KB", "nm": "nm", "v": "V", "bits": "bits"}  # by the end of a key

_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_LEADING_ZERO = re.compile(r"[-+]?0+([1-9][0-9]*)")
_WITH_UNIT = re.compile(r"[-+]?[0-9][0-9.,_]*(e[-+]?[0-9]+)?\s*[^\W\d_]+", re.IGNORECASE)
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?e[-+]?[0-9]+", re.IGNORECASE)
_WITH_COMMA = re.compile(r"([0-9]+),([0-9]+)")


class YamlMapping:
    """A YAML mapping whose keys are read one by one and checked.

    A reader that finds a mistake notes it and returns a harmless value of the right type, so that the rest of the file
    is read too; `finish` of the outermost mapping raises all mistakes at once, and only then may a result be used. A
    check of one value against another asks `sound` first, so that no mistake is reported as the consequence of another.

    Args:
        node: The parsed node; None in place of a mapping that is missing or is none, about which nothing is noted.
        file: The file's name, for errors.
        path: Keys that lead to the mapping, each followed by a dot.
        outer: The mapping that this one is in.
    """

    def __init__(
        self, node: yaml.MappingNode | None, file: str, path: str = "", outer: YamlMapping | None = None
    ) -> None:
        self._file, self._path, self._outer = file, path, outer
        self._mistakes: list[tuple[int, str]] = [] if outer is None else outer._mistakes
        self._absent = node is None
        self._line = 1 if node is None else node.start_mark.line + 1
        self._nodes: dict[str, yaml.Node] = {}
        self._key_lines: dict[str, int] = {}
        self._read: dict[str, None] = {}  # keys, in the order in which they were asked for
        self._wrong: set[str] = set()
        self._inner: dict[str, YamlMapping] = {}
        self._finished = False
        for key_node, value_node in [] if node is None else node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in self._nodes:
                self._note(line, f"duplicate key {path + key!r}")
                continue
            self._nodes[key] = value_node
            self._key_lines[key] = line

    def __contains__(self, key: str) -> bool:
        return key in self._nodes

    @property
    def keys(self) -> list[str]:
        """All keys, in file order."""
        return list(self._nodes)

    def sound(self, *keys: str) -> bool:
        """Whether these keys were read without a mistake, and so can be checked against each other."""
        return all(key in self._nodes and key not in self._wrong and self._inner_is_sound(key) for key in keys)

    def reject(self, key: str, wanted: str, given: object) -> None:
        """Note that a key's value is not what it must be."""
        self._reject(key, wanted, f"{given!r}")

    def complain(self, key: str, reason: str) -> None:
        """Note a mistake about a key."""
        self._read[key] = None
        self._wrong.add(key)
        self._note(self._line_of(key), f"{self._path}{key}: {reason}")

    def pass_on(self, key: str, error: HardwareError) -> None:
        """Note the mistakes of another file, which a key names."""
        self._wrong.add(key)
        self._mistakes += [(self._line_of(key), line) for line in str(error).splitlines()]

    def text(self, key: str) -> str:
        """Read a string that is not empty."""
        value = self._value(key)
        if isinstance(value, str) and value.strip():
            return value
        hint = f"; put it in quotes: {str(value)!r}" if isinstance(value, int | float) else ""
        self._reject_value(key, "a string", value, hint)
        return ""

    def word(self, key: str) -> str:
        """Read a string that is not empty, even one that YAML takes for something else, such as 45."""
        self._value(key)
        word = self._as_written(key)
        if word is None:
            self._reject_value(key, "a string", None)
        return word or ""

    def choice(self, key: str, allowed: Collection[str]) -> str:
        """Read one of the allowed words."""
        value = self._value(key)
        if isinstance(value, str) and value in allowed:
            return value
        word = self._as_written(key)  # which YAML may take for something else, such as no for false
        self._reject_value(key, f"one of {', '.join(allowed)}", word, did_you_mean(word or "", allowed))
        return next(iter(allowed), "")

    def is_list(self, key: str) -> bool:
        """Whether the value is a list."""
        return isinstance(self._node(key), yaml.SequenceNode)

    def is_mapping(self, key: str) -> bool:
        """Whether the value is a mapping."""
        return isinstance(self._node(key), yaml.MappingNode)

    def items(self, key: str) -> list[Any]:
        """Read a list of at least one scalar; the caller checks them."""
        node = self._node(key)
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self._wrong.add(key)
            self._note(self._line_of(key), f"{self._path}{key} must be a list of at least one value")
            return []
        values = [self._constructed(key, item) for item in node.value]
        return [value for value in values if value is not _WRONG]

    def number(self, key: str, wanted: str) -> float | None:
        """Read a number, which the caller checks; None if it is not what is wanted."""
        value: Any = self._number(key)
        if _is_number(value):
            return value  # type: ignore[no-any-return]
        self._reject_value(key, wanted, value)
        return None

    def truth(self, key: str) -> bool:
        """Read a boolean."""
        value = self._value(key)
        if isinstance(value, bool):
            return value
        self._reject_value(key, "true or false", value)
        return False

    def positive(self, key: str) -> float:
        """Read a positive, finite number."""
        value = self._number(key)
        if _is_positive(value):
            return float(value)
        self._reject_value(key, "a positive number", value)
        return 1.0

    def not_negative(self, key: str) -> float:
        """Read a finite number of at least 0."""
        value = self._number(key)
        if _is_positive(value) or (_is_number(value) and value == 0):
            return float(value)
        self._reject_value(key, "a number of at least 0", value)
        return 1.0

    def whole(self, key: str) -> int:
        """Read an integer from 1 to 1,000,000, which no count here exceeds."""
        value = self._value(key)
        if _is_whole(value):
            return int(value)
        self._reject_value(key, f"a whole number from 1 to {_MOST}", value)
        return 1

    def whole_or(self, key: str, word: str) -> int | None:
        """Read an integer from 1 to 1,000,000, or a word that means None."""
        value = self._value(key)
        if _is_whole(value):
            return int(value)
        if value != word:
            self._reject_value(key, f"a whole number from 1 to {_MOST}, or {word}", value)
        return None

    def estimate(self, key: str) -> Estimate:
        """Read three numbers of at least 0 under low, value and high, in ascending order."""
        content = self.mapping(key)
        found = Estimate(content.not_negative("low"), content.not_negative("value"), content.not_negative("high"))
        if self.sound(key) and not found.low <= found.value <= found.high:
            self.reject(key, "low <= value <= high", tuple(found))
        return found

    def positive_estimate(self, key: str) -> Estimate:
        """Read an estimate whose three numbers are above 0."""
        found = self.estimate(key)
        if self.sound(key) and not found.low > 0:
            self.reject(key, "above 0", tuple(found))
        return found

    def mapping(self, key: str) -> YamlMapping:
        """Read a nested mapping."""
        return self._mapping(key, self._node(key), "a mapping of keys to values")

    def mapping_or(self, key: str, none: str) -> YamlMapping | None:
        """Read a nested mapping, or a word that means None."""
        node, wanted = self._node(key), f"a mapping of keys to values, or {none}"
        if isinstance(node, yaml.ScalarNode):
            if node.value == none:
                return None
            word = self._as_written(key)  # because YAML takes no for false
            self._reject_value(key, wanted, word, did_you_mean(word or "", [none]))
            node = None
        return self._mapping(key, node, wanted)

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
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode) or len(node.value) < 2:
            self._wrong.add(key)
            self._note(self._line_of(key), f"{self._path}{key} must be a list of at least two points")
            return []
        mappings = [
            self._mapping(f"{key}[{index}]", item, "a mapping of keys to values")
            for index, item in enumerate(node.value)
        ]
        for content in mappings:
            content.check_source()
        return mappings

    def check_source(self) -> None:
        """Read the source and its year, which every number needs."""
        self.text("source")
        self.whole("year")

    def finish(self, optional: Collection[str] = ()) -> None:
        """Note the keys that are missing and those that were not read, naming those that may be here.

        Args:
            optional: Keys that may be here too.

        Raises:
            HardwareError: If this is the outermost mapping and it or one in it has a mistake. A line for each.
        """
        for inner in self._inner.values():
            inner.finish()
        if not self._finished:
            self._finished = True
            self._note_keys(optional)
        if self._outer is None and self._mistakes:
            lines = [text for _, text in sorted(self._mistakes, key=lambda mistake: mistake[0])]
            raise HardwareError("\n".join(lines))

    def to_dict(self) -> dict[str, Any]:
        """Convert the content to Python values, with numbers as they are read here. For files without mistakes."""
        return {key: _plain(node) for key, node in self._nodes.items()}

    def _note_keys(self, optional: Collection[str]) -> None:
        unknown = [key for key in self._nodes if key not in self._read]
        for key in self._read if not self._absent else ():
            if key in self._nodes:
                continue
            near = get_close_matches(key, unknown, n=1)
            meant = f"; line {self._key_lines[near[0]]} has {near[0]!r}" if near else ""
            unknown = [other for other in unknown if other not in near]  # one mistake, not two
            self._note(self._line, f"the key {self._path + key!r} is missing{meant}")
        known = list(dict.fromkeys([*self._read, *optional]))
        for key in unknown:
            meant = did_you_mean(key, known) or "."
            self._note(self._key_lines[key], f"unknown key {self._path + key!r}{meant} Keys here: {', '.join(known)}")

    def _inner_is_sound(self, key: str) -> bool:
        inner = self._inner.get(key)
        return inner is None or (not inner._absent and inner.sound(*inner._read))

    def _note(self, line: int, text: str) -> None:
        self._mistakes.append((line, f"{self._file}:{line}: {text}"))

    def _line_of(self, key: str) -> int:
        return self._key_lines.get(key, self._line)

    def _reject(self, key: str, wanted: str, given: str, hint: str = "") -> None:
        self._read[key] = None
        self._wrong.add(key)
        self._note(self._line_of(key), f"{self._path}{key} must be {wanted}, got {given}{hint}")

    def _reject_value(self, key: str, wanted: str, value: object, hint: str = "") -> None:
        """Note that a scalar is not what it must be, unless a mistake in it was noted already."""
        node = self._nodes.get(key)
        if key in self._wrong or node is None:
            return
        if value is None or not node.value:
            self._reject(key, wanted, repr(value) if value == "" else "nothing")
        elif isinstance(value, str | int | float):
            self._reject(key, wanted, repr(value), hint or self._hint(key, node.value))
        else:  # such as a date
            self._reject(key, wanted, repr(node.value), hint)

    def _hint(self, key: str, written: str) -> str:
        """What to write instead of a number in a form that is none."""
        if comma := _WITH_COMMA.fullmatch(written):
            return f"; write {comma[1]}.{comma[2]}"
        if zeros := _LEADING_ZERO.fullmatch(written):
            return f"; write {zeros[1]}"
        if not _WITH_UNIT.fullmatch(written):
            return ""
        unit = _UNITS.get(key.rsplit("_", 1)[-1])
        return f"; write the number alone, in {unit}" if unit else "; write the number alone"

    def _mapping(self, key: str, node: yaml.Node | None, wanted: str) -> YamlMapping:
        if key not in self._inner:
            if node is not None and not isinstance(node, yaml.MappingNode):
                self._wrong.add(key)
                self._note(node.start_mark.line + 1, f"{self._path}{key} must be {wanted}")
                node = None
            self._inner[key] = YamlMapping(node, self._file, f"{self._path}{key}.", self)
        return self._inner[key]

    def _node(self, key: str) -> yaml.Node | None:
        """Return the node of a key; None if it is missing, which `finish` notes."""
        self._read[key] = None
        return self._nodes.get(key)

    def _number(self, key: str) -> Any:
        """Read a scalar; a number that YAML 1.1 parses as a string, such as 2.0e2, is converted."""
        return _as_number(self._value(key))

    def _value(self, key: str) -> Any:
        node = self._node(key)
        return _WRONG if node is None else self._constructed(key, node)

    def _as_written(self, key: str) -> str | None:
        """Return the text of a scalar; None if it is null, or none at all."""
        node = self._nodes.get(key)
        return node.value if isinstance(node, yaml.ScalarNode) and node.value not in ("", "~") else None

    def _constructed(self, key: str, node: yaml.Node) -> Any:
        """Return the value of a scalar; `_WRONG` if it is none, or one in a notation that few people know."""
        if not isinstance(node, yaml.ScalarNode):
            self._wrong.add(key)
            self._note(self._line_of(key), f"{self._path}{key} must be a single value")
            return _WRONG
        value = _scalar(node)
        if _is_number(value) and (":" in node.value or (isinstance(value, int) and not _DECIMAL.fullmatch(node.value))):
            zeros = _LEADING_ZERO.fullmatch(node.value)
            write = f"{zeros[1]} or {value}" if zeros else str(value)
            taken = f"{node.value}, which YAML reads as {value}; write {write}"  # 016 is octal, 1:30 counts sixties
            self._reject(key, "in decimal notation", taken)
            return _WRONG
        return value


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
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = error.problem or error.context or ""
        reason = "found a tab; write spaces instead" if r"'\t'" in problem else problem
        raise HardwareError(f"{file}:{line}: not valid YAML: {reason}") from None
    except yaml.YAMLError as error:
        raise HardwareError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise HardwareError(f"{file}: mappings and lists are nested too deeply") from None
    if node is None:
        raise HardwareError(f"{file} is empty; start from {example}")
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        raise HardwareError(f"{file}:{line}: the file must be a mapping of keys to values")
    return YamlMapping(node, file)


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


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return a question about the allowed word that is nearest, whatever its case and dashes; '' if none is near."""
    names = {name.lower().replace("_", "-"): name for name in allowed}
    near = get_close_matches(word.strip().lower().replace("_", "-"), names, n=1)
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def _scalar(node: yaml.ScalarNode) -> Any:
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError):
        return node.value


def _as_number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _plain(node: Any) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    value = _scalar(node)
    return float(value) if not node.style and _EXPONENT.fullmatch(node.value) else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and 0 < value <= sys.float_info.max


def _is_whole(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int) and 1 <= value <= _MOST
