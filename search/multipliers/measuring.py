"""Characterisation as users ask for it: of a name, or of a circuit in a file, which becomes an imported multiplier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import approx
from approx.multipliers.catalog import check_name
from approx.multipliers.evoapproxlib import Published, published_in
from approx.multipliers.reading import clearly_nearer, distance, sign_in_name
from energy import gates
from energy.cost_table import (
    ARRAY,
    EXACT,
    LAYER,
    CostKey,
    CostRow,
    built_form,
    exact_rows,
    how_to_know_costs,
    read_cost_table,
    relative_costs,
    shipped_rows,
)
from search.errors import UsageError
from search.multipliers.characterisation import MAX_BITS, MIN_BITS, characterise_rows, expected
from search.multipliers.characterised import AllErrors, Characterised, TakenCircuit
from search.multipliers.choice import find_imported
from search.multipliers.comparing import all_errors, other_tools, over_arrays, tools_used, twin_of
from search.multipliers.folder import MultiplierFolder
from search.multipliers.identity import multiplier_name
from search.multipliers.sampled_errors import SampledErrors, sampled_errors

OnRow = Callable[[int, int], None]

_BUILT = built_form(MAX_BITS, MAX_BITS)


def characterise_name(name: str, *, on_row: OnRow) -> Characterised:
    """Characterise a multiplier of the catalogue, and store its costs unless they are built in; or an imported one.

    Of an imported one there is only a table. Its costs are those that are known, or those of a member of the catalogue
    that computes the same.

    Args:
        name: Name of the multiplier.
        on_row: Called with the number of finished rows and their total.

    Raises:
        UsageError: If it is imported, and nothing says what it costs.
        approx.ApproxError: If there is no such name.
        energy.EnergyError: If a proof or a tool fails.
        StorageError: If the costs cannot be stored.
    """
    folder = MultiplierFolder.default()
    if any(known.name == multiplier_name(name) for known in folder.multipliers(on_damage=lambda _: None)):
        return _imported(find_imported(name, folder), folder, on_row=on_row)
    tools = gates.find_tools()
    rows = characterise_rows(tools, [name], on_row=on_row)
    built_in = name == EXACT or any(row.name == name for row in shipped_rows())
    if not built_in:
        folder.keep_costs(rows)
    errors = None
    with suppress(approx.ArgumentError):  # such as static segments of less than half of an operand
        errors = all_errors(
            approx.find_multiplier(
                name,
                weight_bits=MAX_BITS,
                activation_bits=MAX_BITS,
                activation_signed=False,
                weight_signed=False,
                multipliers={},
            )
        )
    return Characterised(
        name=name,
        rows=tuple(rows),
        relative=relative_costs(rows, source=tools_used())[name],
        relative_to_array=over_arrays(rows, {}),
        errors=errors,
        kept_in=None if built_in else folder.cost_file,
        kept_words="It is built in." if built_in else "",
        doubt=other_tools(),
    )


def characterise_file(
    file: Path,
    *,
    name: str | None,
    signed: bool | None,
    top: str | None,
    weight_port: str | None,
    parameters: Mapping[str, str],
    overwrite: bool,
    on_row: OnRow,
) -> Characterised:
    """Import a multiplier from a circuit, characterise it and store its costs.

    A circuit of more than 8 bits is measured and not kept, because searches have no use for it.

    Args:
        file: Verilog, SystemVerilog or BLIF; see `gates.read_source`.
        name: Name of the multiplier; None for the file's.
        signed: Whether operands and product are two's complement; None for what ports, names or products say.
        top: Name of the top module; None to find it.
        weight_port: Name of the input for the weight; None for what the names of the inputs say.
        parameters: Values of the module's parameters.
        overwrite: Whether to replace an imported multiplier of that name that computes something else.
        on_row: Called with the number of finished rows and their total.

    Raises:
        UsageError: If the file cannot be read, the sign of operands is contradictory, or the name is that of another
            multiplier and `overwrite` is false.
        approx.ApproxError: If the name is invalid, or that of a built-in multiplier.
        energy.EnergyError: If the circuit is not a multiplier, or a tool fails.
        StorageError: If the costs cannot be stored.
    """
    name = name or file.stem
    check_name(name)
    try:
        source = gates.read_source(file, top=top)
    except gates.GateDesignError as error:
        raise UsageError(str(error)) from None
    tools = gates.find_tools()
    circuit = gates.read_circuit(tools, source, weight_port=weight_port, parameters=parameters)
    signed, because = sign_of(circuit, [source.title, file.stem, name], signed)
    published = published_in(file.read_text(encoding="utf-8", errors="replace"), source.title)
    taken = TakenCircuit(
        file=file.name,
        module=circuit.title,
        activation_port=circuit.activation_port,
        activation_bits=circuit.activation_bits,
        weight_port=circuit.weight_port,
        weight_bits=circuit.weight_bits,
        signed=signed,
        signed_because=because,
        parameters={**circuit.parameters},
        published=_published_words(published),
    )
    if not circuit.has_table:
        return _wide(tools, circuit, taken, name=name, on_row=on_row)
    multiplier = approx.Multiplier(
        name=name,
        weight_bits=circuit.weight_bits,
        activation_bits=circuit.activation_bits,
        weight_signed=signed,
        activation_signed=signed,
        lut=torch.from_numpy(np.ascontiguousarray(circuit.table(signed=signed))),
        provenance=f"characterised from {file.name}",
    )
    folder = MultiplierFolder.default()
    kept = next((known for known in folder.multipliers(on_damage=lambda _: None) if known.name == name), None)
    if kept is not None and kept.digest != multiplier.digest and not overwrite:
        raise UsageError(
            f"{_difference(kept, multiplier, folder)}; replace it with `overwrite`, or choose another `name`"
        )
    rows = _measured(tools, circuit, name=name, signed=signed, on_row=on_row)
    relative = relative_costs(rows, source=tools_used())[name]
    if kept is None or kept.digest != multiplier.digest:
        own = next((cost for (form, *_), cost in relative.items() if form != LAYER), None)
        if own is not None and next(iter(relative))[0] not in (LAYER, _BUILT):
            multiplier = replace(
                multiplier,
                relative_energy=approx.Figure(own.relative_energy, own.source),
                relative_area=approx.Figure(own.relative_area, own.source),
            )
        folder.forget_costs(name)  # first, so that a new circuit never has the old one's costs
        folder.remove(name)
        folder.add(multiplier)
    folder.keep_costs(rows)
    return Characterised(
        name=name,
        rows=tuple(rows),
        relative=relative,
        relative_to_array=over_arrays(rows, {}),
        errors=all_errors(multiplier),
        kept_in=folder.cost_file,
        doubt=other_tools(),
        doubts=(*circuit.notes, *_differences(published, multiplier), *approx.doubts(multiplier)),
        circuit=taken,
        twin=twin_of(multiplier, taken.natural),
    )


def _published_words(published: Published | None) -> str:
    figures = {} if published is None else {"energy": published.energy, "area": published.area}
    return "; ".join(f"{what} {one.value:.3g}, {one.source}" for what, one in figures.items() if one is not None)


def _differences(published: Published | None, multiplier: approx.Multiplier) -> list[str]:
    """Say how errors differ from those that the file of a circuit publishes."""
    differs = "" if published is None else published.differs_from(multiplier)
    return [f"{multiplier.name}: {differs}"] if differs else []


def sign_of(circuit: gates.UserCircuit, names: Iterable[str], given: bool | None) -> tuple[bool, str]:
    """Whether a circuit's operands are signed, and what says so.

    Args:
        circuit: The circuit.
        names: Names that may say it, the first one first.
        given: What the user says; None if nothing.

    Raises:
        UsageError: If one input is declared as signed and the other is not.
    """
    if given is not None:
        return given, "as given"
    declared = circuit.signed_ports
    if len(declared) == 1:
        (one,) = declared
        other = circuit.weight_port if one == circuit.activation_port else circuit.activation_port
        raise UsageError(
            f"input {one!r} is declared as signed and {other!r} is not, and circuits of both kinds cannot be "
            "characterised; import the circuit's table or C model, with its energy: search multipliers import FILE "
            "--energy RATIO"
        )
    if declared:
        return True, "as its ports say"
    for name in names:
        said = sign_in_name(name)
        if said is not None:
            return said, "as its name says"
    unsigned, signed = (_distance(circuit, signed=signed) for signed in (False, True))
    if clearly_nearer(signed, unsigned) or clearly_nearer(unsigned, signed):
        return signed < unsigned, "because its products are then nearest to exact ones"
    return False, "as nothing says that it is signed"


def _distance(circuit: gates.UserCircuit, *, signed: bool) -> float:
    pairs, products = circuit.values(signed=signed)
    return distance(products, pairs.activations * pairs.weights)


def _difference(kept: approx.Multiplier, found: approx.Multiplier, folder: MultiplierFolder) -> str:
    """Say how a circuit differs from the imported multiplier of its name."""

    def operands(one: approx.Multiplier) -> str:
        sign = "signed" if one.weight_signed and one.activation_signed else "unsigned"
        return f"{sign} {one.activation_bits} x {one.weight_bits} bits"

    before = f"{folder.path} already has a multiplier named {kept.name!r}"
    if operands(kept) != operands(found):
        return f"{before} of {operands(kept)}, and the circuit has {operands(found)}"
    different = int((kept.table() != found.table()).sum())
    return f"{before}, of whose {kept.table().numel()} products the circuit computes {different} otherwise"


def _measured(
    tools: gates.Tools, circuit: gates.UserCircuit, *, name: str, signed: bool, on_row: OnRow
) -> list[CostRow]:
    total = gates.user_row_count(circuit, signed=signed)
    rows = []
    for row in gates.characterise_user(tools, circuit, name=name, signed=signed):
        rows.append(row)
        on_row(len(rows), total)
    return rows


def _wide(
    tools: gates.Tools, circuit: gates.UserCircuit, taken: TakenCircuit, *, name: str, on_row: OnRow
) -> Characterised:
    """Characterise a circuit that is too wide for a table."""
    rows = _measured(tools, circuit, name=name, signed=taken.signed, on_row=on_row)
    exact = {row.key: exact_rows().get(row.key) or _built_exact(tools, EXACT, row.key) for row in rows}
    arrays = {row.key: _built_exact(tools, ARRAY, row.key) for row in rows}
    readings = {signed: _distance(circuit, signed=signed) for signed in (False, True)}
    doubts = [*circuit.notes]
    if clearly_nearer(readings[not taken.signed], readings[taken.signed]):
        doubts.append(f"{name} looks {'un' * taken.signed}signed; if it is, say so with `{'un' * taken.signed}signed`")
    return Characterised(
        name=name,
        rows=tuple(rows),
        relative=relative_costs(rows, exact=exact.values(), source=tools_used())[name],
        relative_to_array=over_arrays(rows, arrays),
        errors=_errors(circuit, signed=taken.signed),
        kept_in=None,
        kept_words=f"It is measured and not kept: searches use multipliers of at most {MAX_BITS} bits.",
        doubt=other_tools(),
        doubts=tuple(doubts),
        circuit=taken,
    )


def _built_exact(tools: gates.Tools, name: str, key: CostKey) -> CostRow:
    """Build and measure an exact multiplier that is not in the table."""
    form, weight_bits, activation_bits = key
    function = gates.Exact(form=form, weight_bits=weight_bits, activation_bits=activation_bits)
    return gates.characterise(tools, name, function)


def _errors(circuit: gates.UserCircuit, *, signed: bool) -> AllErrors | SampledErrors:
    """Errors of a wide circuit: over all pairs if these were computed, else over the random ones."""
    pairs, products = circuit.values(signed=signed)
    exact = pairs.activations * pairs.weights
    worst = int(np.abs(products - exact).max())
    drawn = gates.SAMPLED_PAIRS if circuit.is_sampled else len(products)
    found = sampled_errors(products[:drawn], exact[:drawn])
    if circuit.is_sampled:
        return replace(found, wce_seen=worst)
    return AllErrors(
        mae=found.mae,
        mre_nonzero=found.mre_nonzero,
        wce=worst,
        error_probability=found.error_probability,
        pairs=found.pairs,
    )


def _imported(multiplier: approx.Multiplier, folder: MultiplierFolder, *, on_row: OnRow) -> Characterised:
    """Return the costs of an imported multiplier: known ones, or those of a built-in one that computes the same."""
    name = multiplier.name
    layers = (
        LAYER,
        min(MAX_BITS, multiplier.weight_bits + (not multiplier.weight_signed)),
        multiplier.activation_bits - multiplier.activation_signed,
    )
    twin = twin_of(multiplier, layers)
    words = ""
    if name not in folder.costs().added:
        if twin is None:
            how = how_to_know_costs(name, imported=True)
            raise UsageError(f"{name!r} was imported as a table, without a circuit to measure; {how}")
        folder.keep_costs(_rows_of_twin(name, twin.name, layers, on_row=on_row))
        words = f"Costs are those of {twin.name}, which computes the same."
    path, claim = folder.cost_file, folder.claims().get(name)
    rows = [row for row in read_cost_table(path) if row.name == name] if path.exists() else []
    if claim is not None:
        path, words = folder.claims_file, f"Costs were stated and not measured: {claim.source}."
    return Characterised(
        name=name,
        rows=tuple(rows),
        relative=folder.costs().added[name],
        relative_to_array=over_arrays(rows, {}),
        errors=all_errors(multiplier),
        kept_in=path,
        kept_words=words,
        doubt="",
        doubts=tuple(approx.doubts(multiplier)),
        twin=twin,
    )


def _rows_of_twin(name: str, twin: str, key: CostKey, *, on_row: OnRow) -> list[CostRow]:
    """The costs of a circuit of the catalogue with operands of its own and narrower widths, under another name."""
    _, most_weight, most_activation = key
    narrower = [(w, a) for w in range(MIN_BITS, most_weight + 1) for a in range(MIN_BITS, most_activation + 1)]
    if key == (LAYER, MAX_BITS, MAX_BITS):
        found = [row for row in shipped_rows() if row.name == twin and row.form == _BUILT]
    else:
        measured = [gates.Exact(weight_bits=w, activation_bits=a) for w, a in narrower]
        found = list(gates.characterise_built(gates.find_tools(), twin, expected(twin, key), measured))
    on_row(len(found), len(found))
    return [replace(row, name=name, form=form) for row in found for form in (LAYER, _BUILT)]
