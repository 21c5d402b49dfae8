"""What a product costs: by the gates of its widths, and by how long its weight stays (claims that gates can refute)."""

import math
from dataclasses import replace

import pytest

from energy import Hardware, Widths, Workload, WorkloadError, estimate, load_hardware, multiplier_cost
from energy.cost_table import BUILT_WIDTHS, exact_rows
from energy.exact_multiplier import exact_cost
from tests.support.networks import convolution, fully_connected, workload

WEIGHTS_STAY = load_hardware("weight-stationary-45nm")
OUTPUTS_STAY = load_hardware("output-stationary-45nm")
GIVEN = replace(WEIGHTS_STAY, widths=Widths(weights=8, activations=8))
UNIT_PJ = WEIGHTS_STAY.technology.multiply_pj.value


def of_each_product(work: Workload, hardware: Hardware = WEIGHTS_STAY) -> float:
    """Energy of a multiplication of the only layer, in pJ, without the addition."""
    report = estimate(work, hardware)
    counts, table = report.counts, report.table.values()
    total = counts.macs * table["multiply_pj"] + counts.weight_changes * table["weight_change_pj"]
    return float(total.sum() / counts.macs.sum())


class TestExact:
    def test_eight_bits_with_random_operands_are_horowitz_s_figure(self) -> None:
        assert exact_cost(8, 8).uniform == 1
        assert exact_cost(8, 8).area == 1
        assert pytest.approx(0.2, rel=1e-3) == UNIT_PJ

    # The netlists' own figures: what 4 x 4 and 2 x 2 bits take of 8 x 8, for fresh and for held weights.
    @pytest.mark.parametrize(("bits", "fresh", "held"), [(4, 0.167, 0.134), (3, 0.061, 0.048), (2, 0.0151, 0.0119)])
    def test_narrow_ones_cost_what_their_gates_cost(self, bits: int, fresh: float, held: float) -> None:
        full, narrow = exact_cost(8, 8), exact_cost(bits, bits)
        assert narrow.recorded / full.recorded == pytest.approx(fresh, rel=0.03)
        assert narrow.held / full.held == pytest.approx(held, rel=0.03)
        layer = fully_connected("fc", 32, 16)
        found, whole = (workload(layer, weight_bits=one, activation_bits=one) for one in (bits, 8))
        assert of_each_product(found) / of_each_product(whole) == pytest.approx(fresh, rel=0.03)

    def test_wider_is_never_cheaper(self) -> None:
        for bits in range(1, 25):
            for other in range(1, 25):
                one, wider = exact_cost(bits, other), exact_cost(bits + 1, other)
                assert one.recorded < wider.recorded
                assert one.held < wider.held
                assert one.area < wider.area

    def test_between_and_beyond_what_was_measured(self) -> None:
        rows = exact_rows()
        assert {key[1:] for key in rows if key[0] == "layer"} == {
            (w, a) for w in (*range(2, 9), 12, 16) for a in (*range(2, 9), 12, 16)
        }
        assert exact_cost(8, 8).uniform < exact_cost(10, 10).uniform < exact_cost(12, 12).uniform
        assert exact_cost(32, 16).uniform == pytest.approx(2 * exact_cost(16, 16).uniform)
        assert exact_cost(1, 8).held == pytest.approx(exact_cost(2, 8).held / 2)

    def test_between_measured_widths_figures_follow_a_power_of_each_width(self) -> None:
        rows = exact_rows()
        eight, wide, widest = (rows["layer", w, a].energy_held_fj for w, a in ((8, 8), (12, 8), (12, 12)))
        unit = rows["layer", 8, 8].energy_uniform_fj
        # In the logarithm, 10 is 0.550 of the way from 8 to 12.
        way = math.log(10 / 8) / math.log(12 / 8)
        assert way == pytest.approx(0.550, abs=0.001)
        assert exact_cost(10, 8).held == pytest.approx(eight / unit * (wide / eight) ** way)
        assert exact_cost(12, 10).held == pytest.approx(wide / unit * (widest / wide) ** way)

    def test_the_band_says_how_far_gates_and_the_published_law_differ(self) -> None:
        technology = WEIGHTS_STAY.technology
        band = estimate(workload(fully_connected("fc", 32, 16), weight_bits=2, activation_bits=2), WEIGHTS_STAY)
        low, value, high = band.table.multiply_pj[:, 0, 0]  # type: ignore[index]
        law = technology.multiply_by_law(2, 2)
        assert law == pytest.approx((0.002995 * 4 + 0.00104 * 2) / 0.2, rel=1e-3)
        assert high == pytest.approx(law * technology.multiply_pj.high)
        assert high / value > 5
        assert low == pytest.approx(exact_cost(2, 2).held * technology.multiply_pj.low)

    def test_the_band_spans_random_operands(self) -> None:
        # drum-4 with random operands takes less of the exact one than with a network's
        technology = WEIGHTS_STAY.technology
        exact, cost = exact_cost(8, 8), multiplier_cost("drum-4", weight_bits=8, activation_bits=8)
        report = estimate(workload(fully_connected("fc", 32, 16), multiplier="drum-4"), WEIGHTS_STAY)
        fresh = report.table.multiply_pj[:, 0, 0] + report.table.weight_change_pj[:, 0, 0]  # type: ignore[index]
        figures = [
            exact.recorded * cost.relative_energy,
            exact.uniform * cost.relative_energy_uniform,
            technology.multiply_by_law(8, 8) * cost.relative_energy,
        ]
        assert figures[1] < figures[0] < figures[2]
        wanted = [figures[1], figures[0], figures[2]]
        assert fresh.tolist() == pytest.approx(
            [one * pj for one, pj in zip(wanted, technology.multiply_pj, strict=True)]
        )

    def test_the_band_of_a_given_array_reaches_its_full_width(self) -> None:
        layer = fully_connected("fc", 32, 16)
        report = estimate(workload(layer, weight_bits=2, activation_bits=2), GIVEN)
        high = report.table.multiply_pj[2, 0, 0]  # type: ignore[index]
        assert high == pytest.approx(GIVEN.technology.multiply_pj.high)  # as if nothing were at rest


class TestStays:
    """A weight that is used u times in a row costs 1 / u of a change of weight for each product."""

    def test_a_fully_connected_layer_has_another_weight_for_each_product(self) -> None:
        fresh = exact_cost(8, 8).recorded * UNIT_PJ
        for hardware in (WEIGHTS_STAY, OUTPUTS_STAY):
            assert of_each_product(workload(fully_connected("fc", 32, 16)), hardware) == pytest.approx(fresh)

    @pytest.mark.parametrize(("batch", "uses"), [(1, 64), (4, 256)])
    def test_a_convolution_s_weights_stay_for_all_positions_of_the_batch(self, batch: int, uses: int) -> None:
        exact = exact_cost(8, 8)
        wanted = exact.held + (exact.recorded - exact.held) / uses
        layer = convolution("conv", 1, 10, 3, 2)  # 64 positions
        assert of_each_product(workload(layer, batch=batch)) == pytest.approx(wanted * UNIT_PJ)
        # where outputs stay, weights stream past them
        assert of_each_product(workload(layer, batch=batch), OUTPUTS_STAY) == pytest.approx(exact.recorded * UNIT_PJ)

    def test_a_batch_lets_the_weights_of_a_fully_connected_layer_stay(self) -> None:
        exact = exact_cost(8, 8)
        found = of_each_product(workload(fully_connected("fc", 32, 16), batch=8))
        assert found == pytest.approx((exact.held + (exact.recorded - exact.held) / 8) * UNIT_PJ)

    def test_products_with_a_zero_are_no_uses(self) -> None:
        # 64 positions, a quarter of the activations nonzero, half of the weights pruned: 16 products for each of 9 left
        layer = replace(convolution("conv", 1, 10, 3, 2, density=0.25), nonzero_weights=9)
        counts = estimate(workload(layer), WEIGHTS_STAY).counts
        assert counts.macs.tolist() == [[64 * 9 * 0.25]]
        assert counts.weight_changes.item() == pytest.approx(9 * (1 - 0.75**64))
        sparse = replace(fully_connected("fc", 32, 16), activation_density=0.25)
        counts = estimate(workload(sparse), WEIGHTS_STAY).counts
        assert counts.macs.item() == 512 * 0.25
        assert counts.weight_changes.item() == pytest.approx(512 * 0.25)

    def test_alphabets_cost_more_than_exact_in_fully_connected_layers(self) -> None:
        """Deciding by the weight is cheap only while it stays."""
        layers = {"fc": fully_connected("fc", 128, 16), "conv": convolution("conv", 16, 16, 3, 16)}
        saved = {}
        for kind, layer in layers.items():
            exact, approximate = (
                of_each_product(workload(layer, weight_bits=4, activation_bits=3, multiplier=name))
                for name in ("exact", "asm-1-3")
            )
            saved[kind] = 1 - approximate / exact
        assert saved["fc"] < -0.1
        assert saved["conv"] > 0.1


class TestGiven:
    """In an array of given widths narrower codes leave bits at rest, and nothing else gets cheaper."""

    def test_narrow_codes_save_less_than_in_an_array_built_for_them(self) -> None:
        layer = fully_connected("fc", 128, 16)
        full, narrow = (workload(layer, weight_bits=bits, activation_bits=bits) for bits in (8, 4))
        assert of_each_product(full, GIVEN) == pytest.approx(of_each_product(full), rel=0.01)
        assert of_each_product(narrow) < of_each_product(narrow, GIVEN) < of_each_product(full, GIVEN)
        fitted, given = (estimate(narrow, hardware) for hardware in (WEIGHTS_STAY, GIVEN))
        assert given.counts.sum_bits.tolist() == [[8 + 8 + 7]]
        assert fitted.counts.sum_bits.tolist() == [[4 + 4 + 7]]
        assert given.components["clock"] == pytest.approx(estimate(full, GIVEN).components["clock"])
        assert fitted.components["clock"] < given.components["clock"]
        # the memories differ a little in their share of 8T cells, of biases
        assert given.area_mm2.value == pytest.approx(estimate(full, GIVEN).area_mm2.value, rel=0.01)
        assert fitted.area_mm2.value < 0.7 * given.area_mm2.value
        # operands still move at their own width
        moved = given.counts.register_write_bits - given.counts.added_bits
        assert moved.tolist() == (fitted.counts.register_write_bits - fitted.counts.added_bits).tolist()

    def test_every_multiplier_was_measured_with_narrow_operands_in_eight_bits(self) -> None:
        for name in ("asm-1", "drum-4", "ssm-4", "truncated-6"):
            for bits in (2, 5, 8):
                found = multiplier_cost(name, weight_bits=bits, activation_bits=bits, form="8x8")
                assert 0 < found.relative_energy < 2
        assert BUILT_WIDTHS == ((8, 8), (16, 16))

    def test_what_does_not_fit(self) -> None:
        wide = workload(fully_connected("fc", 8, 8), weight_bits=9)
        with pytest.raises(WorkloadError, match="weight_bits can be at most 8 on weight-stationary-45nm, got 9"):
            estimate(wide, GIVEN)
        sixteen = replace(GIVEN, widths=Widths(weights=16, activations=16))
        with pytest.raises(WorkloadError, match="for multiplier 'asm-1' in an array built for 16 x 16 bits"):
            estimate(workload(fully_connected("fc", 8, 8), multiplier="asm-1"), sixteen)
        assert estimate(wide, sixteen).energy_pj > 0
