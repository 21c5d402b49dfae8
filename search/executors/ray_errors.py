"""Errors of Ray, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayError

from search.errors import ExecutorError

KEPT = "Finished evaluations are stored; continue with: search resume"


@contextmanager
def ray_errors() -> Iterator[None]:
    """Turn the exceptions that Ray raises when it is lost into one clear error."""
    try:
        yield
    except (RayError, ConnectionError) as error:
        raise ExecutorError(f"Ray was lost: {first_line(error)}. {KEPT}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
