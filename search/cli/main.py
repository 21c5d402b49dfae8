"""The command `search` and its subcommands. Everything heavy is imported inside them."""

from __future__ import annotations

from importlib import import_module

import click

from search.cli.best import best
from search.cli.compare import compare
from search.cli.crosscheck import crosscheck
from search.cli.datasets import datasets
from search.cli.energy import energy_command
from search.cli.export import export
from search.cli.hardware import hardware
from search.cli.multipliers import doctor, multipliers
from search.cli.report import report
from search.cli.run import resume, run
from search.cli.show import show

# The service's commands, by import path: they load FastAPI, and this package does not depend on `service`.
_SERVICE_COMMANDS = {
    "serve": "service.cli:serve",
    "worker": "service.cli:worker",
    "dashboard": "service.cli:dashboard",
    "keys": "service.cli:keys",
    "db": "service.cli:db",
}


class _Commands(click.Group):
    """The commands of this package, and those of the service, which are imported when first used."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted([*super().list_commands(context), *_SERVICE_COMMANDS])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return the command of this name."""
        if name not in _SERVICE_COMMANDS:
            return super().get_command(context, name)
        module, _, attribute = _SERVICE_COMMANDS[name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
@click.version_option(package_name="crosslayer", prog_name="crosslayer")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Find the cheapest way to run an image classifier in approximate hardware.

    Searches smaller networks, pruning, approximate multipliers and voltage-scaled weight memory
    together for the combination that meets an accuracy with the least energy.
    """
    context.obj = debug


for command in (
    run,
    resume,
    best,
    show,
    compare,
    crosscheck,
    datasets,
    energy_command,
    export,
    hardware,
    multipliers,
    doctor,
    report,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the `search` command."""
    cli(prog_name="search")
