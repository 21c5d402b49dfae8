"""The command line: reads options, calls `search.api`, prints. Everything heavy is imported inside the commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.cli import options
from search.cli.compare import compare
from search.cli.crosscheck import crosscheck
from search.cli.energy import energy_command
from search.cli.errors import print_json, reported_errors
from search.cli.export import export
from search.cli.multipliers import doctor, multipliers
from search.cli.report import report as report_command
from search.cli.running import EXIT_INTERRUPTED, command_line, interruptible, open_progress
from search.errors import UsageError

if TYPE_CHECKING:
    from search.answers.result import SearchResult
    from search.observer import Observer


# The service's commands, which bring FastAPI and are of a package that this one does not depend on.
_SERVICE_COMMANDS = {
    "serve": "service.cli:serve",
    "worker": "service.cli:worker",
    "dashboard": "service.cli:dashboard",
    "keys": "service.cli:keys",
    "db": "service.cli:db",
}


class _Commands(click.Group):
    """The commands of this package, and those of the service, loaded when they are first used."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Names of all."""
        return sorted([*super().list_commands(context), *_SERVICE_COMMANDS])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of that name."""
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
    together, and says which combination meets an accuracy for the least energy.
    """
    context.obj = debug


@cli.command()
@options.dataset
@options.network
@click.option("--budget", type=int, help="Evaluations to make.  [default: 200, or what a resumed search had]")
@options.min_accuracy
@options.max_accuracy_drop
@options.effort
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed finds the same front.")
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
@click.option(
    "--techniques",
    metavar="NAME,NAME,...",
    help="Search only these of network, pruning, multiplier and memory.  [default: all]",
)
@click.option("--sampler", metavar="NAME", help="nsga2, nsga3, tpe, gp or random.  [default: nsga2]")
@click.option(
    "--strategy",
    type=click.Choice(["joint", "greedy"]),
    default="joint",
    show_default=True,
    help="All techniques at once, or one step of one knob after the other, for comparison.",
)
@click.option("--no-prescreen", is_flag=True, help="Do not screen what nsga2 proposes by a surrogate.")
@click.option(
    "--asynchronous",
    is_flag=True,
    help="Never let workers wait for a generation; results then depend on who is first. For large clusters.",
)
@click.option(
    "--third-objective", metavar="NAME", help="area or latency, to be minimised beside energy.  [default: none]"
)
@click.option(
    "--start",
    "starts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE.json",
    help="Begin with this candidate too; may be given again.",
)
@click.option("--fresh", is_flag=True, help="Begin without the best of earlier searches with other seeds.")
@options.confirm
@options.hardware
@options.storage
@options.work
@click.option("--name", help="Name of the search.  [default: the dataset and a number]")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the search of this --name or, without one, with the newest of this dataset, network, seed, "
    "hardware and, if given, multipliers and space.",
)
@options.as_json
@click.pass_obj
def run(
    debug: bool,
    dataset: str,
    network: str | None,
    budget: int | None,
    min_accuracy: float | None,
    max_accuracy_drop: float | None,
    effort: str | None,
    seed: int,
    multipliers: str | None,
    space: str | None,
    techniques: str | None,
    sampler: str | None,
    strategy: str,
    no_prescreen: bool,
    asynchronous: bool,
    third_objective: str | None,
    starts: tuple[Path, ...],
    fresh: bool,
    confirm: bool,
    hardware: str,
    storage: str | None,
    workers: int | None,
    ray_address: str | None,
    timeout_s: float | None,
    data_dir: str | None,
    stages: str | None,
    stages_limit: str | None,
    name: str | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Search for the best trade-offs between accuracy and energy.

    Every evaluation is kept as soon as it is done. A search that was stopped by anything goes on with
    `search resume`. In the end fresh runs confirm the cheapest configuration that is accurate enough.
    """
    with reported_errors(debug):
        from energy import hardware_names

        if strategy == "greedy" and sampler is not None:
            raise UsageError("--strategy greedy asks for no sampler; leave out --sampler")

        def search(observer: Observer) -> SearchResult:
            from search.answers.energy import read_candidate
            from search.api import _run as api

            return api.run(
                dataset=dataset,
                network=network,
                budget=budget,
                min_accuracy=min_accuracy,
                max_accuracy_drop=max_accuracy_drop,
                effort=effort,
                seed=seed,
                multipliers=None if multipliers is None else multipliers.split(","),
                space=space,
                techniques=None if techniques is None else techniques.split(","),
                sampler="greedy" if strategy == "greedy" else sampler,
                prescreen=not no_prescreen,
                asynchronous=asynchronous,
                third_objective=third_objective,
                starts=[read_candidate(path) for path in starts],
                fresh=fresh,
                confirm=confirm,
                hardware=hardware,
                storage=storage,
                workers=workers,
                ray_address=ray_address,
                timeout_s=timeout_s,
                data_dir=data_dir,
                stages=stages,
                stages_limit=stages_limit,
                name=name,
                resume=resume,
                observer=observer,
            )

        _search(
            search,
            as_json=as_json,
            given={
                "confirm": confirm,
                "hardware": None if hardware in hardware_names() else hardware,
                "storage": storage,
                "workers": workers,
                "ray_address": ray_address,
                "timeout_s": timeout_s,
                "data_dir": data_dir,
                "stages": stages,
                "stages_limit": stages_limit,
            },
        )


@cli.command()
@click.argument("name", required=False)
@click.option("--budget", type=int, help="Evaluations in all.  [default: as many as it was begun with]")
@click.option("--hardware", metavar="FILE.yaml", help="The file of hardware of your own.")
@options.confirm
@options.storage
@options.work
@options.as_json
@click.pass_obj
def resume(
    debug: bool,
    name: str | None,
    budget: int | None,
    hardware: str | None,
    confirm: bool,
    storage: str | None,
    workers: int | None,
    ray_address: str | None,
    timeout_s: float | None,
    data_dir: str | None,
    stages: str | None,
    stages_limit: str | None,
    as_json: bool,
) -> None:
    """Go on with a search, whatever stopped it: that of this name, or the newest that is unfinished."""
    with reported_errors(debug):

        def search(observer: Observer) -> SearchResult:
            from search.api import _run as api

            return api.resume(
                name,
                budget=budget,
                hardware=hardware,
                confirm=confirm,
                storage=storage,
                workers=workers,
                ray_address=ray_address,
                timeout_s=timeout_s,
                data_dir=data_dir,
                stages=stages,
                stages_limit=stages_limit,
                observer=observer,
            )

        _search(
            search,
            as_json=as_json,
            given={
                "confirm": confirm,
                "hardware": hardware,
                "storage": storage,
                "workers": workers,
                "ray_address": ray_address,
                "timeout_s": timeout_s,
                "data_dir": data_dir,
                "stages": stages,
                "stages_limit": stages_limit,
            },
        )


@cli.command()
@options.min_accuracy
@options.max_accuracy_drop
@click.option("--knee", is_flag=True, help="The knee of the front above the target, instead of the cheapest.")
@options.dataset
@options.network
@options.hardware
@options.effort
@options.confirm
@options.storage
@options.work
@options.as_json
@click.pass_obj
def best(
    debug: bool,
    min_accuracy: float | None,
    max_accuracy_drop: float | None,
    knee: bool,
    dataset: str,
    network: str | None,
    hardware: str,
    effort: str | None,
    confirm: bool,
    storage: str | None,
    workers: int | None,
    ray_address: str | None,
    timeout_s: float | None,
    data_dir: str | None,
    stages: str | None,
    stages_limit: str | None,
    as_json: bool,
) -> None:
    """Print the cheapest stored configuration whose accuracy fresh runs confirm.

    Stored configurations are tried by rising energy: each is trained anew, from other random numbers,
    on other splits of the images and for other chips. Runs that were made before are not made again.
    """
    with reported_errors(debug):
        from search.api import _run as api
        from search.defaults import DEFAULT_EFFORT
        from search.report import console as tables
        from search.report import words as report

        console = tables.open_console(stderr=as_json)
        with open_progress(console) as progress, interruptible(progress):
            answer = api.best(
                min_accuracy=min_accuracy,
                max_accuracy_drop=max_accuracy_drop,
                knee=knee,
                dataset=dataset,
                network=network,
                hardware=hardware,
                effort=effort or DEFAULT_EFFORT,
                confirm=confirm,
                storage=storage,
                workers=workers,
                ray_address=ray_address,
                timeout_s=timeout_s,
                data_dir=data_dir,
                stages=stages,
                stages_limit=stages_limit,
                observer=progress,
            )
        if as_json:
            print_json({"dataset": dataset, "network": network, **report.answer_json(answer)})
        else:
            tables.print_answer(console, answer)


@cli.command()
@click.argument("name", required=False)
@click.option("--all", "show_all", is_flag=True, help="Show the least accurate of the front too.")
@click.option("--ids", is_flag=True, help="Name rows by the ids that `search export` takes.")
@options.storage
@options.as_json
@click.pass_obj
def show(debug: bool, name: str | None, show_all: bool, ids: bool, storage: str | None, as_json: bool) -> None:
    """List the stored searches, or show the front of one."""
    with reported_errors(debug):
        from search.answers.result import result_of
        from search.locations import storage_url
        from search.report import console as tables
        from search.report import words as report
        from search.store.store import Store

        console = tables.open_console()
        with Store.open(storage_url(storage), create=False) as store:
            if name is not None:
                result = result_of(store, store.find_search(name), evaluations=False)
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


def _search(search: Callable[[Observer], SearchResult], *, as_json: bool, given: Mapping[str, Any]) -> None:
    """Run a search under the eyes of a person, and print what it found.

    Args:
        search: Runs it.
        as_json: Whether JSON is printed.
        given: Options that whoever goes on with it has to give again, by the names of their parameters.
    """
    from search.report import console as tables
    from search.report import words as report

    console = tables.open_console(stderr=as_json)  # where stdout carries JSON, progress goes to stderr
    progress = open_progress(console)
    try:
        with interruptible(progress), progress:
            result = search(progress)
    except KeyboardInterrupt:
        if progress.search_name is None:
            click.echo("\nStopped before the search began.", err=True)
        else:
            command = command_line(["search", "resume", progress.search_name], given)
            click.echo(f"\nStopped. Every finished evaluation is kept. Go on with: {command}", err=True)
        sys.exit(EXIT_INTERRUPTED)
    places = _places(given["storage"], given["stages"])
    if as_json:
        print_json({**report.result_json(result), **places})
    else:
        tables.print_result(console, result)
        tables.print_places(console, places)


def _places(storage: str | None, stages: str | None) -> dict[str, str]:
    """Where a search has written: its results, its trained networks, and the command that shows them."""
    from search.locations import printable, stage_location, storage_url, without_password

    url = storage_url(storage)
    shown = without_password(url)
    networks = printable(stage_location(stages, url))
    return {"storage": shown, "networks": networks, "dashboard": f"optuna-dashboard {shown}"}


cli.add_command(compare)
cli.add_command(crosscheck)
cli.add_command(energy_command)
cli.add_command(export)
cli.add_command(multipliers)
cli.add_command(doctor)
cli.add_command(report_command)


def main() -> None:
    """Entry point of the `search` command."""
    cli(prog_name="search")
