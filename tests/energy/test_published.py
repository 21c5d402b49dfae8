"""The model against published figures, each within its tolerance; the rows are those of docs/energy-model.md."""

import pytest

from benchmarks.energy_validation import DOCUMENT, Row, rows, table

ROWS = rows()


@pytest.mark.parametrize("row", ROWS, ids=[row.target for row in ROWS])
def test_published(row: Row) -> None:
    if row.known_miss:
        pytest.xfail(f"known: {row.modelled:.1f} is not within {row.low} to {row.high}; {row.note}")
    assert row.holds, f"{row.modelled} is not within {row.low} to {row.high}"


def test_known_misses_still_miss() -> None:
    missed = [row for row in ROWS if row.known_miss]
    assert [row.target for row in missed] == ["Hybrid 8T-6T memory (Srinivasan, DATE 2016), 22 nm: access power"]
    assert not any(row.holds for row in missed)


def test_the_document_shows_these_rows() -> None:
    assert table(ROWS) in DOCUMENT.read_text(), "write it with: python -m benchmarks.energy_validation"
