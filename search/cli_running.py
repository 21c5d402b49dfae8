"""What every command does that evaluates for a while: shows progress, and stops when it is asked to."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

    from search.progress import LineProgress, LiveProgress, Stoppable

EXIT_INTERRUPTED = 130
_NAMES = {"timeout_s": "timeout"}  # of options that are called otherwise than their parameter


def open_progress(console: Console) -> LiveProgress | LineProgress:
    """A live display on a terminal, plain lines elsewhere."""
    from search.progress import LineProgress, LiveProgress

    return LiveProgress(console) if console.is_terminal else LineProgress(console)


def command_line(words: Sequence[str], options: Mapping[str, object]) -> str:
    """A command to type: its words, and its options by the names of their parameters, but for those that are None."""
    line = list(words)
    for parameter, value in options.items():
        if parameter == "confirm":
            line += [] if value else ["--no-confirm"]
        elif value is not None:
            line += [f"--{_NAMES.get(parameter, parameter).replace('_', '-')}", str(value)]
    return shlex.join(line)


@contextmanager
def interruptible(progress: Stoppable) -> Iterator[None]:
    """Let Ctrl-C, and a polite request to end (SIGTERM), stop a search; it is told of both."""

    def interrupt(*_: object) -> NoReturn:
        progress.stopping = True
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
