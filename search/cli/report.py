"""The command `search report`."""

from __future__ import annotations

from pathlib import Path

import click

from search.cli import options
from search.cli.errors import reported_errors


@click.command()
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Where to write it.  [default: NAME.html]",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@options.workplace("storage")
@click.pass_context
def report(context: click.Context, name: str, out: Path | None, overwrite: bool) -> None:
    """Write the result of a search as a web page in one file.

    The page shows the front, where the energy goes, what the knobs do, and every configuration of the
    front to copy. It needs no network and no other file, so it can be sent or kept.
    """
    with reported_errors(context.obj):
        from search.report.page.file import write_report

        url = options.workplace_of(context).url
        file = write_report(name, out or Path(f"{name}.html"), storage=url, overwrite=overwrite)
        click.echo(f"Wrote {file}")
