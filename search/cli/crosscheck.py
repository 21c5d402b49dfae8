"""The command `search crosscheck`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from search.cli import options
from search.cli.errors import print_json, reported_errors

if TYPE_CHECKING:
    from rich.console import Console

    from search.crosscheck.agreement import Agreement, Crosscheck

_SECONDS_BETWEEN_LINES = 5.0


@click.command()
@click.argument("name")
@click.option("--members", type=int, metavar="N", help="Score N members of the front, evenly spread.  [default: all]")
@click.option(
    "--hardware",
    metavar="FILE.yaml",
    help="Accelerator of the search, if it is a custom one.",
)
@options.workplace("storage")
@options.as_json
@click.pass_context
def crosscheck(context: click.Context, name: str, members: int | None, hardware: str | None, as_json: bool) -> None:
    """Score a search's front with ZigZag, and compare the rankings.

    Both models get the same layers, array, memories and energies per bit, and score every network as
    if it were dense. Takes some seconds for each different layer. ZigZag is installed with
    pip install 'crosslayer[crosscheck]'.
    """
    with reported_errors(context.obj):
        from search.answers.result import result_of
        from search.crosscheck import agreement
        from search.crosscheck.zigzag import load_zigzag
        from search.multipliers.folder import MultiplierFolder
        from search.multipliers.known import stored_costs
        from search.report import console
        from search.store.database import Store

        load_zigzag()  # first, so that a missing ZigZag is reported before anything else
        with Store.open(options.workplace_of(context).url, create=False) as store:
            search = store.searches.find(name)
            front = result_of(store, search, evaluations=False).front
        accelerator = agreement.hardware_of(search.hardware, hardware)
        chosen = agreement.spread(front, members)
        multipliers = {name for record in chosen for name in record.evaluation.candidate.multipliers}
        costs = stored_costs(multipliers, MultiplierFolder.default())
        found = agreement.crosscheck(chosen, accelerator, costs=costs, on_layer=_progress())
        if as_json:
            print_json(_as_json(name, accelerator.identity, len(front), found))
        else:
            _print(console.open_console(), name, accelerator.identity, len(front), found)


def _progress() -> Callable[[int, int, float], None]:
    """Return a callback that prints a line on stderr at the beginning, and then every few seconds."""
    last_line = 0.0

    def on_layer(done: int, layers: int, seconds_left: float) -> None:
        nonlocal last_line
        if done and time.monotonic() - last_line < _SECONDS_BETWEEN_LINES and done < layers:
            return
        last_line = time.monotonic()
        left = f", about {seconds_left:.0f} s left" if done < layers else ""
        click.echo(f"ZigZag: {done} of {layers} different layers scored{left}", err=True)

    return on_layer


def _print(console: Console, name: str, hardware: str, size: int, found: Crosscheck) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from search.answers import words

    scored = len(found.records)
    title = f"Front of {name} on {hardware} by two models" + (f", {scored} of {size} members" if scored < size else "")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("id", no_wrap=True)
    for column in ("acc %", "searched", "dense", "ZigZag", "ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in words.COLUMNS:
        table.add_column(column, overflow="fold", no_wrap=column != "network")
    for record, comparison in zip(found.records, found.comparisons, strict=True):
        table.add_row(
            record.id,
            words.percent(record.evaluation.accuracy),
            words.energy(record.evaluation.energy_pj),
            words.energy(comparison.ours.total_pj),
            words.energy(comparison.zigzag.total_pj),
            f"{comparison.ratio:.2f}",
            *words.configuration(record.evaluation.candidate).values(),
        )
    console.print(table)
    ratios = [comparison.ratio for comparison in found.comparisons]
    for line in (
        f"Rank agreement of dense and ZigZag, like for like: {_words(found.dense)}.",
        f"Of searched and ZigZag: {_words(found.searched)}.",
        f"ZigZag's energy is {min(ratios):.2f} to {max(ratios):.2f} of ours; {found.layers} different layers, "
        f"{found.seconds:.0f} s.",
        *_choices(found),
        "Dense, ZigZag: MACs, memories and DRAM of the network as if it had no zeros, which ZigZag does not model; no "
        "registers, clock, biases, requantisation, leakage, metadata.",
        "Searched: the figure of the search, which has them all. ZigZag chooses the order of loops itself.",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _choices(found: Crosscheck) -> list[str]:
    if found.same_dataflow is None:
        return []
    return [
        f"Of {found.layers} different layers ZigZag would choose the same dataflow for {found.same_dataflow}, by its "
        "memories alone."
    ]


def _words(agreement: Agreement) -> str:
    if agreement.spearman is None or agreement.kendall is None:
        return "undefined, as there is nothing to rank"
    return f"Spearman {agreement.spearman:.3f}, Kendall {agreement.kendall:.3f}"


def _as_json(name: str, hardware: str, size: int, found: Crosscheck) -> dict[str, Any]:
    return {
        "name": name,
        "hardware": hardware,
        "front": size,
        "layers": found.layers,
        "same_dataflow": found.same_dataflow,
        "seconds": found.seconds,
        "agreement": {"dense": asdict(found.dense), "searched": asdict(found.searched)},
        "members": [
            {
                "id": record.id,
                "accuracy": record.evaluation.accuracy,
                "searched_pj": record.evaluation.energy_pj,
                "dense_pj": comparison.ours.total_pj,
                "zigzag_pj": comparison.zigzag.total_pj,
                "ratio": comparison.ratio,
                "dense_components_pj": asdict(comparison.ours),
                "zigzag_components_pj": asdict(comparison.zigzag),
            }
            for record, comparison in zip(found.records, found.comparisons, strict=True)
        ],
    }
