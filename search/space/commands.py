"""What to type to search a task, or to resume a search: a command, or Python where its network is a Python object."""

from __future__ import annotations

from search.space.task import Task


def run_command(
    task: Task, *, hardware: str | None = None, effort: str | None = None, max_area: float | None = None
) -> str:
    """Return what searches a task.

    Args:
        task: The task.
        hardware: Hardware as the user gave it; None for the default.
        effort: Effort of an evaluation; None for the default.
        max_area: Largest area over the baseline's, if there is a bound.
    """
    if not _is_object(task):
        options = {"hardware": hardware, "effort": effort, "max-area": None if max_area is None else f"{max_area:g}"}
        given = [f" --{name} {value}" for name, value in options.items() if value is not None]
        return f"search run {task.options}{''.join(given)}"
    rest = {
        "metric": task.metric if task.metric != "accuracy" else None,
        "mean": task.mean or None,
        "std": task.std or None,
        **task.recipe.to_dict(),
    }
    request = _arguments(rest)
    arguments = ["model=..."]
    arguments += _arguments({"dataset": task.dataset.identity, "train": task.train})
    arguments += [f"task=search.TaskRequest({', '.join(request)})"] if request else []
    arguments += _arguments({"hardware": hardware, "effort": effort, "max_area": max_area})
    return _in_python(f"search.run({', '.join(arguments)})")


def resume_command(task: Task, name: str) -> str:
    """Return what resumes a search of a task.

    Args:
        task: The task.
        name: Name of the search.
    """
    return _in_python(resume_call(task, name)) if _is_object(task) else f"search resume {name}"


def resume_call(task: Task, name: str) -> str:
    """Return what resumes a search of a task in Python; see `resume_command`."""
    return f"search.resume({', '.join([repr(name), *(['model=...'] if _is_object(task) else [])])})"


def export_command(task: Task, evaluation_id: str) -> str | None:
    """Return what writes the model of an evaluation; None if its network is a Python object, which nothing does.

    Args:
        task: The task.
        evaluation_id: Id of the evaluation.
    """
    return None if _is_object(task) else f"search export {evaluation_id} --out DIR"


def _is_object(task: Task) -> bool:
    return task.network is not None and task.network.is_object


def _arguments(values: dict[str, object]) -> list[str]:
    return [f"{name}={value!r}" for name, value in values.items() if value is not None]


def _in_python(call: str) -> str:
    return f"{call} in Python"
