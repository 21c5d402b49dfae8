"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from search.defaults import DEFAULT_DATASET, DEFAULT_HARDWARE, LARGEST_SIDE

if TYPE_CHECKING:
    from search.api.workplace import Workplace
    from search.space.task_request import TaskRequest

Command = TypeVar("Command", bound=Callable[..., Any])

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


class _Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Return the numbers."""
        try:
            return tuple(float(one) for one in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a number, or numbers with commas between them such as 0.5,0.5,0.5", param, ctx)


class _Widths(click.ParamType[tuple[int, int]]):
    """Widths of two operands."""

    name = "widths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return the widths of activation and weight."""
        parts = value.lower().split("x")
        if len(parts) not in (1, 2) or not all(part.isascii() and part.isdigit() for part in parts):
            self.fail(f"{value!r} is not a width; give one such as 8, or ACTIVATIONxWEIGHT such as 8x4", param, ctx)
        return int(parts[0]), int(parts[-1])


WIDTHS = _Widths()


class _Size(click.ParamType[tuple[int, int]]):
    """A size of images: a side, or height and width."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return height and width."""
        parts = value.lower().split("x")
        if len(parts) not in (1, 2) or not all(
            part.isascii() and part.isdigit() and 1 <= int(part) <= LARGEST_SIDE for part in parts
        ):
            self.fail(
                f"{value!r} is not a size; give one such as 64, or HEIGHTxWIDTH such as 48x64, with sides from 1 to "
                f"{LARGEST_SIDE}",
                param,
                ctx,
            )
        return int(parts[0]), int(parts[-1])


class _Setting(click.ParamType[tuple[str, Any]]):
    """A name and its value: a number, or text."""

    name = "setting"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Return the name and the value."""
        name, sign, text = value.partition("=")
        if not sign or not name or not text:
            self.fail(f"{value!r} is no KEY=VALUE, such as optimizer=sgd", param, ctx)
        for kind in (int, float):
            with suppress(ValueError):
                return name, kind(text)
        return name, text


class _Shared:
    """Options that a command passes on together; they are kept instead of being parameters of each command.

    What was given to a group of commands holds unless its command is given another value.

    Args:
        kept: Key under which click keeps what was given.
        options: Name -> decorator that click makes of declarations, without callback.
    """

    def __init__(self, kept: str, options: Mapping[str, Callable[..., Callable[[Any], Any]]]) -> None:
        self._kept = kept
        self._options = options

    def __call__(self, *names: str) -> Callable[[Command], Command]:
        """Give a command the options.

        Args:
            names: Only these; by default all.
        """

        def decorate(command: Command) -> Command:
            for name in reversed(names or tuple(self._options)):
                command = self._options[name](expose_value=False, callback=self._keep)(command)
            return command

        return decorate

    def given(self, context: click.Context) -> Mapping[str, Any]:
        """Return what was given to the running command: name -> value, None if it was not given."""
        kept: dict[str, Any] = context.meta[self._kept]
        return {name: kept.get(name) for name in self._options}

    def _keep(self, context: click.Context, parameter: click.Parameter, value: Any) -> None:
        options = context.meta.setdefault(self._kept, {})
        says_something = value is not None and value is not False and value != ()  # as 0 does
        if says_something or parameter.name not in options:
            options[parameter.name] = value


task = _Shared(
    "crosslayer.task",
    {
        "dataset": partial(
            click.option,
            "--dataset",
            metavar="NAME|PATH|MODULE:FUNCTION",
            help="A name of `search datasets`; a folder of images, an .npz file, a folder of Parquet files; or a "
            f"function that returns images.  [default: {DEFAULT_DATASET}]",
        ),
        "image_size": partial(
            click.option,
            "--image-size",
            type=_Size(),
            metavar="SIDE|HxW",
            help="Resize all images.  [default: as they are]",
        ),
        "validation": partial(
            click.option,
            "--validation",
            metavar="NAME|PATH|MODULE:FUNCTION",
            help="Validation images, instead of the data set's own or a share of its training images.",
        ),
        "mean": partial(
            click.option,
            "--mean",
            type=_Numbers(),
            metavar="M[,M,M]",
            help="Subtract this from pixels in [0, 1], by channel.",
        ),
        "std": partial(
            click.option, "--std", type=_Numbers(), metavar="S[,S,S]", help="Then divide by this, by channel."
        ),
        "network": partial(
            click.option,
            "--network",
            metavar="MODULE:FUNCTION",
            help="Function that builds a custom network, instead of the built-in ones.",
        ),
        "checkpoint": partial(
            click.option,
            "--checkpoint",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Weights of the custom network: .safetensors, .pt or .pth.",
        ),
        "train": partial(
            click.option,
            "--train",
            metavar="NAME",
            help="scratch; or for a trained network finetune, or none: convert it without training.  [default: "
            "scratch, or finetune with --checkpoint]",
        ),
        "metric": partial(
            click.option,
            "--metric",
            metavar="NAME",
            help="accuracy or balanced-accuracy, the mean over classes.  [default: accuracy]",
        ),
        "epochs": partial(
            click.option,
            "--epochs",
            type=float,
            help="Epochs of training or fine-tuning.  [default: by the number of images]",
        ),
        "learning_rate": partial(
            click.option, "--learning-rate", type=float, metavar="RATE", help="The peak rate in them."
        ),
        "batch_size": partial(
            click.option, "--batch-size", type=int, metavar="IMAGES", help="Images per training step."
        ),
        "augment": partial(
            click.option,
            "--augment",
            metavar="NAME",
            help="Vary training images: none or crop-flip.  [default: crop-flip for built-in photographs, else none]",
        ),
        "recipe": partial(
            click.option,
            "--recipe",
            metavar="KEY=VALUE",
            multiple=True,
            type=_Setting(),
            help="What else training does otherwise, as optimizer=sgd or pruning=uniform; may be repeated.",
        ),
        "from_scratch": partial(
            click.option,
            "--from-scratch",
            is_flag=True,
            help="Train the baseline here instead of taking the one in the package.",
        ),
    },
)


def _mapping(name: str, settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings:
        if key in found:
            from search.errors import UsageError

            raise UsageError(f"`{name}` has {key!r} twice; give it once")
        found[key] = value
    return found


def task_of(context: click.Context) -> TaskRequest:
    """Return the task of the running command, by the options that `task` gave it.

    Raises:
        UsageError: If they are out of range, or contradict each other.
    """
    from search.space.task_request import TaskRequest

    given = task.given(context)
    return TaskRequest(
        dataset=given["dataset"],
        network=given["network"],
        checkpoint=given["checkpoint"],
        train=given["train"],
        image_size=given["image_size"],
        validation=given["validation"],
        mean=given["mean"],
        std=given["std"],
        metric=given["metric"],
        epochs=given["epochs"],
        learning_rate=given["learning_rate"],
        batch_size=given["batch_size"],
        augment=given["augment"],
        recipe=_mapping("recipe", given["recipe"] or ()),
        from_scratch=bool(given["from_scratch"]),
    )


def task_words(context: click.Context) -> dict[str, Any]:
    """Return the options of the task as they were given, for `command_line`."""
    joined = {"image_size": "x", "mean": ",", "std": ","}
    return {
        name: joined[name].join(f"{one:g}" for one in value) if name in joined and value is not None else value
        for name, value in task.given(context).items()
    }


workplace = _Shared(
    "crosslayer.workplace",
    {
        "storage": partial(
            click.option,
            "--storage",
            metavar="URL|FILE",
            help="Results database.  [default: $CROSSLAYER_STORAGE, else a file in your data folder]",
        ),
        "workers": partial(
            click.option,
            "--workers",
            type=int,
            help="Ray workers; 0 evaluates in this process, without Ray.  [default: one a core, or a cluster's]",
        ),
        "ray_address": partial(
            click.option,
            "--ray-address",
            metavar="ADDRESS",
            help="Ray cluster to join, such as auto or ray://head:10001.",
        ),
        "timeout_s": partial(
            click.option,
            "--timeout",
            "timeout_s",
            type=float,
            metavar="SECONDS",
            help="Stop an evaluation after this many seconds.  [default: many times what others took]",
        ),
        "data_dir": partial(
            click.option,
            "--data-dir",
            type=click.Path(file_okay=False),
            help="Folder of built-in data sets.  [default: $CROSSLAYER_DATA_DIR, else in your cache folder]",
        ),
        "cache": partial(
            click.option,
            "--cache",
            metavar="URL|FOLDER",
            help="Where trained networks are kept.  [default: $CROSSLAYER_CACHE, else beside the results]",
        ),
        "cache_limit": partial(
            click.option,
            "--cache-limit",
            metavar="SIZE",
            help="Size of the cache, such as 500MB.  [default: $CROSSLAYER_CACHE_LIMIT, else 10GB]",
        ),
    },
)


def workplace_of(context: click.Context) -> Workplace:
    """Return the workplace of the running command, by the options that `workplace` gave it.

    Raises:
        UsageError: If they are out of range, or contradict each other.
    """
    from search.api.workplace import Workplace

    given = workplace.given(context)
    return Workplace(
        storage=given["storage"],
        data_dir=given["data_dir"],
        cache=given["cache"],
        cache_limit=given["cache_limit"],
        workers=given["workers"],
        ray_address=given["ray_address"],
        timeout_s=given["timeout_s"],
    )
