"""Find the best trade-offs between accuracy and energy over all four techniques at once.

Names are imported when they are first used, so that `search --help` answers before SQLAlchemy, Optuna or torch are
loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.answers.comparison import Comparison as Comparison
    from search.answers.confirmation import Answer as Answer
    from search.answers.confirmation import Confirmation as Confirmation
    from search.answers.result import SearchResult as SearchResult
    from search.answers.stored import Configurations as Configurations
    from search.api._compare import compare as compare
    from search.api._export import Exported as Exported
    from search.api._export import export as export
    from search.api._run import best as best
    from search.api._run import configurations as configurations
    from search.api._run import resume as resume
    from search.api._run import run as run
    from search.errors import DatasetError as DatasetError
    from search.errors import ExecutorError as ExecutorError
    from search.errors import NothingFoundError as NothingFoundError
    from search.errors import SearchError as SearchError
    from search.errors import StorageError as StorageError
    from search.errors import UnknownNameError as UnknownNameError
    from search.errors import UsageError as UsageError
    from search.evaluation.evaluation import Evaluation as Evaluation
    from search.report.page.file import write_report as write_report
    from search.space.candidate import Candidate as Candidate
    from search.space.task import find_task as find_task
    from search.space.task import task_names as task_names
    from search.store.store import Record as Record
    from search.store.store import SearchRecord as SearchRecord
    from search.store.store import Store as Store

_HOME = {
    "Answer": "search.answers.confirmation",
    "Candidate": "search.space.candidate",
    "Comparison": "search.answers.comparison",
    "Confirmation": "search.answers.confirmation",
    "Configurations": "search.answers.stored",
    "DatasetError": "search.errors",
    "Evaluation": "search.evaluation.evaluation",
    "ExecutorError": "search.errors",
    "Exported": "search.api._export",
    "NothingFoundError": "search.errors",
    "Record": "search.store.store",
    "SearchError": "search.errors",
    "SearchRecord": "search.store.store",
    "SearchResult": "search.answers.result",
    "StorageError": "search.errors",
    "Store": "search.store.store",
    "UnknownNameError": "search.errors",
    "UsageError": "search.errors",
    "best": "search.api._run",
    "compare": "search.api._compare",
    "configurations": "search.api._run",
    "export": "search.api._export",
    "find_task": "search.space.task",
    "resume": "search.api._run",
    "run": "search.api._run",
    "task_names": "search.space.task",
    "write_report": "search.report.page.file",
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
