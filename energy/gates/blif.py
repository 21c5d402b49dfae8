"""BLIF, the Berkeley Logic Interchange Format, as Verilog (University of California, Berkeley, 1992).

No name of a file reaches the Verilog but those of the circuit's ports: models and signals are numbered. Constructs that
are not logic are refused, such as latches, gates of a library, and `.search`, which names another file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from energy.gates.errors import GateDesignError

CIRCUIT = "circuit"
_PORT = re.compile(r"(?P<name>[A-Za-z_][\w.$]*?)(?:\[(\d+)\]|<(\d+)>|\((\d+)\)|_?(\d+))")
_IGNORED = (".default_input_arrival", ".default_output_required", ".area", ".delay", ".wire_load_slope", ".end")


@dataclass(slots=True)
class _Model:
    """A model: its ports, and what drives its signals."""

    name: str
    line: int
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    tables: list[_Table] = field(default_factory=list)
    parts: list[_Part] = field(default_factory=list)


@dataclass(slots=True)
class _Table:
    """A truth table: the signals it reads, the one it drives, and its rows."""

    line: int
    inputs: list[str]
    output: str
    rows: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """An instance of a model: its ports, and the signals at them."""

    line: int
    model: str
    wired: list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBlif:
    """BLIF as Verilog.

    Attributes:
        verilog: The modules; the one that is the circuit is `CIRCUIT`.
        title: Name of the model that is the circuit.
        signals: The file's name of each signal of the Verilog.
        notes: What was supplied that the file does not say.
        driven_twice: Where a signal gets another driver, in words. Whether they differ is left to Yosys.
    """

    verilog: str
    title: str
    signals: dict[str, str]
    notes: tuple[str, ...]
    driven_twice: tuple[str, ...]


def read_blif(text: str, top: str | None = None) -> ReadBlif:
    """Turn BLIF into Verilog.

    Args:
        text: BLIF.
        top: The model that is the circuit; by default the first, as the format says.

    Raises:
        GateDesignError: If it is not combinational logic in BLIF.
    """
    models = _models(text)
    if not models:
        raise GateDesignError("there is no .model in the BLIF")
    if top is not None and top not in models:
        raise GateDesignError(f"there is no model {top!r}; `top` takes one of {', '.join(models)}")
    chosen = models[top or next(iter(models))]
    writer = _Writer(models)
    modules = [*(writer.module(model) for model in models.values()), writer.circuit(chosen)]
    return ReadBlif(
        verilog="\n".join(modules),
        title=chosen.name,
        signals=writer.signals,
        notes=tuple(writer.notes),
        driven_twice=tuple(writer.driven_twice),
    )


def _models(text: str) -> dict[str, _Model]:
    """Read all models."""
    models: dict[str, _Model] = {}
    model: _Model | None = None
    table: _Table | None = None
    for line, words in _lines(text):
        command, *rest = words
        if not command.startswith("."):
            if table is None:
                raise GateDesignError(f"line {line}: {' '.join(words)!r} is in no table")
            table.rows.append(_row(line, words, len(table.inputs)))
            continue
        table = None
        if command == ".model":
            model = _Model(" ".join(rest), line)
            if model.name in models:
                raise GateDesignError(f"line {line}: there are two models {model.name!r}")
            models[model.name] = model
        elif command in _IGNORED:
            continue
        elif model is None:
            raise GateDesignError(f"line {line}: {command} before the first .model")
        elif command == ".inputs":
            model.inputs += rest
        elif command == ".outputs":
            model.outputs += rest
        elif command == ".names" and rest:
            table = _Table(line, rest[:-1], rest[-1])
            model.tables.append(table)
        elif command == ".subckt" and rest:
            model.parts.append(_part(line, rest))
        else:
            raise GateDesignError(f"line {line}: {_why_not(command)}")
    return models


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """The words of each line that has any, without comments; a backslash at the end of a line continues it."""
    waiting: list[str] = []
    first = 0
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].rstrip()
        first = first if waiting else number
        waiting += content.removesuffix("\\").split()
        if not content.endswith("\\") and waiting:
            yield first, waiting
            waiting = []
    if waiting:
        yield first, waiting


def _row(line: int, words: list[str], inputs: int) -> tuple[str, str]:
    pattern, value = ("", words[0]) if len(words) == 1 and not inputs else (*words, "")[:2]
    if len(words) > 2 or len(pattern) != inputs or not set(pattern) <= set("01-") or value not in ("0", "1"):
        raise GateDesignError(f"line {line}: {' '.join(words)!r} is no row of a table of {inputs} inputs and an output")
    return pattern, value


def _part(line: int, words: list[str]) -> _Part:
    wired = [tuple(word.partition("=")[::2]) for word in words[1:]]
    if any("=" not in word for word in words[1:]):
        raise GateDesignError(f"line {line}: .subckt takes a model and PORT=SIGNAL for each of its ports")
    return _Part(line, words[0], [(port, signal) for port, signal in wired])


def _why_not(command: str) -> str:
    if command in (".latch", ".mlatch"):
        return "a latch; only combinational circuits can be multipliers"
    if command == ".gate":
        return "a .gate of a cell library, which is not in the file; write the circuit with .names or .subckt"
    if command == ".search":
        return ".search names another file; put all models in one"
    return f"{command} is not supported; .model, .inputs, .outputs, .names, .subckt and .end are"


class _Writer:
    """Writes models as modules, with numbers for their names and those of their signals."""

    def __init__(self, models: dict[str, _Model]) -> None:
        self._models = models
        self._numbers = {name: f"m{number}" for number, name in enumerate(models)}
        self.signals: dict[str, str] = {}
        self.notes: list[str] = []
        self.driven_twice: list[str] = []

    def module(self, model: _Model) -> str:
        """Write a model as a module of single bits."""
        names: dict[str, str] = {}
        driven = set(model.inputs)

        def signal(name: str) -> str:
            if name not in names:
                names[name] = f"n{len(self.signals)}"
                self.signals[names[name]] = name
            return names[name]

        def drive(name: str, line: int) -> str:
            if name in driven:
                self.driven_twice.append(f"line {line}: {name} has another driver")
            driven.add(name)
            return signal(name)

        ports = [f"input {signal(name)}" for name in model.inputs]
        ports += [f"output {signal(name)}" for name in model.outputs]
        body = []
        for table in model.tables:
            inputs = [signal(name) for name in table.inputs]
            body.append(f"assign {drive(table.output, table.line)} = {_expression(table, inputs)};")
        for number, part in enumerate(model.parts):
            used = self._models.get(part.model)
            if used is None:
                raise GateDesignError(f"line {part.line}: there is no model {part.model!r} in the file")
            at = self._wires(part, used)
            wires = [signal(at[port]) if port in at else "1'b0" for port in used.inputs]
            wires += [drive(at[port], part.line) if port in at else "" for port in used.outputs]
            body.append(f"{self._numbers[part.model]} u{number} ({', '.join(wires)});")
        if undriven := [name for name in names if name not in driven]:
            raise GateDesignError(f"nothing drives {undriven[0]} in model {model.name!r}; give every signal a value")
        inner = [f"wire {number};" for name, number in names.items() if name not in {*model.inputs, *model.outputs}]
        return "\n".join([f"module {self._numbers[model.name]} ({', '.join(ports)});", *inner, *body, "endmodule"])

    def _wires(self, part: _Part, used: _Model) -> dict[str, str]:
        """The signals at the ports of an instance.

        ArithsGen 1.1.4 repeats a port with its constant where the next one with the same constant should be; the
        repetition is then in the place of a port that nothing else is at. Other inputs without a signal are 0.
        """
        ports = [*used.inputs, *used.outputs]
        named = {port for port, _ in part.wired}
        if unknown := sorted(named - {*ports}):
            raise GateDesignError(f"line {part.line}: model {part.model!r} has no port {unknown[0]!r}")
        found: dict[str, str] = {}
        for place, (port, signal) in enumerate(part.wired):
            if found.get(port, signal) != signal:
                raise GateDesignError(f"line {part.line}: the port {port} is at both {found[port]} and {signal}")
            meant = port
            if port in found and place < len(ports) and ports[place] not in named:
                meant = ports[place]
                self.notes.append(f"line {part.line}: {port} is there twice; the second was taken for {meant}")
            found[meant] = signal
        self.notes += [
            f"line {part.line}: the input {port} of {part.model} is left open, and was taken as 0"
            for port in used.inputs
            if port not in found
        ]
        return found

    def circuit(self, model: _Model) -> str:
        """Write the module with whole ports: `a[0] a[1]`, `a<0>`, `a(0)`, `a_0` and `a0` are bits of `a`."""
        ports, wires = [], []
        for direction, names in (("input", model.inputs), ("output", model.outputs)):
            for port, bits in _whole(model, names).items():
                ports.append(f"{direction} [{len(bits) - 1}:0] {_escaped(port)}")
            wires += [f"{_escaped(port)}[{bit}]" for port, bit in map(_bit, names)]
        inside = f"{self._numbers[model.name]} whole ({', '.join(wires)});"
        return f"module {CIRCUIT} ({', '.join(ports)});\n{inside}\nendmodule\n"


def _expression(table: _Table, inputs: list[str]) -> str:
    """A table as a sum of products: of the rows for 1, or inverted of those for 0, which may not be mixed."""
    values = {value for _, value in table.rows}
    if len(values) == 2:
        raise GateDesignError(f"line {table.line}: the table of {table.output} has rows for both 0 and 1")
    products = []
    for pattern, _ in table.rows:
        factors = [f"~{name}" if bit == "0" else name for name, bit in zip(inputs, pattern, strict=True) if bit != "-"]
        products.append(" & ".join(factors) or "1'b1")
    total = " | ".join(f"({one})" for one in products) or "1'b0"  # a table without rows is 0
    return f"~({total})" if values == {"0"} else total


def _whole(model: _Model, names: list[str]) -> dict[str, set[int]]:
    ports: dict[str, set[int]] = {}
    for name in names:
        port, bit = _bit(name)
        if bit in ports.setdefault(port, set()):
            raise GateDesignError(f"model {model.name!r} has the port {name!r} twice")
        ports[port].add(bit)
    for port, bits in ports.items():
        if bits != set(range(len(bits))):
            raise GateDesignError(
                f"the bits of port {port!r} of model {model.name!r} are {', '.join(map(str, sorted(bits)))}; "
                "they are numbered from 0"
            )
    return ports


def _bit(name: str) -> tuple[str, int]:
    """The port and the number of a bit; a name without a number is a port of one bit."""
    found = _PORT.fullmatch(name)
    if found is not None:
        return found["name"], int(next(one for one in found.groups()[1:] if one is not None))
    if not re.fullmatch(r"[A-Za-z_][\w.$]*", name):
        raise GateDesignError(f"{name!r} is no name of a port; give one such as a[0]")
    return name, 0


def _escaped(name: str) -> str:
    return f"\\{name} "
