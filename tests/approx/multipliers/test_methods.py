"""Factorisations give back their table; ranks are those of exact arithmetic."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from approx import find_multiplier, multiplier_names
from approx.multipliers.methods import MAX_TERMS, Factors, factorize, row_tables, table_rank


def rank_by_fractions(matrix: list[list[int]]) -> int:
    rows = [[Fraction(value) for value in row] for row in matrix]
    rank = 0
    for column in range(len(rows[0])):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for i in range(rank + 1, len(rows)):
            factor = rows[i][column] / rows[rank][column]
            rows[i] = [x - factor * y for x, y in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return rank


@given(
    st.integers(1, 4).flatmap(
        lambda rank: st.tuples(
            st.lists(st.lists(st.integers(-9, 9), min_size=rank, max_size=rank), min_size=6, max_size=6),
            st.lists(st.lists(st.integers(-9, 9), min_size=5, max_size=5), min_size=rank, max_size=rank),
        )
    )
)
def test_ranks_are_exact(factors: tuple[list[list[int]], list[list[int]]]) -> None:
    table = torch.tensor(factors[0]) @ torch.tensor(factors[1])
    assert table_rank(table) == rank_by_fractions(table.tolist())


def exact(signed: bool = False) -> Tensor:
    return find_multiplier("exact", weight_bits=8, activation_bits=8, activation_signed=signed).table()


@pytest.mark.parametrize("activation_signed", [False, True])
@pytest.mark.parametrize("name", multiplier_names())
def test_factors_give_back_every_entry(name: str, activation_signed: bool) -> None:
    multiplier = find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=activation_signed)
    factors = factorize(multiplier.table(), exact(activation_signed))
    if factors is not None:
        assert factors.terms <= MAX_TERMS
        assert torch.equal(factors.table(), multiplier.table())
        restored = factors.activation_bytes.to(torch.int32) + factors.activation_shift[:, None]
        assert torch.equal(restored, factors.activation)
        assert torch.equal(factors.weight_bytes.to(torch.int32), factors.weight)


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("exact", 1),
        ("drum-4", 2),  # the weight -128 becomes -144, which takes a term of its own
        ("drum-6", 2),
        ("ssm-5", 1),
        ("asm-1-3", 1),
        ("kulkarni", 2),
        ("truncated-2", 3),
        ("truncated-4", None),
        ("mitchell", None),
    ],
)
def test_known_ranks_are_found(name: str, terms: int | None) -> None:
    multiplier = find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)
    factors = factorize(multiplier.table(), exact())
    assert (None if factors is None else factors.terms) == terms


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_sums_of_small_products_are_found_or_refused_but_never_wrong(seed: int, terms: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    made = Factors(
        torch.randint(-20, 20, (terms, 256), generator=generator, dtype=torch.int32),
        torch.randint(-3, 4, (terms, 256), generator=generator, dtype=torch.int32),
    )
    found = factorize(made.table(), exact())
    assert found is None or torch.equal(found.table(), made.table())
    if terms == 1:
        assert found is not None


def test_a_table_that_is_almost_a_product_is_not_taken_for_one() -> None:
    table = exact().clone()
    generator = torch.Generator().manual_seed(0)
    table[torch.randint(0, 256, (40,), generator=generator), torch.randint(0, 256, (40,), generator=generator)] += 1
    factors = factorize(table, exact())
    assert factors is None or torch.equal(factors.table(), table)


def test_the_table_of_zeros() -> None:
    factors = factorize(torch.zeros(256, 256, dtype=torch.int32), exact())
    assert factors is not None
    assert not factors.table().any()


def test_row_tables_split_wide_columns() -> None:
    narrow = torch.randint(0, 2**16, (4, 8), dtype=torch.int32)
    (table,) = row_tables(narrow)
    assert table.columns.shape == (8, 8)  # activation codes rounded up
    assert torch.equal(table.columns.to(torch.int32)[:, :4] + table.column_least[:, None], narrow.T)
    wide = torch.tensor([[-(2**31), 2**31 - 1], [2**31 - 1, -(2**31)]], dtype=torch.int32)
    low, high = row_tables(wide)
    parts = [table.columns.to(torch.int64)[:, :2] + table.column_least[:, None] for table in (low, high)]
    assert torch.equal(parts[0] + (parts[1] << 16), wide.T.to(torch.int64))
