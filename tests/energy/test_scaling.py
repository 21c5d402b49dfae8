"""Scaling between nodes that have a fit, and between those."""

import pytest

from energy import HardwareError
from energy.scaling import node_ratio, node_ratio_band, usual_supply_v


def test_there_is_no_band_between_nodes_with_a_fit() -> None:
    for node_nm, volts in ((65, 1.0), (32, 0.9), (20, 0.95), (14, 0.8), (7, 0.7)):
        ratio = node_ratio(45, 0.9, node_nm, volts)
        assert node_ratio_band(45, 0.9, node_nm, volts) == pytest.approx((ratio, ratio, ratio))


def test_a_node_between_two_fits_is_between_them() -> None:
    upper, lower = node_ratio(45, 0.9, 32, 0.9), node_ratio(45, 0.9, 20, 0.9)
    band = node_ratio_band(45, 0.9, 28, 0.9)
    assert (band.low, band.high) == pytest.approx((lower, upper))
    # 28 is log(28/20) / log(32/20) = 0.716 of the way from 20 to 32: 0.2873 ** 0.284 * 0.6541 ** 0.716 = 0.518.
    assert band.value == pytest.approx(0.518, abs=0.001)
    back = node_ratio_band(28, 0.9, 45, 0.9)
    assert back == pytest.approx((1 / band.high, 1 / band.value, 1 / band.low))


# Fits of Stillmaker and Baas (Integration 58, 2017), as transcribed in nodeScale of UCLA's NanoCAD laboratory: those of
# FinFETs and planar transistors for high performance.
PUBLISHED = {
    65: (3.755, -4.398, 1.975),
    45: (1.018, -0.3107, 0.1539),
    32: (0.8367, -0.4341, 0.1701),
    20: (0.373, -0.1582, 0.04104),
    14: (0.2363, -0.09675, 0.02239),
    7: (0.1776, -0.09097, 0.02447),
}


@pytest.mark.parametrize("node_nm", PUBLISHED)
@pytest.mark.parametrize("volts", [0.6, 0.9])
def test_ratios_are_those_of_the_published_fits(node_nm: int, volts: float) -> None:
    a, b, c = PUBLISHED[node_nm]
    at_65nm = 3.755 - 4.398 + 1.975  # of 1 V
    assert node_ratio(65, 1.0, node_nm, volts) == pytest.approx((a * volts**2 + b * volts + c) / at_65nm)


# Two more fits of Stillmaker and Baas (Integration 58, 2017), as transcribed in nodeScale of UCLA's NanoCAD laboratory:
# a V^2 + b V + c of FinFETs for high performance. They are not used, so they say how good the interpolation is.
@pytest.mark.parametrize(
    ("node_nm", "volts", "fit"),
    [(16, 0.85, (0.2958, -0.1241, 0.03024)), (10, 0.75, (0.2068, -0.09311, 0.02375))],
)
def test_interpolation_meets_fits_that_it_does_not_use(
    node_nm: int, volts: float, fit: tuple[float, float, float]
) -> None:
    a, b, c = fit
    at_20nm = 0.373 * 0.9**2 - 0.1582 * 0.9 + 0.04104
    published = (a * volts**2 + b * volts + c) / at_20nm
    band = node_ratio_band(20, 0.9, node_nm, volts)
    assert band.value == pytest.approx(published, rel=0.06)
    assert band.low < published < band.high


def test_nodes_without_neighbours() -> None:
    for node_nm in (5, 90):
        with pytest.raises(HardwareError, match=f"no scaling is known for {node_nm} nm; it is from 7 to 65 nm"):
            node_ratio_band(45, 0.9, node_nm, 0.9)
        with pytest.raises(HardwareError, match=f"no scaling is known for {node_nm} nm"):
            usual_supply_v(node_nm)


def test_usual_voltages() -> None:
    assert [usual_supply_v(node_nm) for node_nm in (65, 45, 28, 20, 14, 7)] == [1.0, 0.9, 0.9, 0.9, 0.8, 0.7]
    # Those of the Predictive Technology Model at the nodes between are 0.85 and 0.75 V.
    assert usual_supply_v(16) == pytest.approx(0.85, abs=0.011)
    assert usual_supply_v(10) == pytest.approx(0.75, abs=0.011)
