from dataclasses import replace
from itertools import pairwise
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approx import HYBRID_22NM, SILICON_14NM, MeasuredCurve, MemoryModel, Never, NormalTail
from approx.errors import ArgumentError

MODELS = [SILICON_14NM, HYBRID_22NM]
POINTS = [(0.50, 3e-2), (0.60, 8e-4), (0.70, 1e-6)]
OWN = MemoryModel(
    name="own", nominal_v=0.8, read_6t=MeasuredCurve(POINTS), write_6t=Never(), failure_8t=Never(), source="a test"
)
millivolts = st.integers(500, 1200)


# Supply voltage over v_min and percent of bits that fail, as plotted by Stutz et al., MLSys 2021, for the chips of
# Chandramoorthy et al., HPCA 2019. Energies per access, the squares of the voltages, show these to be 24ths.
MEASURED = [(18, 20.56), (19, 5.573), (20, 1.115), (21, 0.129), (22, 0.00686646), (23, 0.000190735), (24, 0)]


@pytest.mark.parametrize(("part", "percent"), MEASURED)
def test_the_14_nm_curve_goes_through_the_measured_points(part: int, percent: float) -> None:
    assert SILICON_14NM.bit_error_rate(0.9 * part / 24) == pytest.approx(percent / 100, rel=1e-4, abs=1e-12)


def test_the_14_nm_curve_is_normal_between_the_points_and_beyond_them() -> None:
    quantile = [-NormalDist().inv_cdf(percent / 100) for _, percent in MEASURED[:-1]]
    for (part, _), (low, high) in zip(MEASURED, pairwise(quantile), strict=False):
        middle = NormalDist().cdf(-(low + high) / 2)
        assert SILICON_14NM.bit_error_rate(0.9 * (part + 0.5) / 24) == pytest.approx(middle, rel=1e-4)
    # The normal distribution that fits all six best has the deviation 0.055 v_min.
    below = NormalDist().cdf(-(quantile[0] - 1 / 24 / 0.0553))
    assert SILICON_14NM.bit_error_rate(0.9 * 17 / 24) == pytest.approx(below, rel=1e-3)
    assert 0 < SILICON_14NM.bit_error_rate(0.8999) < 1e-7


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_8t_cells_fail_at_lower_voltages_by_every_assumption(model: MemoryModel) -> None:
    assert model.stronger_8t is not None
    assert model.weaker_8t is not None
    for millivolts in range(300, 951, 10):
        rates = [
            curve.probability(millivolts / 1000) for curve in (model.stronger_8t, model.failure_8t, model.weaker_8t)
        ]
        assert rates == sorted(rates)
        assert rates[-1] <= model.bit_error_rate(millivolts / 1000)
    # Srinivasan et al., DATE 2016: 8T cells are robust at 0.65 V of 0.95 V.
    assert model.failure_8t.probability(0.65 / 0.95 * model.nominal_v) == 0
    assert model.failure_8t.probability(0.5 * model.nominal_v) > 1e-5
    assert "weaker" in model.source
    assert "stronger" in model.source


def test_the_hybrid_study_is_robust_to_075_v_and_not_below() -> None:
    # Srinivasan et al., DATE 2016: at 0.75 V 6T cells cost less than 0.5 % accuracy, below that substantially more.
    assert HYBRID_22NM.bit_error_rate(0.75) == pytest.approx(5e-4, rel=0.05)  # read or write, 2.5e-4 each
    assert HYBRID_22NM.bit_error_rate(0.65) > 30 * HYBRID_22NM.bit_error_rate(0.75)
    assert HYBRID_22NM.at(0.65).robust_bit_error_rate == 0
    assert 0 < HYBRID_22NM.at(0.64).robust_bit_error_rate < 1e-8


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_no_bit_fails_at_nominal_voltage_and_more_fail_the_lower_it_is(model: MemoryModel) -> None:
    assert model.bit_error_rate(model.nominal_v) == model.at(model.nominal_v).robust_bit_error_rate == 0
    rates = [
        model.bit_error_rate(millivolts / 1000) for millivolts in range(round(1000 * model.nominal_v) - 1, 450, -5)
    ]
    assert all(low < high for low, high in pairwise(rates))
    assert rates[-1] < 1


@pytest.mark.parametrize("model", [*MODELS, OWN], ids=lambda model: model.name)
@given(st.tuples(millivolts, millivolts).map(sorted))
def test_rates_never_rise_with_the_voltage(model: MemoryModel, voltages: list[int]) -> None:
    low, high = (model.at(one / 1000) for one in voltages)
    assert 0 <= high.bit_error_rate <= low.bit_error_rate <= 1
    assert 0 <= high.robust_bit_error_rate <= low.robust_bit_error_rate <= low.bit_error_rate
    assert 0 < model.energy_factor(voltages[0] / 1000) <= model.energy_factor(voltages[1] / 1000)


def test_cells_that_invert_say_nothing_at_most() -> None:
    assert SILICON_14NM.bit_error_rate(0.5) > 0.99
    assert SILICON_14NM.at(0.5).bit_error_rate == 0.5  # not the complement of what was stored
    assert SILICON_14NM.at(0.2).robust_bit_error_rate == 0.5
    assert SILICON_14NM.at(0.5, failed_cells="stuck").bit_error_rate == SILICON_14NM.bit_error_rate(0.5)


def test_energy_follows_the_square_of_the_voltage() -> None:
    assert SILICON_14NM.energy_factor(0.9) == HYBRID_22NM.energy_factor(0.95) == 1
    assert SILICON_14NM.energy_factor(0.45) == pytest.approx(0.25)
    # Measured: Eyeriss, from 1 V to 0.82 V, Chen et al., IEEE JSSC 52(1), 2017.
    assert replace(SILICON_14NM, nominal_v=1.0).energy_factor(0.82) == pytest.approx(0.677, rel=0.01)


@pytest.mark.parametrize("voltage", [0.0, -0.5, float("nan")])
def test_voltages_must_be_positive(voltage: float) -> None:
    for ask in (SILICON_14NM.bit_error_rate, SILICON_14NM.energy_factor, SILICON_14NM.at):
        with pytest.raises(ArgumentError, match=f"`supply_v` must be positive, got {voltage}"):
            ask(voltage)


@given(st.floats(0.05, 2))
def test_a_normal_tail_is_the_share_of_cells_that_work_only_above(voltage: float) -> None:
    curve = NormalTail(v_min=0.9, mean=0.6, deviation=0.1)
    cells = NormalDist(0.6 * 0.9, 0.1 * 0.9)
    expected = 0.0 if voltage >= 0.9 else 1 - cells.cdf(voltage)
    assert curve.probability(voltage) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("v_min", "deviation"), [(0.0, 0.1), (-1.0, 0.1), (0.9, 0.0), (0.9, -0.1)])
def test_normal_tails_that_cannot_be_are_refused(v_min: float, deviation: float) -> None:
    with pytest.raises(ArgumentError, match="`v_min` and `deviation` must be positive"):
        NormalTail(v_min=v_min, mean=0.5, deviation=deviation)


def test_a_measured_curve_goes_through_its_points_and_is_normal_between() -> None:
    curve = MeasuredCurve(POINTS)
    for voltage, share in POINTS:
        assert curve.probability(voltage) == pytest.approx(share)
    normal = NormalDist()
    low, middle, high = (normal.inv_cdf(share) for _, share in POINTS)
    assert curve.probability(0.55) == pytest.approx(normal.cdf((low + middle) / 2))
    assert curve.probability(0.675) == pytest.approx(normal.cdf(0.25 * middle + 0.75 * high))
    assert curve.probability(0.7001) == 0


def test_what_a_measured_curve_says_beyond_its_points() -> None:
    with pytest.raises(ArgumentError, match=r"points from 0\.5 V to 0\.7 V, and what fails at 0\.4999 V is not known"):
        MeasuredCurve(POINTS).probability(0.4999)
    with pytest.raises(ArgumentError, match=r"points from 0\.5 V to 0\.7 V"):
        OWN.at(0.3)
    curve = MeasuredCurve(POINTS, safe_v=0.75, deviation_v=0.04)
    normal = NormalDist()
    assert curve.probability(0.46) == pytest.approx(normal.cdf(normal.inv_cdf(3e-2) + 1))
    assert curve.probability(0.74) == pytest.approx(normal.cdf(normal.inv_cdf(1e-6) - 1))
    assert curve.probability(0.75) == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"safe_v": 0.7}, r"`safe_v` must be above 0\.7 V, where cells still fail by `points`, got 0\.7"),
        ({"deviation_v": 0.0}, r"`deviation_v` must be positive, got 0\.0"),
        ({"deviation_v": "1"}, "`deviation_v` must be a number, got '1'"),
    ],
)
def test_ends_of_measured_curves_that_cannot_be_are_refused(options: dict[str, float], complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        MeasuredCurve(POINTS, **options)


def test_a_measured_curve_may_be_a_list_from_a_file() -> None:
    assert MeasuredCurve([[0.5, 0.1], [0.6, 1e-3]]) == MeasuredCurve(((0.5, 0.1), (0.6, 1e-3)))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("points", "complaint"),
    [
        ([], "needs at least two points, got 0"),
        ([(0.5, 0.1)], "needs at least two points, got 1"),
        ([(0.5, 0.1), (0.6, 0.0)], r"shares of cells in \(0, 1\)"),
        ([(0.5, 1.1), (0.6, 0.1)], r"shares of cells in \(0, 1\)"),
        ([(0.5, float("nan")), (0.6, 0.1)], r"shares of cells in \(0, 1\)"),
        ([(float("nan"), 0.2), (0.6, 0.1)], r"shares of cells in \(0, 1\)"),
        ([(0.6, 0.1), (0.5, 0.2)], r"got 0\.1 at 0\.6 V and 0\.2 at 0\.5 V"),
        ([(0.5, 0.1), (0.5, 0.1)], "voltages must rise"),
        ([(0.5, 0.1), (0.6, 0.2)], "its shares must not"),
    ],
)
def test_measured_curves_that_cannot_be_are_refused(points: list[tuple[float, float]], complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        MeasuredCurve(points)


def test_reads_and_writes_fail_independently() -> None:
    model = replace(OWN, write_6t=MeasuredCurve([(0.5, 0.1), (0.6, 0.05)]))
    assert model.bit_error_rate(0.5) == pytest.approx(3e-2 + 0.1 - 3e-2 * 0.1)


def test_a_model_gives_the_memory_of_a_voltage() -> None:
    memory = HYBRID_22NM.at(0.65, robust_bits=3, storage="sign-magnitude", column_correlation=0.25, transient_rate=1e-4)
    assert memory.bit_error_rate == HYBRID_22NM.bit_error_rate(0.65)
    assert memory.robust_bit_error_rate == HYBRID_22NM.failure_8t.probability(0.65)
    assert (memory.robust_bits, memory.storage) == (3, "sign-magnitude")
    assert memory.supply_share == pytest.approx(0.65 / 0.95)
    assert (memory.column_correlation, memory.transient_rate) == (0.25, 1e-4)
    with pytest.raises(ArgumentError, match="`robust_bits` must be between"):
        HYBRID_22NM.at(0.65, robust_bits=-1)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_model_says_where_its_numbers_are_from(model: MemoryModel) -> None:
    assert "Assumed" in model.source
    assert "20" in model.source  # a year
