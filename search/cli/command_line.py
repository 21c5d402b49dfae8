"""Commands for people to type."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

_OPTIONS = {"timeout_s": "timeout"}  # options whose names differ from their parameters'


def command_line(words: Sequence[str], options: Mapping[str, object]) -> str:
    """Return a command: its words, and its options by the names of their parameters, except those that are None."""
    line = list(words)
    for parameter, value in options.items():
        if parameter == "confirm":
            line += [] if value else ["--no-confirm"]
        elif value is not None:
            line += [f"--{_OPTIONS.get(parameter, parameter).replace('_', '-')}", str(value)]
    return shlex.join(line)
