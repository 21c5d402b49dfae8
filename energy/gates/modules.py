"""Modules in a text of Verilog without comments and directives: which is the circuit, and which parameters it has.

Words are sufficient for both, because there are no macros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from energy.gates.errors import GateDesignError

IDENTIFIER = r"[A-Za-z_]\w*"
_WORD = re.compile(r'"(?:\\.|[^"\\\n])*"|\\\S+|\d*\'[sS]?[bBoOdDhH]\w+|[A-Za-z_][\w$]*|\d[\w$]*|\S')


def top_module(text: str, top: str | None) -> str:
    """Choose the module that is the circuit; Yosys would silently choose among several.

    Args:
        text: Verilog without comments and directives.
        top: The module; by default the only one that no other module uses.

    Raises:
        GateDesignError: If there is no such module, or several could be it.
    """
    if top is not None and not re.fullmatch(IDENTIFIER, top):
        raise GateDesignError(f"`top` takes a module's name, got {top!r}")
    uses = _uses(text)
    listed = ", ".join(uses)
    if top is not None:
        if top not in uses:
            raise GateDesignError(f"there is no module {top!r}; `top` takes one of {listed or 'none'}")
        return top
    used = {other for name, others in uses.items() for other in others if other != name}
    tops = [name for name in uses if name not in used]
    # Generators write gates that nothing uses after all: one module that is made of others is the circuit.
    tops = [name for name in tops if len(tops) > 1 and uses[name]] or tops
    if len(tops) > 1:
        raise GateDesignError(
            f"{len(tops)} modules are used by no other: {', '.join(tops)}; choose the multiplier with `top`"
        )
    if not tops:
        raise GateDesignError(
            f"every module is used by another ({listed or 'none has a name'}); choose the multiplier with `top`"
        )
    return tops[0]


def parameters_of(text: str, module: str) -> dict[str, str]:
    """The parameters of a module, in order, each with its default value as it is written.

    Args:
        text: Verilog without comments and directives.
        module: Name of the module.
    """
    found: dict[str, str] = {}
    words = _bodies(text).get(module, [])
    for place, word in enumerate(words):
        if word == "parameter":
            found.update(_declared(words[place + 1 :]))
    return found


def _declared(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The names and values after `parameter`: up to a semicolon, the end of the brackets, or the next declaration."""
    name, depth = "", 0
    value: list[str] = []
    for place, word in enumerate(words):
        depth += (word in "([{") - (word in ")]}")
        if depth < 0 or (depth == 0 and word in (";", ",")):
            if value:
                yield name, " ".join(value[1:])
            following = words[place + 1] if place + 1 < len(words) else ""
            if word != "," or following in ("parameter", "localparam"):
                return
            value = []
        elif value or (depth == 0 and word == "="):
            value.append(word)
        elif depth == 0 and _is_name(word):
            name = word


def _bodies(text: str) -> dict[str, list[str]]:
    """The words of each module, after its name."""
    words: list[str] = _WORD.findall(text)
    bodies: dict[str, list[str]] = {}
    module: str | None = None
    for place, word in enumerate(words):
        if word in ("module", "macromodule"):
            named = next((other for other in words[place + 1 : place + 3] if other not in ("automatic", "static")), "")
            module = named.removeprefix("\\") if _is_name(named) else None
            if module is not None:
                bodies.setdefault(module, [])
        elif word == "endmodule":
            module = None
        elif module is not None:
            bodies[module].append(word)
    return bodies


def _uses(text: str) -> dict[str, set[str]]:
    """Find the modules of the text that each module instantiates."""
    bodies = _bodies(text)
    return {
        name: {word.removeprefix("\\") for place, word in enumerate(words) if _is_instance(words, place)}
        & bodies.keys()
        for name, words in bodies.items()
    }


def _is_instance(words: Sequence[str], place: int) -> bool:
    """Whether the word starts an instantiation: `name #(...)`, `name one (...)`, `name one [3:0]`."""
    if not _is_name(words[place]) or (place > 1 and words[place - 2 : place] == ["begin", ":"]):
        return False
    first, second = (*words[place + 1 : place + 3], "", "")[:2]
    return (first == "#" and second == "(") or (_is_name(first) and second in ("(", "["))


def _is_name(word: str) -> bool:
    return re.match(r"[A-Za-z_\\]", word) is not None
