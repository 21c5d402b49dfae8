"""The text of a user's circuit: one self-contained piece of Verilog, whose lines are known by the user's files.

Public files are made of several: parameters in an included file, constants by `define, parts behind `ifdef. They are
put together here and not by Yosys, which would also include any other file of this machine, read memories from files,
and call functions of loaded libraries. What is left has no directive that does anything, and is checked for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from energy.gates.blif import CIRCUIT, read_blif
from energy.gates.errors import GateDesignError
from energy.gates.modules import parameters_of, top_module

MAX_TEXT = 1_000_000
BLIF_SUFFIX = ".blif"
SYSTEM_VERILOG_SUFFIX = ".sv"
VHDL_SUFFIXES = (".vhd", ".vhdl")
SUFFIXES = (".v", SYSTEM_VERILOG_SUFFIX, BLIF_SUFFIX, *VHDL_SUFFIXES)

_MAX_DEPTH = 32  # of files that include each other
_HARMLESS_FUNCTIONS = {"$signed", "$unsigned", "$clog2", "$bits"}
_HARMLESS_DIRECTIVES = {"timescale", "default_nettype", "celldefine", "endcelldefine", "resetall"}
_CONDITIONS = {"ifdef", "ifndef", "elsif", "else", "endif"}
_COMMENT = re.compile(r"(\"(?:\\.|[^\"\\\n])*\")|//[^\n]*|/\*.*?\*/", re.DOTALL)
_BACKTICK = re.compile(r'(?P<kept>"(?:\\.|[^"\\\n])*"|\\\S+)|`(?P<word>\w*)')
_NAME = re.compile(r"[ \t]*([A-Za-z_]\w*)")
_FILE = re.compile(r'[ \t]*"([^"\n]+)"')

Included = Callable[[str, str], tuple[str, str]]  # name in the directive, including file -> the file's name, its text


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A circuit as Verilog that is safe to give to the tools.

    Attributes:
        text: The Verilog, without comments.
        places: The user's file and line of each line of it; the file is empty for the one that was named.
        module: The module that is the circuit.
        title: The user's name of it.
        parameters: The module's parameters, each with its default value as it is written.
        signals: The user's names of signals that are called otherwise in the text.
        driven_twice: Where the file gives a signal another driver, in words, as far as that is known.
        notes: What was supplied that the file does not say.
        system_verilog: Whether the text is SystemVerilog.
    """

    text: str
    places: tuple[tuple[str, int], ...]
    module: str
    title: str
    parameters: dict[str, str] = field(default_factory=dict)
    signals: dict[str, str] = field(default_factory=dict)
    driven_twice: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    system_verilog: bool = False

    def place(self, line: int) -> str:
        """The user's words for a line of the text, counted from 1."""
        return _in_words(*self.places[min(line, len(self.places)) - 1])


def read_source(file: Path, *, top: str | None = None) -> Source:
    """Read a circuit, and the files of its folder that it includes.

    Args:
        file: Verilog, SystemVerilog (.sv) or BLIF (.blif).
        top: The module; by default the only one that no other module uses, in BLIF the first.

    Raises:
        GateDesignError: If it cannot be read, is not self-contained with the files of its folder, or several modules
            could be the circuit.
    """
    suffix = file.suffix.lower()
    if suffix in VHDL_SUFFIXES:
        raise GateDesignError(
            f"{file}: VHDL is not supported; convert it to Verilog, for example with ghdl synth --out=verilog"
        )
    text = _read(file, "")
    if suffix == BLIF_SUFFIX:
        return source_of_blif(text, top=top)
    folder = file.resolve().parent
    return source_of_verilog(
        text,
        top=top,
        included=lambda name, including: _included(folder, name, including),
        system_verilog=suffix == SYSTEM_VERILOG_SUFFIX,
    )


def source_of_verilog(
    text: str, *, top: str | None = None, included: Included | None = None, system_verilog: bool = False
) -> Source:
    """Put a circuit's text together from its files, macros and conditions.

    Args:
        text: Verilog.
        top: The module; by default the only one that no other module uses.
        included: Finds an included file; None if there are none.
        system_verilog: Whether it is SystemVerilog.

    Raises:
        GateDesignError: If it is not self-contained, or several modules could be the circuit.
    """
    put_together = _Preprocessor(included)
    put_together.add_file("", text)
    whole, places = put_together.text, put_together.places
    _check(whole, places)
    module = top_module(whole, top)
    return Source(
        text=whole,
        places=tuple(places),
        module=module,
        title=module,
        parameters=parameters_of(whole, module),
        system_verilog=system_verilog,
    )


def source_of_blif(text: str, *, top: str | None = None) -> Source:
    """Turn BLIF into Verilog.

    Raises:
        GateDesignError: If it is not BLIF of combinational logic.
    """
    found = read_blif(_short(text), top)
    return Source(
        text=found.verilog,
        places=(("", 1),),
        module=CIRCUIT,
        title=found.title,
        signals=found.signals,
        driven_twice=found.driven_twice,
        notes=found.notes,
    )


def _check(text: str, places: list[tuple[str, int]]) -> None:
    """Check that text without directives reads no files and calls no functions of other languages."""
    if not re.search(r"\bmodule\b", text):
        raise GateDesignError("there is no module in the Verilog")
    for found in re.finditer(r"\$\w+|\bimport\b|\"DPI", text):
        place = _in_words(*places[text.count("\n", 0, found.start())])
        if not found[0].startswith("$"):
            raise GateDesignError(
                f"{place}: {found[0]} is not supported: a circuit cannot call functions of other languages"
            )
        if found[0] not in _HARMLESS_FUNCTIONS:
            raise GateDesignError(f"{place}: {found[0]} is not allowed in a circuit")


@dataclass(slots=True)
class _Condition:
    """An `ifdef or `ifndef that is not closed yet: whether its text is kept, and whether a branch of it was."""

    line: int
    holds: bool
    had: bool


class _Preprocessor:
    """Puts text together, and notes where each line of it is from."""

    def __init__(self, included: Included | None) -> None:
        self._included = included
        self._parts: list[str] = []
        self._size = 0
        self._macros: dict[str, str] = {}
        self._spent = 0  # characters of all macros used, which bounds the time and the memory that they take
        self._open: list[str] = []  # files that are being put in
        self.places: list[tuple[str, int]] = [("", 1)]

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def add_file(self, file: str, text: str) -> None:
        """Add a file's text without comments, and what its directives ask for."""
        if len(self._open) == _MAX_DEPTH:
            raise GateDesignError(f"files include each other more than {_MAX_DEPTH} deep, down to {file}")
        self._open.append(file)
        # Line breaks stay, so that errors name the user's line numbers.
        text = _COMMENT.sub(lambda found: found[1] or "\n" * found[0].count("\n") or " ", _short(text))
        conditions: list[_Condition] = []
        position, line = 0, 1
        while found := _BACKTICK.search(text, position):
            stop = found.start() if found["kept"] is None else found.end()
            self._add(text[position:stop], file, line, kept=all(one.holds for one in conditions))
            line += text.count("\n", position, stop)
            position = stop
            if found["kept"] is None:
                try:
                    position = self._directive(file, line, text, found, conditions)
                except _ProblemError as problem:
                    raise GateDesignError(f"{_in_words(file, line)}: {problem}") from None
                line += text.count("\n", stop, position)
        self._add(text[position:], file, line, kept=all(one.holds for one in conditions))
        if conditions:
            raise GateDesignError(f"{_in_words(file, conditions[-1].line)}: this condition has no endif")
        self._open.pop()

    def _directive(self, file: str, line: int, text: str, found: re.Match[str], conditions: list[_Condition]) -> int:
        """Do what the word after a backtick says, and return where the text goes on."""
        word, position = found["word"], found.end()
        if word in _CONDITIONS:
            return self._condition(word, line, text, position, conditions)
        if not all(one.holds for one in conditions):
            return position
        if word == "include":
            return self._include(file, line, text, position)
        if word in ("define", "undef"):
            name, position = _named(text, position, word)
            if word == "undef":
                self._macros.pop(name, None)
                return position
            if text[position : position + 1] == "(":
                raise _ProblemError(f"the macro {name} has arguments, which is not supported; write a function")
            body = re.compile(r"(?:\\\n|[^\n])*").match(text, position)
            assert body is not None
            self._macros[name] = body[0].replace("\\\n", " ").strip()
            return body.end()
        self._add(f"`{word}" if word in _HARMLESS_DIRECTIVES else self._expanded(word, ()), file, line, kept=True)
        return position

    def _condition(self, word: str, line: int, text: str, position: int, conditions: list[_Condition]) -> int:
        if word in ("ifdef", "ifndef"):
            name, position = _named(text, position, word)
            holds = (name in self._macros) == (word == "ifdef")
            conditions.append(_Condition(line, holds, holds))
            return position
        if not conditions:
            raise _ProblemError(f"{word} without a condition")
        one = conditions[-1]
        if word == "endif":
            conditions.pop()
            return position
        holds = not one.had
        if word == "elsif":
            name, position = _named(text, position, word)
            holds = holds and name in self._macros
        one.holds = holds
        one.had = one.had or holds
        return position

    def _include(self, file: str, line: int, text: str, position: int) -> int:
        named = _FILE.match(text, position)
        if named is None or self._included is None:
            raise _ProblemError('only include "FILE" of a file beside the circuit is supported')
        name, content = self._included(named[1], file)
        if name in self._open:
            raise _ProblemError(f"{name} includes itself")
        self._newline(name, 1)
        self.add_file(name, content)
        self._newline(file, line)
        return named.end()

    def _expanded(self, name: str, using: tuple[str, ...]) -> str:
        """Return a macro's text, with the macros in it."""
        if name not in self._macros:
            raise _ProblemError(f"`{name} is no macro that was defined, and no directive that is supported")
        if name in using:
            raise _ProblemError(f"the macro {name} uses itself")
        body = self._macros[name]
        self._spent += len(body) + 1
        if self._spent > MAX_TEXT:
            raise _ProblemError(f"macros grow to more than {MAX_TEXT} characters")
        return _BACKTICK.sub(lambda found: found["kept"] or self._expanded(found["word"], (*using, name)), body)

    def _add(self, text: str, file: str, line: int, *, kept: bool) -> None:
        breaks = text.count("\n")
        self._parts.append(text if kept else "\n" * breaks)
        self.places += [(file, line + one) for one in range(1, breaks + 1)]
        self._size += len(text)
        if self._size > MAX_TEXT:
            raise GateDesignError(f"the circuit has more than {MAX_TEXT} characters with all that it includes")

    def _newline(self, file: str, line: int) -> None:
        self._parts.append("\n")
        self.places.append((file, line))


class _ProblemError(GateDesignError):
    """A problem at a place that the caller knows."""


def _named(text: str, position: int, directive: str) -> tuple[str, int]:
    """Return the name after a directive, and where the text goes on."""
    found = _NAME.match(text, position)
    if found is None:
        raise _ProblemError(f"{directive} needs a name")
    return found[1], found.end()


def _included(folder: Path, name: str, including: str) -> tuple[str, str]:
    """Find an included file: beside the file that includes it, or else beside the circuit.

    Raises:
        GateDesignError: If it is not in the folder of the circuit, or cannot be read.
    """
    for start in ((folder / including).parent if including else folder, folder):
        path = (start / name).resolve()
        if Path(name).is_absolute() or not path.is_relative_to(folder):
            raise _ProblemError(f"{name!r} is outside of the circuit's folder, from which alone files are included")
        if path.is_file():
            own = path.relative_to(folder).as_posix()
            return own, _read(path, own)
    raise _ProblemError(f"{name!r} is not in {folder}; put it beside the circuit")


def _read(file: Path, name: str) -> str:
    shown = name or str(file)
    try:
        if file.stat().st_size > MAX_TEXT:
            raise GateDesignError(f"{shown} has more than {MAX_TEXT} bytes; a multiplier has far fewer")
        content = file.read_bytes()
    except OSError as error:
        raise GateDesignError(f"cannot read {shown}: {error.strerror or error}") from None
    if b"\0" in content:
        raise GateDesignError(f"{shown} is not a text file")
    return content.decode("utf-8-sig", errors="replace")  # of which only comments have other letters


def _short(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise GateDesignError(f"the circuit has {len(text)} characters; at most {MAX_TEXT} are read")
    return text


def _in_words(file: str, line: int) -> str:
    return f"{file}, line {line}" if file else f"line {line}"
