"""Find the best trade-offs between accuracy and energy over all techniques at once.

    result = search.run(dataset="digits", budget=200)   search; the result prints as a table
    search.run(data=(images, labels), task=search.TaskRequest(image_size=(32, 32)))     your images, and more about them
    result.plot("front.png")                            its accuracies over its energies as a picture
    search.resume("digits-1")                           continue one that was stopped
    search.best(min_accuracy=0.95)                      the cheapest configuration that fresh runs confirm
    search.compare(dataset="digits")                    what each technique saves alone, in pairs and together
    search.export(ID, out="folder")                     a result as files, for `approx.load`
    search.write_report("digits-1", "digits-1.html")    a result as a web page
    search.energy_of(model, images)                     the modelled energy of any torch network

How a search goes through the rooms of this package, each of which imports from those below it only:

    cli          options and printing         engine      ask, evaluate, keep, tell
    api          these functions              answers     fronts, fresh runs, confirmed answers
    report       words, tables, pages         crosscheck  a front scored by ZigZag
    sampling     which candidates are next    executors   who evaluates them
    store        SQL                          evaluation  one candidate: train, prune, approximate, measure
    space        tasks and candidates         images      what people give as their images
    multipliers  names, costs, tables

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
    from search.api._best import best as best
    from search.api._best import configurations as configurations
    from search.api._compare import compare as compare
    from search.api._energy_of import energy_of as energy_of
    from search.api._export import Exported as Exported
    from search.api._export import export as export
    from search.api._resume import resume as resume
    from search.api._run import run as run
    from search.api.options import SearchOptions as SearchOptions
    from search.api.workplace import Workplace as Workplace
    from search.errors import DatasetError as DatasetError
    from search.errors import ExecutorError as ExecutorError
    from search.errors import NothingFoundError as NothingFoundError
    from search.errors import SearchError as SearchError
    from search.errors import StorageError as StorageError
    from search.errors import UnknownNameError as UnknownNameError
    from search.errors import UsageError as UsageError
    from search.evaluation.evaluation import Evaluation as Evaluation
    from search.observer import Observer as Observer
    from search.report.page.file import write_report as write_report
    from search.space.candidate import Candidate as Candidate
    from search.space.plan import Plan as Plan
    from search.space.task import find_task as find_task
    from search.space.task import task_names as task_names
    from search.space.task_request import TaskRequest as TaskRequest
    from search.store.database import Store as Store
    from search.store.records import Record as Record
    from search.store.records import SearchRecord as SearchRecord

_HOME = {
    "Answer": "search.answers.confirmation",
    "Candidate": "search.space.candidate",
    "Comparison": "search.answers.comparison",
    "Configurations": "search.answers.stored",
    "Confirmation": "search.answers.confirmation",
    "DatasetError": "search.errors",
    "Evaluation": "search.evaluation.evaluation",
    "ExecutorError": "search.errors",
    "Exported": "search.api._export",
    "NothingFoundError": "search.errors",
    "Observer": "search.observer",
    "Plan": "search.space.plan",
    "Record": "search.store.records",
    "SearchError": "search.errors",
    "SearchOptions": "search.api.options",
    "SearchRecord": "search.store.records",
    "SearchResult": "search.answers.result",
    "StorageError": "search.errors",
    "Store": "search.store.database",
    "TaskRequest": "search.space.task_request",
    "UnknownNameError": "search.errors",
    "UsageError": "search.errors",
    "Workplace": "search.api.workplace",
    "best": "search.api._best",
    "compare": "search.api._compare",
    "configurations": "search.api._best",
    "energy_of": "search.api._energy_of",
    "export": "search.api._export",
    "find_task": "search.space.task",
    "resume": "search.api._resume",
    "run": "search.api._run",
    "task_names": "search.space.task",
    "write_report": "search.report.page.file",
}

__all__ = [  # what `help(search)` describes: the functions
    "best",
    "compare",
    "configurations",
    "energy_of",
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


def __dir__() -> list[str]:
    """Return the public names, so that tab completion and `help` show nothing else."""
    return sorted(_HOME)
