"""The command line: reads options, calls `search.api`, prints. Everything heavy is imported inside the commands."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from search.cli_crosscheck import crosscheck
from search.cli_energy import energy_command
from search.cli_errors import print_json, reported_errors
from search.cli_export import export
from search.cli_multipliers import doctor, multipliers
from search.cli_report import report as report_command

_EXIT_INTERRUPTED = 130

_dataset = click.option(
    "--dataset",
    default="digits",
    show_default=True,
    metavar="NAME",
    help="digits, mnist, fashion-mnist or cifar10.",
)
_network = click.option(
    "--network",
    metavar="MODULE:FUNCTION",
    help="Your own network instead of the built-in ones: a function(image_shape, classes) in a module here.",
)
_hardware = click.option(
    "--hardware",
    default="weight-stationary-45nm",
    show_default=True,
    metavar="NAME|FILE.yaml",
    help="Accelerator that energy is modelled for.",
)
_storage = click.option(
    "--storage",
    metavar="URL|FILE",
    help="Results database.  [default: $CROSSLAYER_STORAGE, else a file in your data folder]",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
@click.version_option(package_name="crosslayer", prog_name="crosslayer")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Find the cheapest way to run an image classifier in approximate hardware.

    Searches smaller networks, pruning, approximate multipliers and voltage-scaled weight memory
    together, and says which combination meets an accuracy for the least energy.
    """
    context.obj = debug


@cli.command()
@_dataset
@_network
@click.option("--budget", type=int, help="Evaluations to make.  [default: 200, or what a resumed search had]")
@click.option("--min-accuracy", type=float, metavar="SHARE", help="Accuracy you need, such as 0.95.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed finds the same front.")
@click.option(
    "--workers",
    type=int,
    help="Ray workers; 0 evaluates in this process, without Ray.  [default: one a core]",
)
@click.option(
    "--multipliers",
    metavar="NAME,NAME,...",
    help="Multipliers to choose among, beside the exact one: of the catalogue or imported, with known energy.  "
    "[default: the best of the catalogue, or what a resumed search has]",
)
@click.option(
    "--space",
    metavar="NAME|FILE.yaml",
    help="default; layered, where the first and the last layer choose a multiplier and robust bits of their own; or a "
    "file that restricts or extends the space.  [default: default, or what a resumed search has]",
)
@_hardware
@_storage
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    help="Folder of datasets.  [default: $CROSSLAYER_DATA_DIR, else in your cache folder]",
)
@click.option(
    "--stages",
    metavar="URL|FOLDER",
    help="Where trained networks are kept; several searches and machines may share it.  "
    "[default: $CROSSLAYER_STAGES, else beside an SQLite file, else in your cache folder]",
)
@click.option(
    "--stages-limit",
    metavar="SIZE",
    help="Of what is kept there; the least recently used goes first.  [default: $CROSSLAYER_STAGES_LIMIT, else 10GB]",
)
@click.option("--name", help="Name of the search.  [default: the dataset and a number]")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the search of this --name or, without one, with the newest of this dataset, network, seed, "
    "hardware and, if given, multipliers and space.",
)
@_json
@click.pass_obj
def run(
    debug: bool,
    dataset: str,
    network: str | None,
    budget: int | None,
    min_accuracy: float | None,
    seed: int,
    workers: int | None,
    multipliers: str | None,
    space: str | None,
    hardware: str,
    storage: str | None,
    data_dir: str | None,
    stages: str | None,
    stages_limit: str | None,
    name: str | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Search for the best trade-offs between accuracy and energy.

    Every evaluation is kept as soon as it is done. A search that was stopped by anything goes on
    with the same command and --resume.
    """
    with reported_errors(debug):
        from search import api, report, tables
        from search.progress import LineProgress, LiveProgress

        console = tables.open_console(stderr=as_json)  # where stdout carries JSON, progress goes to stderr
        progress = LiveProgress(console) if console.is_terminal else LineProgress(console)
        try:
            with _interruptible(), progress:
                result = api.run(
                    dataset=dataset,
                    network=network,
                    budget=budget,
                    min_accuracy=min_accuracy,
                    seed=seed,
                    workers=workers,
                    multipliers=None if multipliers is None else multipliers.split(","),
                    space=space,
                    hardware=hardware,
                    storage=storage,
                    data_dir=data_dir,
                    stages=stages,
                    stages_limit=stages_limit,
                    name=name,
                    resume=resume,
                    observer=progress,
                )
        except KeyboardInterrupt:
            click.echo(f"\n{_stopped(progress.search_name, name, resume)}", err=True)
            sys.exit(_EXIT_INTERRUPTED)
        if as_json:
            print_json({**report.result_json(result), **_places(storage, stages)})
        else:
            tables.print_result(console, result)
            tables.print_places(console, _places(storage, stages))


@cli.command()
@click.option("--min-accuracy", type=float, required=True, metavar="SHARE", help="Such as 0.95 for 95 %.")
@_dataset
@_network
@_hardware
@_storage
@_json
@click.pass_obj
def best(
    debug: bool,
    min_accuracy: float,
    dataset: str,
    network: str | None,
    hardware: str,
    storage: str | None,
    as_json: bool,
) -> None:
    """Print the cheapest stored configuration at or above an accuracy."""
    with reported_errors(debug):
        from search import api, report, tables

        found = api.configurations(
            min_accuracy=min_accuracy, dataset=dataset, network=network, hardware=hardware, storage=storage
        )
        if as_json:
            print_json(
                {
                    "dataset": dataset,
                    "network": network,
                    "min_accuracy": min_accuracy,
                    "confirmed": False,
                    "baseline": report.record_json(found.baseline, found.baseline),
                    "best": report.record_json(found.best, found.baseline),
                }
            )
            return
        tables.print_best(tables.open_console(), found, min_accuracy)


@cli.command()
@click.argument("name", required=False)
@click.option("--all", "show_all", is_flag=True, help="Show the least accurate of the front too.")
@click.option("--ids", is_flag=True, help="Name rows by the ids that `search export` takes.")
@_storage
@_json
@click.pass_obj
def show(debug: bool, name: str | None, show_all: bool, ids: bool, storage: str | None, as_json: bool) -> None:
    """List the stored searches, or show the front of one."""
    with reported_errors(debug):
        from search import report, tables
        from search.locations import storage_url
        from search.result import result_of
        from search.store import Store

        console = tables.open_console()
        with Store.open(storage_url(storage), create=False) as store:
            if name is not None:
                result = result_of(store, store.find_search(name))
                if as_json:
                    print_json(report.result_json(result))
                else:
                    tables.print_result(console, result, show_all=show_all, ids=ids)
                return
            searches = store.searches()
            counts = {search.id: store.trial_counts(search) for search in searches}
        if as_json:
            print_json([{**report.search_json(s), "evaluations": counts[s.id].finished} for s in searches])
        else:
            tables.print_searches(console, searches, counts)


def _stopped(running: str | None, name: str | None, resume: bool) -> str:
    """What to say of a search that was interrupted, `running` being its name if it had begun."""
    if running is None:
        return "Stopped before the search began."
    more = [*([] if resume else ["--resume"]), *([] if name else ["--name", running])]
    again = shlex.join([*sys.argv[1:], *more])
    return f"Stopped. Every finished evaluation is kept. Go on with: search {again}"


def _places(storage: str | None, stages: str | None) -> dict[str, str]:
    """Where a search has written: its results, its trained networks, and the command that shows them."""
    from search.locations import printable, stage_location, storage_url, without_password

    url = storage_url(storage)
    shown = without_password(url)
    networks = printable(stage_location(stages, url))
    return {"storage": shown, "networks": networks, "dashboard": f"optuna-dashboard {shown}"}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a polite request to end (SIGTERM) stop a search as Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


cli.add_command(crosscheck)
cli.add_command(energy_command)
cli.add_command(export)
cli.add_command(multipliers)
cli.add_command(doctor)
cli.add_command(report_command)


def main() -> None:
    """Entry point of the `search` command."""
    cli(prog_name="search")
