"""The command `search datasets`. Everything heavy is imported inside it."""

from __future__ import annotations

from pathlib import Path

import click

from search.cli import options
from search.cli.errors import in_options, interrupted, print_json, reported_errors


@click.group(invoke_without_command=True)
@options.workplace("data_dir")
@options.as_json
@click.pass_context
def datasets(context: click.Context, as_json: bool) -> None:
    """List data sets; add your own; show or remove one.

    Without a command, lists the data sets that --dataset takes by name.
    """
    if context.invoked_subcommand is not None:
        return
    with reported_errors(context.obj):
        from search.images.built_in import BUILT_IN, built_in_dataset
        from search.images.lookup import is_here
        from search.report import console, dataset_console

        places = options.workplace_of(context).images
        built_in = [(built_in_dataset(name), is_here(name, places)) for name in BUILT_IN]
        stored = places.library.all()
        if as_json:
            print_json(
                [
                    *(dataset_console.built_in_json(dataset, here=here) for dataset, here in built_in),
                    *map(dataset_console.stored_json, stored),
                ]
            )
        else:
            dataset_console.print_datasets(console.open_console(), built_in, stored, places.library.folder)


@datasets.command()
@click.argument("name")
@click.argument("source", metavar="SOURCE")
@options.task("image_size", "validation")
@options.workplace("data_dir")
@options.as_json
@click.pass_context
def add(context: click.Context, name: str, source: str, as_json: bool) -> None:
    """Store images under a NAME that --dataset takes.

    SOURCE is a folder of images, one folder a class; an .npz file; a folder of Parquet files; or
    MODULE:FUNCTION, a function that returns images. What each looks like: docs/data-sets.md.
    """
    with interrupted("stopped; nothing was kept"), reported_errors(context.obj):
        from search.evaluation import datasets
        from search.evaluation.description import describe
        from search.images.lookup import add_dataset
        from search.report import console, dataset_console
        from search.report.progress import open_progress
        from search.space.task import task_of

        places, asked = options.workplace_of(context).images, options.task_of(context)
        with open_progress(console.open_console(stderr=as_json), worded=in_options) as progress:
            added = add_dataset(
                name,
                source,
                places,
                image_size=asked.size,
                validation=asked.validation,
                on_image=progress.reading_images,
            )
        described = describe(added.dataset, datasets.load(task_of(added.dataset), places))
        if as_json:
            stored = places.library.get(added.dataset.identity)
            print_json(
                {
                    **dataset_console.stored_json(stored),
                    **dataset_console.description_json(described),
                    "known": added.known,
                    "before": None if added.before is None else added.before.identity,
                }
            )
        else:
            dataset_console.print_added(console.open_console(), added, described)


@datasets.command()
@click.argument("name")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Where to draw samples of each class.  [default: NAME.png]",
)
@options.workplace("data_dir")
@options.as_json
@click.pass_context
def show(context: click.Context, name: str, picture: Path | None, as_json: bool) -> None:
    """Show a data set: its splits, classes and pixels, and a picture of samples.

    Files of a built-in data set that are missing are downloaded.
    """
    with interrupted("stopped"), reported_errors(context.obj):
        from search.evaluation import datasets
        from search.evaluation.description import channel_statistics, describe
        from search.images.built_in import BUILT_IN, built_in_dataset
        from search.report import console, dataset_console
        from search.report.sample_grid import draw_samples
        from search.space.task import task_of

        places = options.workplace_of(context).images
        stored = None if name in BUILT_IN else places.library.get(name)
        dataset = built_in_dataset(name) if stored is None else stored.dataset
        data = datasets.load(task_of(dataset), places)
        described, statistics = describe(dataset, data), channel_statistics(data.train, dataset.pixel_max)
        drawn = draw_samples(dataset, data.train, picture or Path(f"{name}.png"))
        if as_json:
            known = (
                dataset_console.built_in_json(dataset, here=True)
                if stored is None
                else dataset_console.stored_json(stored)
            )
            print_json(
                {
                    **known,
                    **dataset_console.description_json(described),
                    "mean": list(statistics.mean),
                    "std": list(statistics.std),
                    "picture": str(drawn),
                }
            )
        else:
            dataset_console.print_description(console.open_console(), described, statistics, drawn, stored)


@datasets.command()
@click.argument("name")
@options.workplace("storage")
@options.as_json
@click.pass_context
def remove(context: click.Context, name: str, as_json: bool) -> None:
    """Remove the images of a data set, by its name or identity. Results with them are kept."""
    with reported_errors(context.obj):
        from search.api.images import searches_of
        from search.errors import UsageError
        from search.images.built_in import BUILT_IN
        from search.report import console, dataset_console

        if name in BUILT_IN:
            raise UsageError(f"{name} is built in; its files are in the folder that --data-dir or its default names")
        workplace = options.workplace_of(context)
        library = workplace.images.library
        removed = library.remove(name)
        searches = searches_of(removed, workplace)
        found = library.find(removed.name)
        instead = None if found is None else found.dataset
        if as_json:
            print_json(
                {
                    "name": removed.name,
                    "identity": removed.identity,
                    "searches": searches,
                    "instead": None if instead is None else instead.identity,
                }
            )
        else:
            dataset_console.print_removed(console.open_console(), removed, searches=searches, instead=instead)
