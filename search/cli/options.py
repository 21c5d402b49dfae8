"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from search.defaults import DEFAULT_DATASET, DEFAULT_HARDWARE

if TYPE_CHECKING:
    from search.api.workplace import Workplace

Command = TypeVar("Command", bound=Callable[..., Any])

dataset = click.option(
    "--dataset",
    default=DEFAULT_DATASET,
    show_default=True,
    metavar="NAME",
    help="digits, mnist, fashion-mnist or cifar10.",
)
network = click.option(
    "--network",
    metavar="MODULE:FUNCTION",
    help="Function of (image_shape, classes) that builds a custom network, instead of the built-in ones.",
)
hardware = click.option(
    "--hardware",
    default=DEFAULT_HARDWARE,
    show_default=True,
    metavar="NAME|FILE.yaml",
    help="Accelerator whose energy is modelled; of several, separated by commas, the cheapest for each candidate.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
min_accuracy = click.option("--min-accuracy", type=float, metavar="SHARE", help="Required accuracy, such as 0.95.")
max_accuracy_drop = click.option(
    "--max-accuracy-drop",
    type=float,
    metavar="SHARE",
    help="Instead: how far accuracy may be below the baseline's.  [default: 0.02, two percentage points]",
)
max_area = click.option(
    "--max-area",
    type=float,
    metavar="RATIO",
    help="Largest area of array and memories over the baseline's, such as 0.5.  [default: any]",
)
effort = click.option(
    "--effort", metavar="NAME", help="quick, standard or thorough: epochs, chips, fresh runs.  [default: standard]"
)
confirm = click.option(
    "--confirm/--no-confirm", default=True, help="Whether fresh runs confirm the answer.  [default: --confirm]"
)


_KEPT = "crosslayer.workplace"


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option of the workplace for `workplace_of`, instead of passing all seven to every command."""
    context.meta.setdefault(_KEPT, {})[parameter.name] = value


_option = partial(click.option, expose_value=False, callback=_keep)
_WORKPLACE: dict[str, Callable[[Command], Command]] = {
    "storage": _option(
        "--storage",
        metavar="URL|FILE",
        help="Results database.  [default: $CROSSLAYER_STORAGE, else a file in your data folder]",
    ),
    "workers": _option(
        "--workers",
        type=int,
        help="Ray workers; 0 evaluates in this process, without Ray.  [default: one a core, or a cluster's]",
    ),
    "ray_address": _option(
        "--ray-address",
        metavar="ADDRESS",
        help="Ray cluster to join, such as auto or ray://head:10001.",
    ),
    "timeout_s": _option(
        "--timeout",
        "timeout_s",
        type=float,
        metavar="SECONDS",
        help="Stop an evaluation after this many seconds.  [default: many times what others took]",
    ),
    "data_dir": _option(
        "--data-dir",
        type=click.Path(file_okay=False),
        help="Folder of datasets.  [default: $CROSSLAYER_DATA_DIR, else in your cache folder]",
    ),
    "cache": _option(
        "--cache",
        metavar="URL|FOLDER",
        help="Where trained networks are kept.  [default: $CROSSLAYER_CACHE, else beside the results]",
    ),
    "cache_limit": _option(
        "--cache-limit",
        metavar="SIZE",
        help="Size of the cache, such as 500MB.  [default: $CROSSLAYER_CACHE_LIMIT, else 10GB]",
    ),
}


def workplace(*names: str) -> Callable[[Command], Command]:
    """Give a command the options of a workplace; see `workplace_of`.

    Args:
        names: Only these; by default all.
    """

    def decorate(command: Command) -> Command:
        for name in reversed(names or tuple(_WORKPLACE)):
            command = _WORKPLACE[name](command)
        return command

    return decorate


def workplace_of(context: click.Context) -> Workplace:
    """Return the workplace of the running command, by the options that `workplace` gave it.

    Raises:
        UsageError: If they are out of range, or contradict each other.
    """
    from search.api.workplace import Workplace

    given: Mapping[str, Any] = context.meta[_KEPT]
    return Workplace(
        storage=given.get("storage"),
        data_dir=given.get("data_dir"),
        cache=given.get("cache"),
        cache_limit=given.get("cache_limit"),
        workers=given.get("workers"),
        ray_address=given.get("ray_address"),
        timeout_s=given.get("timeout_s"),
    )
