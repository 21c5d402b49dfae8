"""The model against published figures, each within its tolerance; the rows are those of docs/energy-model.md."""

import pytest

from benchmarks.energy_validation import DOCUMENT, Row, dataflow_table, rows, table

ROWS = rows()


@pytest.mark.parametrize("row", [row for row in ROWS if not row.assumes], ids=lambda row: row.target)
def test_published(row: Row) -> None:
    assert row.holds, f"{row.modelled} is not within {row.low} to {row.high}"


def test_rows_that_depend_on_assumptions_do_not_count() -> None:
    assumed = [row for row in ROWS if row.assumes]
    assert {row.target.partition(" (")[0] for row in assumed} == {"Hybrid 8T-6T memory", "Minerva"}
    shown = table(assumed).splitlines()[2:]
    assert all("| not counted; " in line and row.assumes in line for line, row in zip(shown, assumed, strict=True))
    assert "| yes |" not in table(assumed)


def test_the_document_shows_these_rows() -> None:
    text = DOCUMENT.read_text()
    assert table(ROWS) in text, "write it with: python -m benchmarks.energy_validation"
    assert dataflow_table() in text, "write it with: python -m benchmarks.energy_validation"
