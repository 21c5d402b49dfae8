"""The command `search export`."""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean

import click

from search.cli import options
from search.cli.errors import print_json, reported_errors


@click.command()
@click.argument("evaluation_id", metavar="ID")
@click.option("--out", required=True, type=click.Path(file_okay=False), metavar="DIR", help="Folder to write to.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in the folder.")
@options.workplace("storage", "data_dir", "cache")
@options.as_json
@click.pass_context
def export(
    context: click.Context,
    evaluation_id: str,
    out: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the model of an evaluation to a folder.

    ID is what `search best` prints and `search show NAME --ids` lists. The folder gets the state of the
    network, its integer codes and scales, the multiplier's table, the faults of one chip, and ONNX.
    """
    with reported_errors(context.obj):
        import search
        from search.answers import words

        def on_training(stage: str) -> None:
            click.echo(f"search: the result of the stage {stage!r} is no longer kept; training it again", err=True)

        done = search.export(
            evaluation_id,
            out=out,
            overwrite=overwrite,
            workplace=options.workplace_of(context),
            on_training=on_training,
        )
        recorded = done.record.evaluation.chip_accuracies
        if as_json:
            print_json(
                {
                    "id": done.record.id,
                    "folder": str(done.folder),
                    "files": list(done.files),
                    "recorded_chip_accuracies": list(recorded),
                    "chip_accuracies": list(done.chip_accuracies),
                    "onnx_equals_model": done.onnx_equals_model,
                    "candidate": asdict(done.record.evaluation.candidate),
                }
            )
            return
        click.echo(f"Wrote {', '.join(done.files)} to {done.folder}")
        accuracy = words.percent(fmean(done.chip_accuracies))
        if done.chip_accuracies == recorded:
            click.echo(f"Loaded again, it has the validation accuracy that was recorded: {accuracy} %")
        else:
            click.echo(
                f"Loaded again, it has {accuracy} % validation accuracy, not the recorded "
                f"{words.percent(fmean(recorded))} %: this machine rounds differently, or retrained it",
                err=True,
            )
        if not done.onnx_equals_model:
            click.echo("network.onnx multiplies exactly, so it does not compute what this multiplier does")
        click.echo(f'Use it with: approx.load("{done.folder}")')
