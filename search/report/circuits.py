"""Characterised multipliers on a console."""

from __future__ import annotations

from rich.console import Console

from search.multipliers.characterised import ARRAY_DESIGNS, EXACT_DESIGNS, AllErrors, Characterised, TakenCircuit
from search.multipliers.sampled_errors import SampledErrors
from search.report.terminal import plain_table


def print_characterised(console: Console, found: Characterised) -> None:
    """Print errors and costs of a multiplier: a user's circuit at its own width first, others at all."""
    table = plain_table(f"{found.name}, over an exact multiplier of the same operands")
    table.add_column("operands")
    for column in ("energy", "weight held", "uniform", "area", "energy/array", "uniform/array", "cells"):
        table.add_column(column, justify="right", no_wrap=True)
    for key in found.shown:
        form, weight_bits, activation_bits = key
        cost, array = found.relative[key], found.relative_to_array.get(key)
        ratios = [cost.relative_energy, cost.relative_energy_held, cost.relative_energy_uniform, cost.relative_area]
        others = [None, None] if array is None else [array.relative_energy, array.relative_energy_uniform]
        cells = found.cells(key)
        table.add_row(
            f"{form}, {activation_bits} x {weight_bits}",
            *("-" if value is None else f"{value:.3f}" for value in (*ratios, *others)),
            "-" if cells is None else str(cells),
        )
    forms = dict.fromkeys(form for form, _, _ in found.shown)
    lines = [] if found.circuit is None else [_circuit_line(found.circuit)]
    lines += [_errors_line(found.errors)] if found.errors is not None else []
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)  # ports may have any name
    console.print(table)
    lines = [
        f"Exact, {form}: {EXACT_DESIGNS[form]}{f'; array: {ARRAY_DESIGNS[form]}' * bool(found.relative_to_array)}."
        for form in forms
    ]
    if found.circuit is not None and found.circuit.published:
        lines.append(f"Published in its file: {found.circuit.published}.")
    if found.circuit is not None and found.kept_in is not None:
        lines.append("Narrower operands run in the whole circuit.")
    if found.dearer is not None:
        _, weight_bits, activation_bits = found.dearer
        array = found.relative_to_array.get(found.dearer)
        over_array = "" if array is None else f", and {array.relative_energy:.2f} times that of an exact array"
        lines.append(
            f"In layers of {activation_bits} x {weight_bits} bits it takes more energy than the exact multiplier: "
            f"{found.relative[found.dearer].relative_energy:.2f} times as much{over_array}."
        )
    if found.twin is not None:
        lines.append(f"The same products as {found.twin.name}, which takes {found.twin.relative_energy:.2f}.")
    kept = " ".join(word for word in (found.kept_words, found.kept_in and f"Kept in {found.kept_in}") if word)
    lines += [
        "Energy: for a trained network's operands, both new for each product; weight held: each weight",
        "stays for many products; uniform: all operands equally likely. Layer: signed weight, unsigned",
        f"activation. Published ratios are often over an array. Other widths: --json. {kept}",
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _circuit_line(circuit: TakenCircuit) -> str:
    sign = "signed" if circuit.signed else "unsigned"
    parameters = "".join(f"; {name} = {value}" for name, value in circuit.parameters.items())
    return (
        f"Circuit: module {circuit.module} of {circuit.file}; activation {circuit.activation_port} "
        f"({circuit.activation_bits} bits), weight {circuit.weight_port} ({circuit.weight_bits} bits); "
        f"{sign}, {circuit.signed_because}{parameters}"
    )


def _errors_line(errors: AllErrors | SampledErrors) -> str:
    if isinstance(errors, AllErrors):
        return (
            f"Errors over all {errors.pairs:,} pairs: mean absolute {errors.mae:.4g}, mean relative "
            f"{errors.mre_nonzero:.2%}, worst {errors.wce}; wrong in {errors.error_probability:.2%}"
        )
    return (
        f"Errors over {errors.pairs:,} random pairs, bounds with 99 % confidence: mean absolute {errors.mae:.4g} (at "
        f"most {errors.mae_most:.4g}), mean relative {errors.mre_nonzero:.2%}; wrong in {errors.error_probability:.2%} "
        f"({errors.error_probability_least:.3%} to {errors.error_probability_most:.3%}); worst seen {errors.wce_seen}, "
        "which the worst of all may exceed"
    )
