"""The command `search best`."""

from __future__ import annotations

import click

from search.cli import options
from search.cli.errors import in_options, print_json, reported_errors


@click.command()
@options.min_accuracy
@options.max_accuracy_drop
@options.max_area
@click.option("--knee", is_flag=True, help="Print the knee of the front above the target instead of the cheapest.")
@options.task()
@options.hardware
@options.effort
@options.confirm
@options.workplace()
@options.as_json
@click.pass_context
def best(
    context: click.Context,
    min_accuracy: float | None,
    max_accuracy_drop: float | None,
    max_area: float | None,
    knee: bool,
    hardware: str,
    effort: str | None,
    confirm: bool,
    as_json: bool,
) -> None:
    """Print the cheapest stored configuration whose accuracy fresh runs confirm.

    Stored configurations are tried by rising energy: each is retrained with other random numbers, on
    other splits of the images and for other chips. Runs are stored and reused.
    """
    with reported_errors(context.obj):
        import search
        from search.api.interrupts import interruptible
        from search.defaults import DEFAULT_EFFORT
        from search.report import console, json_values
        from search.report.progress import open_progress

        workplace = options.workplace_of(context)
        out = console.open_console(stderr=as_json)
        with open_progress(out, worded=in_options) as progress, interruptible(progress):
            answer = search.best(
                min_accuracy=min_accuracy,
                max_accuracy_drop=max_accuracy_drop,
                max_area=max_area,
                knee=knee,
                task=options.task_of(context),
                hardware=hardware,
                effort=effort or DEFAULT_EFFORT,
                confirm=confirm,
                workplace=workplace,
                observer=progress,
            )
        if as_json:
            print_json(json_values.answer_json(answer))
        else:
            console.print_answer(out, answer)
