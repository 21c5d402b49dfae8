"""Errors raised by this package. Their text is one line, which the command line prints.

A message names a parameter of the function that was called in backticks: "`budget` must be at least 1". Each interface
puts its own word for the parameter there; see `in_words_of`.

SearchError
├── UsageError            a request that cannot be meant: exit code 2
│   ├── UnknownNameError  no dataset, search or hardware of that name
│   └── SearchBusyError   another process runs the search
├── DatasetError
│   ├── DatasetMissingError   not on disk and not to be downloaded
│   └── DatasetCorruptError   a file's content is not what it should be
├── StorageError          the results database cannot be read, written, or is not ours
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
    """Base of every error that `search` raises on purpose."""


class UsageError(SearchError, ValueError):
    """What was asked cannot be meant: a value out of range, options that exclude each other."""


class UnknownNameError(UsageError, LookupError):
    """No dataset, search or hardware has the name that was asked for."""


class SearchBusyError(UsageError):
    """Another process runs the search."""


class DatasetError(SearchError):
    """A dataset cannot be used."""


class DatasetMissingError(DatasetError):
    """A dataset is neither on disk nor to be downloaded."""


class DatasetCorruptError(DatasetError):
    """A dataset file's content is not what it should be."""


class StorageError(SearchError):
    """The results database cannot be read or written, or belongs to another application."""


class NewerSchemaError(StorageError):
    """The results database was written by a newer version, and this one is of no use for it."""


class ExecutorError(SearchError):
    """Candidates cannot be evaluated because no worker runs."""


class NothingFoundError(SearchError):
    """No stored evaluation answers the question."""
