"""Errors raised by this package. The command line prints their text as its one line.

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
