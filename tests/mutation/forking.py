"""Runs pytest again and again in forks of a process that has loaded what takes longest: `-m tests.mutation.forking`.

Loading torch takes longer than most mutants. Each line of the standard input is a run, a JSON object with the
`arguments` of pytest and the file of its `output`; each line of the standard output is the exit code of one. Nothing of
the repository is loaded before the fork, so that every run sees its files as they are then.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Sequence

import hypothesis.strategies  # noqa: F401
import numpy  # noqa: F401
import optuna  # noqa: F401
import pytest
import schemathesis.pytest  # noqa: F401
import scipy.stats  # noqa: F401
import sklearn.datasets
import sklearn.model_selection  # noqa: F401
import sqlalchemy  # noqa: F401
import torch._dynamo  # noqa: F401  loads slowly, and `approx` needs it
import torch_pruning  # type: ignore[import-untyped]  # noqa: F401


def _run(arguments: Sequence[str], output: str) -> int:
    """Run pytest in a fork and return its exit code, or minus the signal that ended it."""
    process = os.fork()
    if process == 0:
        with open(output, "w") as file, open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), sys.stdin.fileno())
            os.dup2(file.fileno(), sys.stdout.fileno())
            os.dup2(file.fileno(), sys.stderr.fileno())
            code = pytest.main(list(arguments))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    gc.freeze()  # what is loaded is never collected: pytest collects garbage several times
    for line in sys.stdin:
        print(_run(**json.loads(line)), flush=True)  # noqa: T201
