"""Find the best trade-offs between accuracy and energy over all four techniques at once.

Names are imported when they are first used, so that `search --help` answers before SQLAlchemy, Optuna or torch are
loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.answering import Configurations as Configurations
    from search.api import best as best
    from search.api import configurations as configurations
    from search.api import resume as resume
    from search.api import run as run
    from search.candidate import Candidate as Candidate
    from search.comparing import compare as compare
    from search.comparison import Comparison as Comparison
    from search.confirming import Answer as Answer
    from search.confirming import Confirmation as Confirmation
    from search.errors import DatasetError as DatasetError
    from search.errors import ExecutorError as ExecutorError
    from search.errors import NothingFoundError as NothingFoundError
    from search.errors import SearchError as SearchError
    from search.errors import StorageError as StorageError
    from search.errors import UnknownNameError as UnknownNameError
    from search.errors import UsageError as UsageError
    from search.evaluation import Evaluation as Evaluation
    from search.exporting import Exported as Exported
    from search.exporting import export as export
    from search.report_file import write_report as write_report
    from search.result import SearchResult as SearchResult
    from search.store import Record as Record
    from search.store import SearchRecord as SearchRecord
    from search.store import Store as Store
    from search.task import find_task as find_task
    from search.task import task_names as task_names

_HOME = {
    "Answer": "search.confirming",
    "Candidate": "search.candidate",
    "Comparison": "search.comparison",
    "Confirmation": "search.confirming",
    "Configurations": "search.answering",
    "DatasetError": "search.errors",
    "Evaluation": "search.evaluation",
    "ExecutorError": "search.errors",
    "Exported": "search.exporting",
    "NothingFoundError": "search.errors",
    "Record": "search.store",
    "SearchError": "search.errors",
    "SearchRecord": "search.store",
    "SearchResult": "search.result",
    "StorageError": "search.errors",
    "Store": "search.store",
    "UnknownNameError": "search.errors",
    "UsageError": "search.errors",
    "best": "search.api",
    "compare": "search.comparing",
    "configurations": "search.api",
    "export": "search.exporting",
    "find_task": "search.task",
    "resume": "search.api",
    "run": "search.api",
    "task_names": "search.task",
    "write_report": "search.report_file",
}

__all__ = [
    "Answer",
    "Candidate",
    "Comparison",
    "Configurations",
    "Confirmation",
    "DatasetError",
    "Evaluation",
    "ExecutorError",
    "Exported",
    "NothingFoundError",
    "Record",
    "SearchError",
    "SearchRecord",
    "SearchResult",
    "StorageError",
    "Store",
    "UnknownNameError",
    "UsageError",
    "best",
    "compare",
    "configurations",
    "export",
    "find_task",
    "resume",
    "run",
    "task_names",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
