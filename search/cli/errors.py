"""How commands report errors and print JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

EXIT_INTERRUPTED = 130  # as in shells: 128 + SIGINT
EXIT_USAGE = 2
_EXIT_FAILURE = 1


@contextmanager
def reported_errors(debug: bool) -> Iterator[None]:
    """Turn an expected error into one line on stderr, or one for each mistake of a file, and an exit code."""
    from energy import EnergyError, HardwareError, WorkloadError
    from search.errors import SearchError, UsageError

    try:
        yield
    except (SearchError, EnergyError) as error:
        if debug:
            raise
        for line in in_options(str(error)).splitlines():
            click.echo(f"search: {line}", err=True)
        usage = isinstance(error, UsageError | HardwareError | WorkloadError)
        sys.exit(EXIT_USAGE if usage else _EXIT_FAILURE)
    except Exception as error:
        if debug:
            raise
        reason = " ".join(str(error).split())
        click.echo(f"search: {type(error).__name__}: {reason} (search --debug ... shows where)", err=True)
        sys.exit(_EXIT_FAILURE)


@contextmanager
def interrupted(text: str) -> Iterator[None]:
    """End with one line on Ctrl-C a command that keeps nothing until it is done."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"search: {text}", err=True)
        sys.exit(EXIT_INTERRUPTED)


def in_options(text: str) -> str:
    """Return a message in the terms of the command that runs: `budget` becomes --budget.

    Errors name parameters in backticks. Parameters of the command become its options; others only lose their
    backticks.
    """
    from search.errors import in_words_of

    context = click.get_current_context(silent=True)
    parameters = context.command.params if context is not None else []
    options = {one.name: _spelled(one) for one in parameters if one.name is not None}
    for one in parameters:
        if one.secondary_opts and one.default is None:  # a choice that is left open, of which both sides are named
            options |= {option.lstrip("-").replace("-", "_"): option for option in (*one.opts, *one.secondary_opts)}
    return in_words_of(text, lambda name: options.get(name, name))


def _spelled(parameter: click.Parameter) -> str:
    """Return the option of a parameter, for a flag the one that changes the default, or the name of an argument."""
    if isinstance(parameter, click.Argument):
        return parameter.make_metavar(click.get_current_context()).strip("[]")
    return parameter.secondary_opts[-1] if parameter.secondary_opts and parameter.default else parameter.opts[-1]


def print_json(content: Any) -> None:
    """Write JSON to stdout."""
    click.echo(json.dumps(content, indent=2))
