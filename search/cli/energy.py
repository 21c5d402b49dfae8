"""The command `search energy`."""

from __future__ import annotations

from pathlib import Path

import click

from search.cli import options
from search.cli.errors import print_json, reported_errors
from search.defaults import DEFAULT_HARDWARE


@click.command(name="energy")
@click.option(
    "--candidate",
    "source",
    required=True,
    metavar="FILE|ID",
    help="A stored evaluation, or a JSON file with a candidate or a workload.",
)
@click.option(
    "--hardware",
    metavar="NAME|FILE.yaml",
    help=f"Accelerator.  [default: the evaluation's own, else {DEFAULT_HARDWARE}]",
)
@options.task("dataset", "network", "image_size")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to draw a stacked bar for each layer, such as energy.png.",
)
@options.workplace("storage")
@options.as_json
@click.pass_context
def energy_command(
    context: click.Context,
    source: str,
    hardware: str | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Show where the energy of a candidate goes, on this or other hardware.

    ID is what `search best` prints and `search show NAME --ids` lists. Nothing is trained: a stored
    evaluation keeps its layers, and those of a candidate in a file follow from its network.
    """
    with reported_errors(context.obj):
        from search.answers.energy import score
        from search.report import console, energy_console
        from search.report.pictures import draw_energy

        if picture is not None:
            from search.report.figures import check_picture  # which loads matplotlib

            check_picture(picture)
        scored = score(
            source,
            hardware=hardware,
            task=options.task_of(context),
            storage=options.workplace_of(context).url,
        )
        if picture is not None:
            draw_energy(scored.report, picture, title=f"{scored.title} on {scored.report.hardware.identity}")
        if as_json:
            print_json(energy_console.energy_json(scored))
        else:
            energy_console.print_energy(console.open_console(), scored, picture)
