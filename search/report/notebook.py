"""Results as notebooks show them: tables as HTML, and figures.

The tables have a style of their own and no script, and take the colours of the notebook, light or dark.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from search.answers import words
from search.answers.comparison import Comparison
from search.answers.confirmation import Answer
from search.answers.result import SearchResult
from search.errors import UsageError
from search.report import sentences
from search.report.comparison import comparison_figure, comparison_lines, groups, points, saving_mark, title
from search.report.rows import MARKS, cells, searched, shown_front
from search.space.commands import resume_call
from search.store.records import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """<style>
.crosslayer { overflow-x: auto; }
.crosslayer table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
.crosslayer caption { text-align: left; font-weight: bold; padding: .3em .55em; white-space: nowrap; }
.crosslayer th, .crosslayer td {
  color: inherit; background: none; border: 0; padding: .2em .5em; text-align: right; white-space: nowrap;
}
.crosslayer th[scope=row], .crosslayer .word { text-align: left; }
.crosslayer th[scope=row] { font-weight: normal; }
.crosslayer thead th { border-bottom: 1px solid currentColor; vertical-align: bottom; white-space: normal; }
.crosslayer tbody + tbody { border-top: 1px solid rgba(128, 128, 128, .6); }
.crosslayer .unsure { opacity: .68; }
.crosslayer tr.answer > * { font-weight: bold; background: rgba(68, 119, 170, .22); }
.crosslayer p { margin: .3em .55em; max-width: 60em; }
.crosslayer p.legend { font-size: smaller; opacity: .8; }
</style>"""
_MEANINGS = {
    "acc %": "accuracy: mean over chips on validation images",
    "±": "its standard error over images and chips",
    "worst": "accuracy on the worst chip, in percent",
    "test": "accuracy on images and chips used for nothing else, in percent",
    "energy": "modelled energy of one inference",
    "saves": "the baseline's energy over this one's",
    "right-sized": "the right-sized network's energy over this one's",
    "area": "area of array and memories over the baseline's",
    "network": "family, depth x width",
    "prune": "share of the weights that are pruned",
    "bits": "bits of weights and of activations",
    "multiplier": "that of the layers; of the first, the middle and the last where they differ",
    "memory": "supply voltage of the weight memory, and top bits of each weight in robust cells",
}
_COLUMNS = ("", *_MEANINGS)


def result_html(result: SearchResult) -> str:
    """Return the front of a search with its answer, the right-sized network and the baseline as a table."""
    answer, shown = result.answer, shown_front(result)
    front = [_row(str(number), record, answer) for number, record in enumerate(shown, 1)]
    lines = sentences.result_lines(
        result,
        whole_front="result.front has all of them",
        confirm=f"Confirm it with: {resume_call(result.search.task, result.search.name)}",
    )
    table = _table(f"Front of {searched(result)}", _COLUMNS, [front, _references(answer, shown)])
    return _notebook(table, lines, sentences.legend_lines(answer))


def answer_html(answer: Answer) -> str:
    """Return an answer with the right-sized network and the baseline as a table."""
    table = _table(f"Cheapest {answer.target}", _COLUMNS, [_references(answer, ())])
    return _notebook(table, sentences.answer_lines(answer, confirm="Confirm it with: search.best(..., confirm=True)"))


def comparison_html(comparison: Comparison) -> str:
    """Return what each combination of techniques saves at each accuracy loss as a table."""
    bodies = [
        [
            f"<tr>{_name(row.combination.label)}"
            + "".join(_cell(saving_mark(choice), unsure=not choice.confirmed) for choice in row.choices)
            + f"{_cell(f'{row.distinct}/{row.evaluations}')}</tr>"
            for row in group
        ]
        for group in groups(comparison)
    ]
    heads = ["searched together", *(f"{points(loss)} points" for loss in comparison.losses), "different"]
    table = _table(title(comparison), heads, bodies)
    confirm = f"Confirm them with: search.compare(..., name={comparison.name!r}, confirm=True)"
    return _notebook(table, comparison_lines(comparison, confirm=confirm))


def result_figure(result: SearchResult, path: str | os.PathLike[str] | None) -> Figure:
    """Draw the accuracy of a search's evaluations over their energy; see `SearchResult.plot`.

    Raises:
        UsageError: If the file's suffix is none of a picture, or it cannot be written.
    """
    from search.report.front_picture import front_figure  # imported late, because it loads matplotlib

    return _saved(lambda: front_figure(result), path)


def savings_figure(comparison: Comparison, path: str | os.PathLike[str] | None) -> Figure:
    """Draw what each combination saves over the accuracy loss; see `Comparison.plot`.

    Raises:
        UsageError: If the file's suffix is none of a picture, or it cannot be written.
    """
    return _saved(lambda: comparison_figure(comparison), path)


def _saved(draw: Callable[[], Figure], path: str | os.PathLike[str] | None) -> Figure:
    """Draw a figure, and write it to a file if one is given."""
    from search.report.figures import check_picture, save_figure

    if path is None:
        return draw()
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"`path` must be the path of a picture, such as 'front.png', got {path!r}")
    check_picture(Path(path))
    figure = draw()
    save_figure(figure, Path(path))
    return figure


def _references(answer: Answer, shown: Sequence[Record]) -> list[str]:
    """Return rows of an answer and of what its savings are against, unless they are shown already."""
    known = {record.key for record in shown} - {answer.baseline.key}
    records = {record.key: record for record in (answer.record, answer.right_sized.record, answer.baseline) if record}
    return [_row("", record, answer) for key, record in records.items() if key not in known]


def _row(label: str, record: Record, answer: Answer) -> str:
    """Return an evaluation as a row, faint unless fresh runs confirm it; the answer's stands out."""
    verdict = answer.verdict(record)
    is_answer = answer.record is not None and record.key == answer.record.key
    roles = {"answer": is_answer, "right-sized": record.key == answer.right_sized.record.key}
    roles["baseline"] = record.key == answer.baseline.key
    name = " ".join(filter(None, (label, ", ".join(role for role, has in roles.items() if has))))
    kinds = [*(["answer"] if is_answer else []), *([] if verdict == "confirmed" else ["unsure"])]
    meaning = words.verdicts(answer.task)[verdict] if verdict else "not measured to reach the target"
    return (
        f"<tr class='{' '.join(kinds)}' title='{escape(record.id)}: {meaning}'>"
        f"{_name(name + MARKS.get(verdict, ''))}"
        + "".join(_cell(text, word=column in words.COLUMNS) for column, text in cells(record, answer).items())
        + "</tr>"
    )


def _name(text: str) -> str:
    return f"<th scope=row>{escape(text)}</th>"


def _cell(text: str, *, word: bool = False, unsure: bool = False) -> str:
    kind = " class=word" if word else " class=unsure" if unsure else ""
    return f"<td{kind}>{escape(text)}</td>"


def _table(caption: str, columns: Sequence[str], bodies: Iterable[Sequence[str]]) -> str:
    """Return a table.

    Args:
        caption: Its title.
        columns: Titles of its columns, the first of which names the rows.
        bodies: Groups of rows, as HTML.
    """
    heads = []
    for place, column in enumerate(columns):
        kind = " class=word" if place == 0 or column in words.COLUMNS else ""
        meaning = f" title='{escape(_MEANINGS[column])}'" if column in _MEANINGS else ""
        heads.append(f"<th{kind} scope=col{meaning}>{escape(column)}</th>")
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{''.join(heads)}</tr></thead>"
        + "".join(f"<tbody>{''.join(rows)}</tbody>" for rows in bodies if rows)
        + "</table>"
    )


def _notebook(table: str, lines: Iterable[str], legend: Iterable[str] = ()) -> str:
    """Return a table with sentences below it."""
    said = [f"<p>{escape(line)}</p>" for line in lines]
    said += [f"<p class=legend>{escape(line)}</p>" for line in legend]
    return f"<div class=crosslayer>{_STYLE}{table}{''.join(said)}</div>"
