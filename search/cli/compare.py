"""The command `search compare`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from search.cli import options
from search.cli.command_line import command_line
from search.cli.errors import EXIT_INTERRUPTED, in_options, interrupted, print_json, reported_errors
from search.defaults import DEFAULT_HARDWARE


@click.command()
@options.task()
@click.option("--budget", type=int, help="Evaluations of each search.  [default: 60, or what the comparison had]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every search.")
@options.effort
@options.confirm
@options.hardware
@options.workplace()
@click.option(
    "--name", help="Name of the comparison; that of a stopped one resumes it.  [default: DATASET-compare-NUMBER]"
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where to write comparison.json, .png and .svg.  [default: the comparison's name]",
)
@options.as_json
@click.pass_context
def compare(
    context: click.Context,
    budget: int | None,
    seed: int,
    effort: str | None,
    confirm: bool,
    hardware: str,
    name: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare how much each technique saves alone, in pairs, and all four together.

    Runs twelve searches of the same budget, one of them by the greedy strategy, and shows the energy
    that each saves within accuracy losses of 0.5, 1, 2 and 5 points. The --name of a stopped comparison
    resumes it.
    """
    with reported_errors(context.obj):
        import search
        from search.api._compare import free_name
        from search.api.interrupts import interruptible
        from search.report import console
        from search.report.comparison import check_folder, print_comparison, write_comparison
        from search.report.progress import open_progress
        from search.space.task_request import searched_task

        workplace = options.workplace_of(context)
        task = options.task_of(context)
        screen = console.open_console(stderr=as_json)  # JSON alone goes to stdout, so progress goes to stderr
        progress = open_progress(screen, worded=in_options)
        chosen = name
        if chosen is None:
            with interrupted("stopped before the comparison began"), progress:
                found = searched_task(task, workplace.images, on_image=progress.reading_images)
            chosen = free_name(found.name, workplace)
        folder = out or Path(chosen)
        check_folder(folder, name)
        given = {
            **options.task_words(context),
            "hardware": None if hardware == DEFAULT_HARDWARE else hardware,
            "budget": budget,
            "seed": seed or None,
            "effort": effort,
            "confirm": confirm,
            **asdict(workplace),
            "out": out,
        }
        words = ["search", "compare", "--name", chosen]
        try:
            with interruptible(progress), progress:
                comparison = search.compare(
                    task=task,
                    hardware=hardware,
                    budget=budget,
                    seed=seed,
                    effort=effort,
                    confirm=confirm,
                    name=chosen,
                    workplace=workplace,
                    observer=progress,
                )
        except KeyboardInterrupt:
            command = command_line(words, given)
            click.echo(f"\nStopped. Every finished evaluation is kept. Resume with: {command}", err=True)
            sys.exit(EXIT_INTERRUPTED)
        written = write_comparison(comparison, folder)
        if as_json:
            print_json(comparison.to_dict())
        else:
            print_comparison(screen, comparison, command=command_line(words, {**given, "confirm": True}))
        screen.print(f"Wrote {', '.join(map(str, written))}", soft_wrap=True, highlight=False, markup=False)
