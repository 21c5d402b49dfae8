"""How a running search is stopped: Ctrl-C, and a polite request to end (SIGTERM)."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from types import FrameType

    from search.observer import Stoppable


@contextmanager
def interruptible(progress: Stoppable) -> Iterator[None]:
    """Let Ctrl-C, and a polite request to end (SIGTERM), stop a search, whose progress is notified of both.

    An interrupt can arrive anywhere, also between the two instructions with which a block without gradients ends; what
    such blocks set for the thread is put back, so that the next search of this process can train.

    Modules being imported are imported first, unless asked twice: of a package whose import is broken off, Python
    forgets the package and keeps its submodules, so that this process could never import it again.
    """

    def interrupt(_: int, frame: FrameType | None) -> None:
        importing = None if progress.stopping else _outermost_import(frame)
        progress.stopping = True
        if importing is None:
            raise KeyboardInterrupt

        def stop(left: FrameType, event: str, _: object) -> None:
            if left is importing and event == "return":
                sys.setprofile(None)
                raise KeyboardInterrupt

        sys.setprofile(stop)

    gradients, threads = torch.is_grad_enabled(), torch.get_num_threads()
    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_num_threads(threads)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _outermost_import(frame: FrameType | None) -> FrameType | None:
    """The call of Python's import system that all the others under way were made by, if there is any."""
    found = None
    while frame is not None:
        code = frame.f_code
        if (code.co_filename, code.co_name) == ("<frozen importlib._bootstrap>", "_find_and_load"):
            found = frame
        frame = frame.f_back
    return found
