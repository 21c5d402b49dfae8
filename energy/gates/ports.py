"""The ports of a user's multiplier: which input is the activation, and which the weight."""

from __future__ import annotations

import re
from collections.abc import Mapping

from energy.gates.errors import GateDesignError

MIN_BITS, MAX_BITS = 2, 16
MAX_TABLE_BITS = 8  # of a circuit that a table of products describes, and that layers can use
MAX_PRODUCT_BITS = 31  # of such a table
_MAX_WIDE_PRODUCT_BITS = 40
_WEIGHT_WORDS = {"w", "wt", "wgt", "weight", "weights", "kernel", "filter", "coef", "coeff"}  # as in approx


def operand_ports(ports: Mapping[str, int], weight_port: str | None, parameters: Mapping[str, str]) -> tuple[str, str]:
    """Return the inputs of activation and weight: A and B, or by the name of the weight, or else in their order.

    Args:
        ports: Inputs in their order, with their widths.
        weight_port: The input of the weight; None to find it.
        parameters: The parameters of the module, for the message about widths.

    Raises:
        GateDesignError: If these are not the inputs of a multiplier.
    """
    described = ", ".join(f"{port} ({bits} bits)" for port, bits in ports.items()) or "none"
    if len(ports) != 2:
        raise GateDesignError(
            f"a multiplier has two inputs, activation and weight, and is combinational; this has {described}"
        )
    if not all(MIN_BITS <= bits <= MAX_BITS for bits in ports.values()):
        listed = ", ".join(f"{name} = {value}" for name, value in parameters.items())
        way_on = f"; its parameters are {listed}: set them with `parameters`" if listed else ""
        raise GateDesignError(f"inputs have {MIN_BITS} to {MAX_BITS} bits each; this has {described}{way_on}")
    first, second = ports
    if weight_port is not None:
        if weight_port not in ports:
            raise GateDesignError(f"`weight_port` takes one of the inputs, {first} or {second}, got {weight_port!r}")
        return (second, first) if weight_port == first else (first, second)
    words = [set(re.split(r"[\W_\d]+", port.lower())) for port in (first, second)]
    letters = [one & {"a", "b"} for one in words]
    if letters in ([{"a"}, {"b"}], [{"b"}, {"a"}]):
        is_first = letters[0] == {"b"}
    else:
        is_first = bool(words[0] & _WEIGHT_WORDS) and not words[1] & _WEIGHT_WORDS
    return (second, first) if is_first else (first, second)


def product_port_of(ports: Mapping[str, int], *, is_table: bool) -> str:
    """Return the output.

    Args:
        ports: Outputs, with their widths.
        is_table: Whether the products become a table.

    Raises:
        GateDesignError: If there are several, or it is too wide.
    """
    described = ", ".join(f"{port} ({bits} bits)" for port, bits in ports.items()) or "none"
    if len(ports) != 1:
        raise GateDesignError(f"a multiplier has one output, the product; this has {described}")
    ((port, bits),) = ports.items()
    most = MAX_PRODUCT_BITS if is_table else _MAX_WIDE_PRODUCT_BITS
    if bits > most:
        raise GateDesignError(f"the product has at most {most} bits; this has {described}")
    return port
