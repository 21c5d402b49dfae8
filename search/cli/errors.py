"""What every command does with errors and with JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

_EXIT_FAILURE = 1
_EXIT_USAGE = 2


@contextmanager
def reported_errors(debug: bool) -> Iterator[None]:
    """Turn an expected error into one line on stderr and an exit code."""
    from energy import EnergyError, HardwareError, WorkloadError
    from search.errors import SearchError, UsageError

    try:
        yield
    except (SearchError, EnergyError) as error:
        if debug:
            raise
        click.echo(f"search: {error}", err=True)
        usage = isinstance(error, UsageError | HardwareError | WorkloadError)
        sys.exit(_EXIT_USAGE if usage else _EXIT_FAILURE)
    except Exception as error:
        if debug:
            raise
        reason = " ".join(str(error).split())
        click.echo(f"search: {type(error).__name__}: {reason} (search --debug ... shows where)", err=True)
        sys.exit(_EXIT_FAILURE)


def print_json(content: Any) -> None:
    """Write JSON to stdout."""
    click.echo(json.dumps(content, indent=2))
