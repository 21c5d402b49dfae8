"""The command `search show`."""

from __future__ import annotations

import click

from search.cli import options
from search.cli.errors import print_json, reported_errors


@click.command()
@click.argument("name", required=False)
@click.option("--all", "show_all", is_flag=True, help="Show the least accurate of the front too.")
@click.option("--ids", is_flag=True, help="Name rows by the ids that `search export` takes.")
@options.workplace("storage")
@options.as_json
@click.pass_context
def show(context: click.Context, name: str | None, show_all: bool, ids: bool, as_json: bool) -> None:
    """List the stored searches, or show the front of one."""
    with reported_errors(context.obj):
        from search.answers.result import result_of
        from search.report import console, json_values
        from search.store.database import Store

        out = console.open_console()
        with Store.open(options.workplace_of(context).url, create=False) as store:
            if name is not None:
                result = result_of(store, store.searches.find(name), evaluations=False)
                if as_json:
                    print_json(json_values.result_json(result))
                else:
                    console.print_result(out, result, show_all=show_all, ids=ids)
                return
            searches = store.searches.all()
            counts = {search.id: store.searches.trial_counts(search) for search in searches}
        if as_json:
            print_json([{**json_values.search_json(s), "evaluations": counts[s.id].finished} for s in searches])
        else:
            console.print_searches(out, searches, counts)
