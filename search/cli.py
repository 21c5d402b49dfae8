"""The command line: reads options, calls `search.api`, prints. Everything heavy is imported inside the commands."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from search.result import SearchResult
    from search.store import Record

_EXIT_FAILURE = 1
_EXIT_USAGE = 2
_EXIT_INTERRUPTED = 130
_SHOWN_LOSS = 0.10  # front members further below the baseline's accuracy are only counted

_dataset = click.option(
    "--dataset",
    default="digits",
    show_default=True,
    metavar="NAME",
    help="digits, mnist, fashion-mnist or cifar10.",
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
@click.option("--budget", type=int, default=200, show_default=True, help="Evaluations to make.")
@click.option("--min-accuracy", type=float, metavar="SHARE", help="Accuracy you need, such as 0.95.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed finds the same front.")
@click.option(
    "--workers",
    type=int,
    help="Ray workers; 0 evaluates in this process, without Ray.  [default: one a core]",
)
@_hardware
@_storage
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    help="Folder of datasets.  [default: $CROSSLAYER_DATA_DIR, else in your cache folder]",
)
@click.option("--name", help="Name of the search.  [default: the dataset and a number]")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the search of this --name or, without one, with the newest of this dataset, seed and hardware.",
)
@_json
@click.pass_obj
def run(
    debug: bool,
    dataset: str,
    budget: int,
    min_accuracy: float | None,
    seed: int,
    workers: int | None,
    hardware: str,
    storage: str | None,
    data_dir: str | None,
    name: str | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Search for the best trade-offs between accuracy and energy.

    Every evaluation is kept as soon as it is done. A search that was stopped by anything goes on
    with the same command and --resume.
    """
    with _errors(debug):
        from search import api
        from search.progress import LineProgress, LiveProgress

        console = _console(stderr=as_json)  # where stdout carries JSON, progress goes to stderr
        progress = LiveProgress(console) if console.is_terminal else LineProgress(console)
        try:
            with _interruptible(), progress:
                result = api.run(
                    dataset=dataset,
                    budget=budget,
                    min_accuracy=min_accuracy,
                    seed=seed,
                    workers=workers,
                    hardware=hardware,
                    storage=storage,
                    data_dir=data_dir,
                    name=name,
                    resume=resume,
                    observer=progress,
                )
        except KeyboardInterrupt:
            again = " ".join([*sys.argv[1:], *([] if resume else ["--resume"])])
            click.echo(
                f"\nStopped. Every finished evaluation is kept. Go on with: search {again}",
                err=True,
            )
            sys.exit(_EXIT_INTERRUPTED)
        if as_json:
            _print_json(_with_places(result, storage))
        else:
            _print_result(console, result, min_accuracy)
            _print_places(console, result, storage)


@cli.command()
@click.option("--min-accuracy", type=float, required=True, metavar="SHARE", help="Such as 0.95 for 95 %.")
@_dataset
@_hardware
@_storage
@_json
@click.pass_obj
def best(
    debug: bool,
    min_accuracy: float,
    dataset: str,
    hardware: str,
    storage: str | None,
    as_json: bool,
) -> None:
    """Print the cheapest stored configuration at or above an accuracy."""
    with _errors(debug):
        from search import api, report

        found = api.configurations(min_accuracy=min_accuracy, dataset=dataset, hardware=hardware, storage=storage)
        if as_json:
            _print_json(
                {
                    "dataset": dataset,
                    "min_accuracy": min_accuracy,
                    "confirmed": False,
                    "baseline": report.record_json(found.baseline, found.baseline),
                    "best": report.record_json(found.best, found.baseline),
                }
            )
            return
        console = _console()
        table = _record_table(f"Cheapest stored configuration at {min_accuracy:.2%} or more")
        _add_row(table, "best", found.best, found.baseline)
        _add_row(table, "base", found.baseline, found.baseline)
        console.print(table)
        console.print(
            "Chosen by validation accuracy among all stored evaluations, and not confirmed by fresh "
            "runs.\nThe test images were not used to choose it.",
            highlight=False,
        )


@cli.command()
@click.argument("name", required=False)
@click.option("--all", "show_all", is_flag=True, help="Show the least accurate of the front too.")
@_storage
@_json
@click.pass_obj
def show(debug: bool, name: str | None, show_all: bool, storage: str | None, as_json: bool) -> None:
    """List the stored searches, or show the front of one."""
    with _errors(debug):
        from search import report
        from search.locations import storage_url
        from search.result import result_of
        from search.store import Store

        console = _console()
        with Store.open(storage_url(storage), create=False) as store:
            if name is not None:
                result = result_of(store, store.find_search(name))
                if as_json:
                    _print_json(report.result_json(result))
                else:
                    loss = 1.0 if show_all else _SHOWN_LOSS
                    _print_result(console, result, result.search.min_accuracy, loss)
                return
            searches = store.searches()
            counts = {search.id: store.trial_counts(search) for search in searches}
        if as_json:
            _print_json(
                [{**report.search_json(search), "evaluations": counts[search.id].finished} for search in searches]
            )
            return
        if not searches:
            console.print("no searches yet; make one with: search run")
            return
        _print_searches(
            console,
            [
                (
                    search.name,
                    search.task,
                    search.hardware,
                    str(search.seed),
                    f"{counts[search.id].finished}/{search.budget}",
                    f"{search.created_at:%Y-%m-%d %H:%M}",
                )
                for search in searches
            ],
        )


def _print_searches(console: Console, rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    table = Table(title="Stored searches, newest first (times in UTC)", title_justify="left")
    for column in ("name", "dataset", "hardware", "seed", "evaluated", "started"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _console(*, stderr: bool = False) -> Console:
    """A console; one that is not a terminal, and so has no width of its own, is wide enough for every table."""
    from rich.console import Console

    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=100)


def _record_table(title: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from search.report import KNOBS

    table = Table(
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in ("", "acc %", "worst", "test", "energy", "saves"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for column in KNOBS:
        table.add_column(column, no_wrap=True)
    return table


def _add_row(table: Table, label: str, record: Record, baseline: Record) -> None:
    from search import report

    evaluation = record.evaluation
    table.add_row(
        label,
        report.percent(evaluation.accuracy),
        report.percent(evaluation.accuracy_worst),
        report.percent(record.test_accuracy),
        report.energy(evaluation.energy_pj),
        report.saving(baseline.evaluation.energy_pj / evaluation.energy_pj),
        *report.knobs(evaluation.candidate).values(),
    )


def _print_result(
    console: Console,
    result: SearchResult,
    min_accuracy: float | None,
    shown_loss: float = _SHOWN_LOSS,
) -> None:
    from search import report

    baseline = result.baseline
    floor = baseline.evaluation.accuracy - shown_loss
    shown = [record for record in result.front if record.evaluation.accuracy >= floor]
    table = _record_table(f"Front of {result.search.name} ({result.search.task})")
    for number, record in enumerate(shown, 1):
        _add_row(table, str(number), record, baseline)
    table.add_section()
    _add_row(table, "base", baseline, baseline)
    console.print(table)
    lines = [
        "Accuracy: mean over chips on validation images, by which the front was chosen; test: on "
        "images used for nothing else.",
        f"{result.finished} evaluations, {result.distinct} of them different"
        + (f", {result.failed} failed" if result.failed else "")
        + f"; hypervolume {result.hypervolume:.4f}.",
    ]
    if hidden := len(result.front) - len(shown):
        lines.append(
            f"{hidden} more on the front, over {shown_loss * 100:.0f} points below the baseline: "
            f"search show {result.search.name} --all"
        )
    if min_accuracy is not None:
        cheapest = report.cheapest_at(result.front, min_accuracy)
        if cheapest is None:
            highest = max(record.evaluation.accuracy for record in result.front)
            lines.append(f"None reaches {min_accuracy:.2%}; the most accurate reaches {highest:.2%}.")
        else:
            energy, ratio = cheapest.evaluation.energy_pj, result.saving(cheapest)
            lines.append(
                f"Cheapest at {min_accuracy:.2%} or more: number {shown.index(cheapest) + 1}"
                if cheapest in shown
                else f"Cheapest at {min_accuracy:.2%} or more"
            )
            lines[-1] += f", {report.energy(energy)}, {report.saving(ratio)} less than the baseline."
    for line in lines:
        console.print(line, highlight=False, markup=False)


def _places(result: SearchResult, storage: str | None) -> dict[str, str]:
    from search.locations import stage_dir, storage_url

    url = storage_url(storage)
    return {"storage": url, "stages": str(stage_dir(url)), "dashboard": f"optuna-dashboard {url}"}


def _with_places(result: SearchResult, storage: str | None) -> dict[str, Any]:
    from search import report

    return {**report.result_json(result), **_places(result, storage)}


def _print_places(console: Console, result: SearchResult, storage: str | None) -> None:
    places = _places(result, storage)
    for line in (
        f"Results:   {places['storage']}",
        f"Networks:  {places['stages']}",
        f"Dashboard: {places['dashboard']}",
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _print_json(content: Any) -> None:
    click.echo(json.dumps(content, indent=2))


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


@contextmanager
def _errors(debug: bool) -> Iterator[None]:
    """Turn an expected error into one line on stderr and an exit code."""
    from energy import EnergyError, HardwareError
    from search.errors import SearchError, UsageError

    try:
        yield
    except (SearchError, EnergyError) as error:
        if debug:
            raise
        click.echo(f"search: {error}", err=True)
        usage = isinstance(error, UsageError | HardwareError)
        sys.exit(_EXIT_USAGE if usage else _EXIT_FAILURE)


def main() -> None:
    """Entry point of the `search` command."""
    cli(prog_name="search")
