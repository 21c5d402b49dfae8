"""A characterised multiplier: its circuit, its errors and its costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from energy.cost_table import BUILT_WIDTHS, LAYER, CostKey, CostRow, MultiplierCost, built_form
from search.multipliers.sampled_errors import SampledErrors

_MAX_BITS = 8  # of weights in layers

# The designs of the exact multiplier, of which the cheapest counts for each kind of operands.
EXACT_DESIGNS: Mapping[str, str] = {
    "layer": "a Dadda tree of magnitudes or Baugh-Wooley, whichever takes less",
    "unsigned": "a Dadda tree or a carry-save array, whichever takes less",
    "signed": "a Dadda tree of magnitudes or Baugh-Wooley, whichever takes less",
}
ARRAY_DESIGNS: Mapping[str, str] = {
    "layer": "a carry-save array of magnitudes or of a two's complement weight, whichever takes less",
    "unsigned": "a carry-save array",
    "signed": "a Baugh-Wooley array",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenCircuit:
    """A circuit that was read from a user's file.

    Attributes:
        file: Name of the file.
        module: Name of the module.
        activation_port: Name of the input for the activation.
        activation_bits: Width of that input.
        weight_port: Name of the input for the weight.
        weight_bits: Width of that input.
        signed: Whether operands and product are two's complement.
        signed_because: What says so, such as "as its name says".
        parameters: The parameters that were set.
        published: What its file publishes of its energy and area, in words, as EvoApproxLib's do; empty if nothing.
    """

    file: str
    module: str
    activation_port: str
    activation_bits: int
    weight_port: str
    weight_bits: int
    signed: bool
    signed_because: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    published: str = ""

    @property
    def natural(self) -> CostKey:
        """The widest form in which layers use it.

        An unsigned circuit takes magnitudes of weights that are a bit wider, up to 8 bits; unsigned activations leave
        the sign bit of a signed input unused.
        """
        weight_bits = self.weight_bits
        if not self.signed and weight_bits < _MAX_BITS:
            weight_bits += 1
        return LAYER, weight_bits, self.activation_bits - self.signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """A multiplier of the catalogue that computes the same products.

    Attributes:
        name: Its name.
        relative_energy: Its energy in layers, relative to the exact multiplier.
    """

    name: str
    relative_energy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AllErrors:
    """Errors over all pairs of operands; see `approx.ErrorMetrics`.

    Attributes:
        mae: Mean absolute error.
        mre_nonzero: Mean relative error over the pairs whose exact product is not zero.
        wce: The largest absolute error.
        error_probability: Share of pairs with any error.
        pairs: Number of pairs.
    """

    mae: float
    mre_nonzero: float
    wce: int
    error_probability: float
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Characterised:
    """A characterised multiplier.

    Attributes:
        name: Name of the multiplier.
        rows: Its figures for every form and width at which it was measured; none if its costs were given.
        relative: The costs relative to the exact multiplier.
        relative_to_array: The costs relative to an exact carry-save array, where there is one of the form and widths.
        errors: Its errors; None for a member of the catalogue that does not support 8 x 8 bits.
        kept_in: Table to which the costs were added; None if they are built in, or not kept.
        kept_words: Why it is in no table of the user, or what else is to be said of where it is; empty if nothing is.
        doubt: Why the costs are less comparable with the built-in ones of the exact multiplier; empty if they are not.
        doubts: What looks wrong in it, and what was supplied that its file does not say.
        circuit: The circuit from a user's file; None for a name.
        twin: The cheapest multiplier of the catalogue with the same products; None if there is none.
    """

    name: str
    rows: tuple[CostRow, ...]
    relative: Mapping[CostKey, MultiplierCost]
    relative_to_array: Mapping[CostKey, MultiplierCost]
    errors: AllErrors | SampledErrors | None
    kept_in: Path | None
    kept_words: str = ""
    doubt: str
    doubts: tuple[str, ...] = ()
    circuit: TakenCircuit | None = None
    twin: Twin | None = None

    @property
    def shown(self) -> list[CostKey]:
        """The costs to print: at the full width and two narrower ones, for a name of the catalogue all equal widths."""
        own = [key for key in self.relative if key[0] in ("unsigned", "signed")]
        layers = [key for key in self.relative if key[0] == LAYER]
        if self.circuit is not None and self.circuit.natural in layers:
            widest = self.circuit.natural
        elif self.circuit is None and (LAYER, 8, 8) in layers and len(layers) > len(BUILT_WIDTHS):
            return [*own, *(key for key in layers if key[1] == key[2])]
        else:
            widest = max(layers, key=lambda key: (key[1] * key[2], key))
        equal = [(LAYER, bits, bits) for bits in range(min(widest[1:]), 1, -1) if bits % 2 == 0]
        narrower = [key for key in equal if key in self.relative and key != widest]
        return [*own, widest, *narrower[:2]]

    @property
    def dearer(self) -> CostKey | None:
        """The form and widths in layers at which it takes more energy than the exact one; None if it takes less."""
        widest = [key for key in self.shown if key[0] == LAYER][:1] if self.circuit else [(LAYER, 8, 8)]
        return next((key for key in widest if key in self.relative and self.relative[key].relative_energy > 1), None)

    def cells(self, key: CostKey) -> int | None:
        """Number of cells of the circuit; None if it was not measured."""
        return next((row.cells for row in self.rows if row.key == key), None)


def as_json(found: Characterised) -> dict[str, Any]:
    """Return a characterised multiplier as a JSON object."""
    rows = {row.key: asdict(row) for row in found.rows}
    built = {built_form(*widths) for widths in BUILT_WIDTHS}

    def cost(key: CostKey) -> dict[str, Any]:
        form, weight_bits, activation_bits = key
        described = {"name": found.name, "form": form, "weight_bits": weight_bits, "activation_bits": activation_bits}
        array = found.relative_to_array.get(key)
        return {
            **rows.get(key, described),
            "relative": asdict(found.relative[key]),
            "relative_to": EXACT_DESIGNS["layer" if form in built else form],
            "relative_to_array": None if array is None else asdict(array),
        }

    return {
        "name": found.name,
        "kept_in": None if found.kept_in is None else str(found.kept_in),
        "kept": found.kept_words or None,
        "doubt": found.doubt or None,
        "doubts": [*found.doubts],
        "circuit": None if found.circuit is None else asdict(found.circuit),
        "errors": None if found.errors is None else asdict(found.errors),
        "same_products_as": None if found.twin is None else asdict(found.twin),
        "dearer_than_exact": found.dearer is not None,
        "costs": [cost(key) for key in found.relative],
    }
