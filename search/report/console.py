"""Results as tables and sentences on a console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from search.answers import words
from search.answers.confirmation import Answer
from search.answers.result import SearchResult
from search.report import sentences
from search.report.rows import MARKS, SPREAD, cells, searched, shown_front
from search.report.terminal import open_console as open_console
from search.report.terminal import plain_table as plain_table
from search.space.commands import export_command, resume_command
from search.store.records import Record, SearchRecord, TrialCounts

if TYPE_CHECKING:
    from search.multipliers.catalogue import Described  # loads torch

_WIDE = 96  # columns; narrower consoles have no room for the spread of accuracies


def print_result(console: Console, result: SearchResult, *, show_all: bool = False, ids: bool = False) -> None:
    """Print the front of a search against its baseline, and the answer for its target.

    Args:
        console: Where to print.
        result: The result of the search.
        show_all: Whether to show members of the front that are far less accurate than the baseline.
        ids: Whether rows have the ids of the evaluations instead of numbers.
    """
    baseline, answer = result.baseline, result.answer
    shown = list(result.front) if show_all else shown_front(result)
    wide = console.width >= _WIDE
    table = _table(f"Front of {searched(result)}", wide=wide)
    for number, record in enumerate(shown, 1):
        _add_row(table, record.id if ids else str(number), record, answer, wide=wide)
    table.add_section()
    best = answer.record
    # The answer is off the front if fresh runs rejected the configurations that dominate it.
    if best is not None and best not in (baseline, *result.front):
        _add_row(table, best.id if ids else "best", best, answer, wide=wide)
    _add_row(table, baseline.id if ids else "base", baseline, answer, wide=wide)
    console.print(table)
    narrow = f" (a terminal of {_WIDE} columns shows its standard error, the worst chip and the test images too)."
    lines = [
        *sentences.legend_lines(answer, about_spread=sentences.SPREAD if wide else narrow),
        *sentences.result_lines(
            result,
            whole_front="" if show_all else f"search show {result.search.name} --all",
            confirm=f"Confirm it with: {resume_command(result.search.task, result.search.name)}",
        ),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False)


def print_places(console: Console, places: Mapping[str, str]) -> None:
    """Print where results and networks were written, and the command that shows them."""
    for name, place in places.items():
        console.print(f"{name.capitalize() + ':':<11}{place}", soft_wrap=True, highlight=False, markup=False)


def print_answer(console: Console, answer: Answer) -> None:
    """Print the cheapest configuration for a target against the baseline, and whether fresh runs confirm it."""
    wide = console.width >= _WIDE
    table = _table(f"Cheapest {answer.target}", wide=wide)
    record = answer.record or answer.baseline
    if record.key != answer.baseline.key:
        _add_row(table, record.id, record, answer, wide=wide)
    _add_row(table, "base", answer.baseline, answer, wide=wide)
    console.print(table)
    for line in sentences.answer_lines(answer, confirm="Confirm it without --no-confirm"):
        console.print(line, highlight=False, markup=False)
    if answer.record is not None and (command := export_command(answer.task, record.id)):
        console.print(f"Export it with: {command}", highlight=False)


def print_searches(console: Console, searches: Sequence[SearchRecord], counts: Mapping[int, TrialCounts]) -> None:
    """Print the stored searches, a line each.

    Args:
        console: Where to print.
        searches: The searches in the order to show.
        counts: Trial counts of each search, by its id.
    """
    if not searches:
        console.print("no searches yet; make one with: search run")
        return
    table = plain_table("Stored searches, newest first (times in UTC)")
    for column in ("name", "dataset", "hardware", "seed", "evaluated", "started"):
        table.add_column(column, overflow="fold")
    for search in searches:
        table.add_row(
            search.name,
            search.task.words,
            search.hardware,
            str(search.seed),
            f"{counts[search.id].finished}/{search.budget}",
            f"{search.created_at:%Y-%m-%d %H:%M}",
        )
    console.print(table)


def print_multipliers(console: Console, listed: Sequence[Described]) -> None:
    """Print multipliers with their errors, a line each."""
    table = plain_table("Errors over all operand pairs")
    table.add_column("multiplier", overflow="fold")
    for column in ("operands", "MAE", "WCE", "MRE %", "EP %", "bias", "energy", "area"):
        table.add_column(column, justify="right", no_wrap=True)
    for described in listed:
        metrics = described.metrics
        table.add_row(
            described.multiplier.name,
            _operands(described),
            f"{metrics.mae:.4g}",
            str(metrics.wce),
            f"{metrics.mre_nonzero * 100:.3g}",
            f"{metrics.error_probability * 100:.3g}",
            f"{metrics.bias:.4g}",
            *(
                "-" if figure is None else f"{figure.value:.2f}"
                for figure in (described.relative_energy, described.relative_area)
            ),
        )
    console.print(table)
    console.print(
        "MAE, WCE: mean and largest absolute error. MRE: mean relative error of non-zero products.\n"
        "EP: share of pairs in error. Energy, area: over the exact multiplier's in gates, with a signed\n"
        "weight and the operands of a trained network.\n"
        "More: search multipliers show NAME",
        highlight=False,
    )


def print_imported(console: Console, added: Sequence[Described]) -> None:
    """Print what was taken from a file, and the multipliers' errors and costs."""
    for described in added:
        figure = described.relative_energy
        energy = "" if figure is None else f"; energy {figure.source}"
        console.print(f"{described.multiplier.name}: {described.multiplier.provenance}{energy}", highlight=False)
    print_multipliers(console, added)
    unknown = [described.multiplier.name for described in added if described.relative_energy is None]
    if unknown:
        console.print(
            f"No energy is known for {', '.join(unknown[:3])}{', ...' if len(unknown) > 3 else ''}, and searches need "
            f"it. Measure its Verilog: search multipliers characterise FILE.v --name {unknown[0]}\n"
            "or import it again with --energy RATIO, where a figure is published.",
            highlight=False,
        )


def print_multiplier(console: Console, described: Described, picture: Path) -> None:
    """Print everything known about one multiplier."""
    multiplier, metrics = described.multiplier, described.metrics
    commutes = {True: "yes", False: "no", None: "its operands differ"}[metrics.commutative]
    lines = {
        "multiplier": f"{multiplier.name}, {_operands(described)} (activation x weight)",
        "from": multiplier.provenance or "-",
        "mean absolute error": f"{metrics.mae:.6g}",
        "worst-case error": str(metrics.wce),
        "mean relative error": f"{metrics.mre_nonzero:.4%} over non-zero products, {metrics.mre_all:.4%} over all, "
        "relative to at least 1",
        "mean squared error": f"{metrics.mse:.6g}",
        "error probability": f"{metrics.error_probability:.4%}",
        "bias": f"{metrics.bias:.6g}",
        "commutative": commutes,
        "zero times x is zero": "yes" if metrics.zero_preserving else "no: pruned weights and padding are not free",
        "rank of the error": "-" if metrics.error_rank is None else str(metrics.error_rank),
        "in layers": described.method,
        **_cost_lines(described),
        "sha-256 of the table": multiplier.digest,
        "heat map": str(picture),
    }
    _print_lines(console, lines)


def _cost_lines(described: Described) -> dict[str, str]:
    """Return the costs of a multiplier, from gates and from publications."""
    lines = {}
    for form, cost in described.costs.items():
        lines[f"energy, {form}"] = (
            f"{cost.relative_energy:.3g} of the exact multiplier's for a trained network's operands, "
            f"{cost.relative_energy_held:.3g} with the weight held, {cost.relative_energy_uniform:.3g} for "
            f"uniform ones ({cost.source})"
        )
        lines[f"area, {form}"] = f"{cost.relative_area:.3g} of the exact multiplier's"
    multiplier = described.multiplier
    for what, figure in (("energy", multiplier.relative_energy), ("area", multiplier.relative_area)):
        if figure is not None and not figure.source.startswith("gates: "):
            lines[f"published {what}"] = f"{figure.value:.3g} of the exact multiplier's ({figure.source})"
    if not lines:
        lines["energy"] = f"unknown; from a circuit: search multipliers characterise {multiplier.name}"
    return lines


def print_diagnosis(console: Console, found: Mapping[str, str]) -> None:
    """Print the kernels and versions that the installation uses."""
    _print_lines(console, found)


def _print_lines(console: Console, lines: Mapping[str, str]) -> None:
    width = max(map(len, lines)) + 2
    for name, text in lines.items():
        console.print(f"{name + ':':<{width}}{text}", soft_wrap=True, highlight=False, markup=False)


def _operands(described: Described) -> str:
    multiplier = described.multiplier
    activation = f"{'s' if multiplier.activation_signed else 'u'}{multiplier.activation_bits}"
    return f"{activation} x {'s' if multiplier.weight_signed else 'u'}{multiplier.weight_bits}"


def _table(title: str, *, wide: bool) -> Table:
    table = plain_table(title)
    spread = SPREAD if wide else ()
    for column in ("", "acc %", *spread, "energy", "saves", "right-\nsized", "area"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for column in words.COLUMNS:
        # Import paths of networks and names of imported multipliers may be long.
        header = "mult." if column == "multiplier" else column  # a terminal of 80 columns is just wide enough
        table.add_column(header, overflow="fold", no_wrap=column not in ("network", "multiplier"))
    return table


def _add_row(table: Table, label: str, record: Record, answer: Answer, *, wide: bool) -> None:
    """Add an evaluation to a table, grey unless fresh runs confirm it."""
    verdict = answer.verdict(record)
    shown = {name: text for name, text in cells(record, answer).items() if wide or name not in SPREAD}
    # Layers that differ get a line each, so that the table still fits a terminal.
    shown["multiplier"] = shown["multiplier"].replace(" | ", " |\n")
    if "|" in shown["memory"]:
        shown["memory"] = shown["memory"].replace(" ", "\n")
    table.add_row(label + MARKS.get(verdict, ""), *shown.values(), style=None if verdict == "confirmed" else "dim")
