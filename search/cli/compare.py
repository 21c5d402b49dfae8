"""The command `search compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from search.cli import options
from search.cli.errors import print_json, reported_errors
from search.cli.running import EXIT_INTERRUPTED, command_line, interruptible, open_progress


@click.command()
@options.dataset
@options.network
@click.option("--budget", type=int, help="Evaluations of each search.  [default: 60, or what the comparison had]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of every search.")
@options.effort
@options.confirm
@options.hardware
@options.storage
@options.work
@click.option("--name", help="Of the comparison; of one that was stopped, to go on.  [default: DATASET-compare-NUMBER]")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where to write comparison.json, .png and .svg.  [default: the comparison's name]",
)
@options.as_json
@click.pass_obj
def compare(
    debug: bool,
    /,
    name: str | None,
    out: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Say how much each technique saves alone, in pairs, and all four together.

    Twelve searches of the same budget, one of them by the greedy strategy, and the energy that each
    saves within accuracy losses of 0.5, 1, 2 and 5 points. Given the --name of a comparison that was
    stopped, it goes on where it was.
    """
    with reported_errors(debug):
        from search.api import _compare as comparing
        from search.report import comparison as output
        from search.report import console as tables

        chosen = name or comparing.free_name(settings["dataset"], storage=settings["storage"])
        folder = out or Path(chosen)
        output.check_folder(folder, name)
        console = tables.open_console(stderr=as_json)  # where stdout carries JSON, progress goes to stderr
        progress = open_progress(console)
        try:
            with interruptible(progress), progress:
                comparison = comparing.compare(**settings, name=chosen, observer=progress)
        except KeyboardInterrupt:
            command = _command(settings, chosen, out)
            click.echo(f"\nStopped. Every finished evaluation is kept. Go on with: {command}", err=True)
            sys.exit(EXIT_INTERRUPTED)
        written = output.write_comparison(comparison, folder)
        if as_json:
            print_json(comparison.to_dict())
        else:
            command = _command({**settings, "confirm": True}, chosen, out)
            output.print_comparison(console, comparison, command=command)
        console.print(f"Wrote {', '.join(map(str, written))}", soft_wrap=True, highlight=False, markup=False)


def _command(settings: dict[str, Any], name: str, out: Path | None) -> str:
    """What goes on with a comparison: whatever was given and is not the default."""
    defaults = {"dataset": "digits", "hardware": "weight-stationary-45nm", "seed": 0, "confirm": True}
    given = {option: value for option, value in settings.items() if value != defaults.get(option)}
    return command_line(["search", "compare", "--name", name], {**given, "out": out})
