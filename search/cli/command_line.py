"""Commands for people to type."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

_OPTIONS = {"timeout_s": "timeout"}  # options whose names differ from their parameters'


def command_line(words: Sequence[str], options: Mapping[str, object]) -> str:
    """Return a command: its words, and its options by the names of their parameters, except those that say nothing.

    A flag that is set has no value, and of several settings each is KEY=VALUE.
    """
    line = list(words)
    for parameter, value in options.items():
        option = f"--{_OPTIONS.get(parameter, parameter).replace('_', '-')}"
        if parameter == "confirm":
            line += [] if value else ["--no-confirm"]
        elif value is True:
            line.append(option)
        elif isinstance(value, tuple) and all(isinstance(one, tuple) for one in value):
            for key, setting in value:
                line += [option, f"{key}={setting}"]
        elif value is not None and value is not False:  # 0 says something
            line += [option, str(value)]
    return shlex.join(line)
