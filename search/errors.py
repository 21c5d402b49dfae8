"""Errors raised by this package.

Their text is one line, or one for each mistake of a file, which the command line prints.

A message names a parameter of the function that was called in backticks: "`budget` must be at least 1". Each interface
puts its own word for the parameter there; see `in_words_of`.

SearchError
├── UsageError            an invalid request: exit code 2
│   ├── UnknownNameError  no dataset, search or hardware of that name
│   └── SearchBusyError   another process runs the search
├── DatasetError
│   ├── DatasetMissingError   neither on disk nor downloadable
│   ├── DatasetCorruptError   a file's content is not as published
│   └── DatasetInvalidError   what was given as images cannot be used
├── StorageError          the results database cannot be read or written, or is not ours
│   ├── ServerAwayError   its server does not respond, as while it restarts
│   └── NewerSchemaError  a newer version wrote it
├── ExecutorError         Ray cannot start, or every worker is lost
└── NothingFoundError     no stored evaluation answers the question
"""

import re
from collections.abc import Callable

_PARAMETER = re.compile(r"`(\w+)`")


def in_words_of(message: str, word: Callable[[str], str]) -> str:
    """Return a message in the words of an interface.

    Args:
        message: A message, with parameters in backticks.
        word: What the interface calls a parameter.
    """
    return _PARAMETER.sub(lambda match: word(match[1]), message)


def named_parameters(message: str) -> list[str]:
    """Return the parameters that a message names, without duplicates."""
    return [*dict.fromkeys(_PARAMETER.findall(message))]


class SearchError(Exception):
    """Base class of the errors that `search` raises on purpose."""


class UsageError(SearchError, ValueError):
    """The request is invalid: a value is out of range, or options exclude each other."""


class UnknownNameError(UsageError, LookupError):
    """No dataset, search or hardware has the name that was asked for."""


class SearchBusyError(UsageError):
    """Another process runs the search."""


class DatasetError(SearchError):
    """A dataset cannot be used."""


class DatasetMissingError(DatasetError):
    """A dataset is not on disk and cannot be downloaded."""


class DatasetCorruptError(DatasetError):
    """A dataset file does not have the published content."""


class DatasetInvalidError(DatasetError, ValueError):
    """What was given as images cannot be used."""


class StorageError(SearchError):
    """The results database cannot be read or written, or belongs to another application."""


class ServerAwayError(StorageError):
    """The server of the results database does not respond, as while it restarts."""


class NewerSchemaError(StorageError):
    """The results database was written by a newer version, which this one cannot read."""


class ExecutorError(SearchError):
    """Candidates cannot be evaluated because no worker runs."""


class NothingFoundError(SearchError):
    """No stored evaluation answers the question."""
