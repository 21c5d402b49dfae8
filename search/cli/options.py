"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

dataset = click.option(
    "--dataset",
    default="digits",
    show_default=True,
    metavar="NAME",
    help="digits, mnist, fashion-mnist or cifar10.",
)
network = click.option(
    "--network",
    metavar="MODULE:FUNCTION",
    help="Your own network instead of the built-in ones: a function(image_shape, classes) in a module here.",
)
hardware = click.option(
    "--hardware",
    default="weight-stationary-45nm",
    show_default=True,
    metavar="NAME|FILE.yaml",
    help="Accelerator that energy is modelled for.",
)
storage = click.option(
    "--storage",
    metavar="URL|FILE",
    help="Results database.  [default: $CROSSLAYER_STORAGE, else a file in your data folder]",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
min_accuracy = click.option("--min-accuracy", type=float, metavar="SHARE", help="Accuracy you need, such as 0.95.")
max_accuracy_drop = click.option(
    "--max-accuracy-drop",
    type=float,
    metavar="SHARE",
    help="Instead, how far below the baseline it may be.  [default: 0.02, two percentage points]",
)
effort = click.option(
    "--effort", metavar="NAME", help="quick, standard or thorough: epochs, chips, fresh runs.  [default: standard]"
)
data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    help="Folder of datasets.  [default: $CROSSLAYER_DATA_DIR, else in your cache folder]",
)
stages = click.option(
    "--stages",
    metavar="URL|FOLDER",
    help="Where trained networks are kept.  [default: $CROSSLAYER_STAGES, else beside the results]",
)
_WORK: tuple[Callable[[Command], Command], ...] = (
    click.option(
        "--workers",
        type=int,
        help="Ray workers; 0 evaluates in this process, without Ray.  [default: one a core, or a cluster's]",
    ),
    click.option("--ray-address", metavar="ADDRESS", help="Ray cluster to join, such as auto or ray://head:10001."),
    click.option(
        "--timeout",
        "timeout_s",
        type=float,
        metavar="SECONDS",
        help="Give an evaluation up after so long.  [default: many times what others took]",
    ),
    data_dir,
    stages,
    click.option(
        "--stages-limit",
        metavar="SIZE",
        help="The least recently used go above it, such as 500MB.  [default: $CROSSLAYER_STAGES_LIMIT, else 10GB]",
    ),
)
confirm = click.option(
    "--confirm/--no-confirm", default=True, help="Whether fresh runs confirm the answer.  [default: they do]"
)


def work(command: Command) -> Command:
    """How evaluations are made, and where what they need is."""
    for option in reversed(_WORK):
        command = option(command)
    return command
