"""The command `search hardware`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from search.cli import options
from search.cli.errors import EXIT_USAGE, print_json, reported_errors
from search.defaults import DEFAULT_HARDWARE

_SUBJECT = "NAME|FILE.yaml"


@click.group(invoke_without_command=True)
@options.as_json
@click.pass_context
def hardware(context: click.Context, as_json: bool) -> None:
    """List the built-in hardware; show it; check or begin a custom file.

    Without a command, lists the hardware that --hardware takes by name.
    """
    if context.invoked_subcommand is not None:
        return
    with reported_errors(context.obj):
        from energy import hardware_names, load_hardware
        from search.report import console, hardware_console

        listed = [load_hardware(name) for name in hardware_names()]
        if as_json:
            print_json([hardware_console.hardware_json(one) for one in listed])
        else:
            hardware_console.print_hardware(console.open_console(), listed)


@hardware.command()
@click.argument("subject", metavar=_SUBJECT)
@options.as_json
@click.pass_obj
def show(debug: bool, subject: str, as_json: bool) -> None:
    """Show a hardware file, with its comments."""
    with reported_errors(debug):
        from energy.hardware_files import hardware_content, hardware_text

        if as_json:
            print_json(hardware_content(subject))
        else:
            click.echo(hardware_text(subject), nl=False)


@hardware.command()
@click.argument("subject", metavar=_SUBJECT)
@options.as_json
@click.pass_obj
def check(debug: bool, subject: str, as_json: bool) -> None:
    """Check a hardware file, and name all of its mistakes."""
    with reported_errors(debug):
        from energy import HardwareError, load_hardware

        try:
            found = load_hardware(subject)
        except HardwareError as error:
            if not as_json or debug:
                raise
            print_json({"file": subject, "right": False, "identity": None, "mistakes": str(error).splitlines()})
            sys.exit(EXIT_USAGE)
        if as_json:
            print_json({"file": subject, "right": True, "identity": found.identity, "mistakes": []})
        else:
            click.echo(f"{subject} is right; results with it are stored under {found.identity}")


@hardware.command()
@click.argument("file", metavar="FILE.yaml", type=click.Path(path_type=Path))
@click.option(
    "--from", "source", default=DEFAULT_HARDWARE, show_default=True, metavar="NAME", help="Built-in hardware to copy."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@options.as_json
@click.pass_obj
def new(debug: bool, file: Path, source: str, overwrite: bool, as_json: bool) -> None:
    """Begin a hardware file with a copy of a built-in one."""
    with reported_errors(debug):
        import shlex

        from energy.hardware_files import copy_hardware

        name = copy_hardware(source, file, overwrite=overwrite)
        if as_json:
            print_json({"file": str(file), "name": name, "from": source})
            return
        path = shlex.quote(str(file))
        click.echo(f"{file} is a copy of {source}, named {name}. Edit it, then:")
        click.echo(f"  search hardware check {path}")
        click.echo(f"  search run --hardware {path}")
