"""A circuit of single bits, assembled in Python and written as structural Verilog.

Constants are folded and equal gates shared during assembly, so a design for narrow operands is not charged for the
gates of its missing bits. Bits are ordered from the lowest up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Bit = str | bool  # a signal's name, or a constant
Bits = list[Bit]


class Circuit:
    """One module under construction.

    Args:
        name: The module's name.
        inputs: Input ports, with their widths.
    """

    def __init__(self, name: str, inputs: Mapping[str, int]) -> None:
        self.name = name
        self._inputs = dict(inputs)
        self._outputs: dict[str, Bits] = {}
        self._assignments: list[tuple[str, str]] = []
        self._shared: dict[tuple[str, ...], str] = {}

    def port(self, name: str) -> Bits:
        """Return the bits of an input port."""
        return [f"{name}[{bit}]" for bit in range(self._inputs[name])]

    def drive(self, name: str, bits: Sequence[Bit]) -> None:
        """Connect bits to an output port."""
        self._outputs[name] = list(bits)

    def invert(self, a: Bit) -> Bit:
        """Make `not a`."""
        return (not a) if isinstance(a, bool) else self._gate("~", a)

    def all_of(self, a: Bit, b: Bit) -> Bit:
        """Make `a and b`."""
        for one, other in ((a, b), (b, a)):
            if isinstance(one, bool):
                return other if one else False
        return a if a == b else self._gate("&", a, b)

    def any_of(self, a: Bit, b: Bit) -> Bit:
        """Make `a or b`."""
        for one, other in ((a, b), (b, a)):
            if isinstance(one, bool):
                return True if one else other
        return a if a == b else self._gate("|", a, b)

    def differ(self, a: Bit, b: Bit) -> Bit:
        """Make `a xor b`."""
        for one, other in ((a, b), (b, a)):
            if isinstance(one, bool):
                return self.invert(other) if one else other
        return False if a == b else self._gate("^", a, b)

    def choose(self, select: Bit, if_set: Bit, otherwise: Bit) -> Bit:
        """Make a multiplexer: `if_set` where `select` is 1, otherwise the other bit."""
        if isinstance(select, bool):
            return if_set if select else otherwise
        if if_set == otherwise:
            return if_set
        if isinstance(if_set, bool):
            return self.any_of(select, otherwise) if if_set else self.all_of(self.invert(select), otherwise)
        if isinstance(otherwise, bool):
            return self.any_of(self.invert(select), if_set) if otherwise else self.all_of(select, if_set)
        return self._gate("?", select, if_set, otherwise)

    def any_set(self, bits: Sequence[Bit]) -> Bit:
        """Make the disjunction of all bits."""
        found: Bit = False
        for bit in bits:
            found = self.any_of(found, bit)
        return found

    def half_add(self, a: Bit, b: Bit) -> tuple[Bit, Bit]:
        """Make sum and carry of two bits."""
        return self.differ(a, b), self.all_of(a, b)

    def full_add(self, a: Bit, b: Bit, c: Bit) -> tuple[Bit, Bit]:
        """Make sum and carry of three bits."""
        variable = [bit for bit in (a, b, c) if not isinstance(bit, bool)]
        ones = sum(bit is True for bit in (a, b, c))
        if len(variable) < 3 and ones == 0:
            first, second, *_ = [*variable, False, False]
            return self.half_add(first, second)
        if len(variable) == 2:  # with a constant one
            return self.invert(self.differ(*variable)), self.any_of(*variable)
        if len(variable) < 2:
            bit: Bit = variable[0] if variable else False
            return (bit, True) if ones == 2 else (self.invert(bit), bit) if ones == 1 else (True, True)
        half, carry = self.half_add(a, b)
        total, second_carry = self.half_add(half, c)
        return total, self.any_of(carry, second_carry)

    def verilog(self) -> str:
        """Write the module as Verilog."""
        ports = [f"    input [{width - 1}:0] {name}" for name, width in self._inputs.items()]
        ports += [f"    output [{len(bits) - 1}:0] {name}" for name, bits in self._outputs.items()]
        lines = [f"module {self.name} (", ",\n".join(ports), ");"]
        lines += [f"    wire {name};" for name, _ in self._assignments]
        lines += [f"    assign {name} = {expression};" for name, expression in self._assignments]
        for name, bits in self._outputs.items():
            lines += [f"    assign {name}[{index}] = {_text(bit)};" for index, bit in enumerate(bits)]
        return "\n".join([*lines, "endmodule", ""])

    def _gate(self, operator: str, *operands: Bit) -> str:
        names = [_text(operand) for operand in operands]
        key = (operator, *(names if operator == "?" else sorted(names)))
        if key not in self._shared:
            wire = f"n{len(self._assignments)}"
            if operator == "~":
                expression = f"~{names[0]}"
            elif operator == "?":
                expression = f"{names[0]} ? {names[1]} : {names[2]}"
            else:
                expression = f" {operator} ".join(names)
            self._assignments.append((wire, expression))
            self._shared[key] = wire
        return self._shared[key]


def _text(bit: Bit) -> str:
    return f"1'b{int(bit)}" if isinstance(bit, bool) else bit
