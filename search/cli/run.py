"""The commands `search run` and `search resume`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.cli import options
from search.cli.command_line import command_line
from search.cli.errors import EXIT_INTERRUPTED, in_options, print_json, reported_errors

if TYPE_CHECKING:
    from search.answers.result import SearchResult
    from search.api.workplace import Workplace
    from search.observer import Observer


@click.command()
@options.task()
@click.option("--budget", type=int, help="Evaluations to make.  [default: 200, or what a resumed search had]")
@options.min_accuracy
@options.max_accuracy_drop
@options.max_area
@options.effort
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed finds the same front.")
@click.option(
    "--multipliers",
    metavar="NAME,NAME,...",
    help="Multipliers to choose among, beside the exact one: of the catalogue or imported, with known energy.  "
    "[default: the best of the catalogue, or what a resumed search has]",
)
@click.option(
    "--space",
    metavar="NAME|FILE.yaml",
    help="default; layered, in which the first and the last layer choose their own multiplier and robust bits; or a "
    "file that restricts or extends the space.  [default: default, or what a resumed search has]",
)
@click.option(
    "--techniques",
    metavar="NAME,NAME,...",
    help="Search only these of network, pruning, multiplier and memory.  [default: all]",
)
@click.option("--sampler", metavar="NAME", help="nsga2, nsga3, tpe, gp or random.  [default: nsga2]")
@click.option(
    "--strategy",
    type=click.Choice(["joint", "greedy"]),
    default="joint",
    show_default=True,
    help="All techniques at once, or one step of one knob at a time, for comparison.",
)
@click.option(
    "--no-prescreen",
    "prescreen",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Do not screen what nsga2 proposes by a surrogate.",
)
@click.option(
    "--asynchronous",
    is_flag=True,
    help="Let no worker wait for a generation; results then depend on the order of completion. For large clusters.",
)
@click.option(
    "--precision",
    metavar="NAME",
    help="Train in float32, float32-channels-last or bfloat16.  [default: what is fastest here]",
)
@click.option(
    "--third-objective", metavar="NAME", help="area or latency, to be minimised beside energy.  [default: none]"
)
@click.option(
    "--start",
    "starts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE.json",
    help="Begin with this candidate too; may be repeated.",
)
@click.option("--fresh", is_flag=True, help="Do not begin with the best of earlier searches with other seeds.")
@options.confirm
@options.hardware
@options.workplace()
@click.option("--name", help="Name of the search.  [default: the dataset and a number]")
@click.option(
    "--resume",
    is_flag=True,
    help="Resume the search of this --name or, without one, the newest with this dataset, network, seed, "
    "hardware and, if given, multipliers and space.",
)
@options.as_json
@click.pass_context
def run(
    context: click.Context,
    budget: int | None,
    min_accuracy: float | None,
    max_accuracy_drop: float | None,
    max_area: float | None,
    effort: str | None,
    seed: int,
    multipliers: str | None,
    space: str | None,
    techniques: str | None,
    sampler: str | None,
    strategy: str,
    prescreen: bool,
    asynchronous: bool,
    precision: str | None,
    third_objective: str | None,
    starts: tuple[Path, ...],
    fresh: bool,
    confirm: bool,
    hardware: str,
    name: str | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Search for the best trade-offs between accuracy and energy.

    Every evaluation is stored when it is done, and `search resume` resumes a search, whatever stopped it.
    In the end fresh runs confirm the cheapest configuration that is accurate enough.
    """
    with reported_errors(context.obj):
        from energy import hardware_names
        from search.api.options import SearchOptions
        from search.errors import UsageError

        workplace, task = options.workplace_of(context), options.task_of(context)
        if strategy == "greedy" and sampler is not None:
            raise UsageError("`strategy` greedy asks for no sampler; leave out `sampler`")

        def search(observer: Observer) -> SearchResult:
            import search
            from search.answers.energy import read_candidate

            return search.run(
                task=task,
                hardware=hardware,
                min_accuracy=min_accuracy,
                max_accuracy_drop=max_accuracy_drop,
                max_area=max_area,
                budget=budget,
                seed=seed,
                effort=effort,
                multipliers=None if multipliers is None else multipliers.split(","),
                options=SearchOptions(
                    name=name,
                    resume=resume,
                    space=space,
                    techniques=None if techniques is None else techniques.split(","),
                    sampler="greedy" if strategy == "greedy" else sampler,
                    prescreen=prescreen,
                    asynchronous=asynchronous,
                    precision=precision,
                    third_objective=third_objective,
                    starts=[read_candidate(path) for path in starts],
                    fresh=fresh,
                    confirm=confirm,
                ),
                workplace=workplace,
                observer=observer,
            )

        custom = None if hardware in hardware_names() else hardware
        _run(search, workplace, hardware=custom, confirm=confirm, as_json=as_json)


@click.command()
@click.argument("name", required=False)
@click.option("--budget", type=int, help="Evaluations in total.  [default: as many as it was begun with]")
@click.option("--hardware", metavar="FILE.yaml", help="The file of custom hardware.")
@options.confirm
@options.workplace()
@options.as_json
@click.pass_context
def resume(
    context: click.Context,
    name: str | None,
    budget: int | None,
    hardware: str | None,
    confirm: bool,
    as_json: bool,
) -> None:
    """Resume a search, whatever stopped it: the one of this name, or the newest that is unfinished."""
    with reported_errors(context.obj):
        workplace = options.workplace_of(context)

        def search(observer: Observer) -> SearchResult:
            import search

            return search.resume(
                name, budget=budget, hardware=hardware, confirm=confirm, workplace=workplace, observer=observer
            )

        _run(search, workplace, hardware=hardware, confirm=confirm, as_json=as_json)


def _run(
    search: Callable[[Observer], SearchResult],
    workplace: Workplace,
    *,
    hardware: str | None,
    confirm: bool,
    as_json: bool,
) -> None:
    """Run a search, show its progress and print the result.

    Args:
        search: Runs it.
        workplace: Where it works.
        hardware: Its file of custom hardware; None for built-in hardware.
        confirm: Whether its answer is confirmed.
        as_json: Whether JSON is printed.
    """
    from search.api.interrupts import interruptible
    from search.report import console, json_values
    from search.report.progress import open_progress

    out = console.open_console(stderr=as_json)  # JSON alone goes to stdout, so progress goes to stderr
    progress = open_progress(out, worded=in_options)
    try:
        with interruptible(progress), progress:
            result = search(progress)
    except KeyboardInterrupt:
        if progress.search_name is None:
            click.echo("\nStopped before the search began.", err=True)
        else:
            given = {"confirm": confirm, "hardware": hardware, **asdict(workplace)}
            command = command_line(["search", "resume", progress.search_name], given)
            click.echo(f"\nStopped. Every finished evaluation is kept. Resume with: {command}", err=True)
        sys.exit(EXIT_INTERRUPTED)
    places = _places(workplace)
    if as_json:
        print_json({**json_values.result_json(result), **places})
    else:
        console.print_result(out, result)
        console.print_places(out, places)


def _places(workplace: Workplace) -> dict[str, str]:
    """Return where a search wrote its results and its trained networks, and the command that shows them."""
    from search.locations import cache_location, printable, without_password

    shown = without_password(workplace.url)
    return {
        "storage": shown,
        "networks": printable(cache_location(workplace.cache, workplace.url)),
        "dashboard": command_line(["optuna-dashboard", shown], {}),
    }
