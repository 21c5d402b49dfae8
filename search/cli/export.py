"""The command `search export`."""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean

import click

from search.cli import options
from search.cli.errors import in_options, print_json, reported_errors


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

    Networks on the front of a search and those of answers are kept: they are exported without training, images
    or the network's code. Any other is made again.
    """
    with reported_errors(context.obj):
        import search
        from search.answers import words

        def on_remaking(reason: str) -> None:
            click.echo(f"search: {in_options(reason)}", err=True)

        def on_training(stage: str) -> None:
            click.echo(f"search: the result of the stage {stage!r} is no longer kept; training it again", err=True)

        done = search.export(
            evaluation_id,
            out=out,
            overwrite=overwrite,
            workplace=options.workplace_of(context),
            on_remaking=on_remaking,
            on_training=on_training,
        )
        recorded = done.record.evaluation.chip_accuracies
        if as_json:
            print_json(
                {
                    "id": done.record.id,
                    "folder": str(done.folder),
                    "files": list(done.files),
                    "kept": done.kept,
                    "recorded_chip_accuracies": list(recorded),
                    "chip_accuracies": None if done.chip_accuracies is None else list(done.chip_accuracies),
                    "unchecked": None if done.unchecked is None else in_options(done.unchecked),
                    "onnx_equals_model": done.onnx_equals_model,
                    "candidate": asdict(done.record.evaluation.candidate),
                }
            )
            return
        click.echo(f"Wrote {', '.join(done.files)} to {done.folder}")
        expected = words.percent(fmean(recorded))
        if done.chip_accuracies is None:
            click.echo(f"Recorded: {expected} % validation accuracy. That was not checked, as it takes the images:")
            click.echo(f"  {in_options(done.unchecked or '')}")
        elif done.chip_accuracies == recorded:
            click.echo(f"Loaded again, it has the validation accuracy that was recorded: {expected} %")
        else:
            click.echo(
                f"Loaded again, it has {words.percent(fmean(done.chip_accuracies))} % validation accuracy, not the "
                f"recorded {expected} %: this machine rounds differently, or retrained it",
                err=True,
            )
        if not done.onnx_equals_model:
            click.echo("network.onnx multiplies exactly, so it does not compute what this multiplier does")
        click.echo(f'Use it with: approx.load("{done.folder}")')
