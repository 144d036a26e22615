"""The fit of costs to sizes finds known curves, every curve has valid options, and the page states the raw rows."""

import json
from pathlib import Path

import pytest

from agents.config.compose import compose_config
from benchmarks.throughput.growth import AXES, ROWS, fit, table

RESULTS = Path(__file__).parents[2] / "benchmarks/RESULTS.md"
SIZES = (8, 16, 32, 64, 128, 256, 512)


@pytest.mark.parametrize("exponent", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("fixed", [0.0, 5.0])
def test_fit_finds_fixed_cost_factor_and_exponent(fixed, exponent):
    found = fit(SIZES, [fixed + 0.25 * size**exponent for size in SIZES])
    assert found == pytest.approx((fixed, 0.25, exponent), rel=0.02, abs=0.02)


def test_fit_of_noisy_costs_has_no_negative_fixed_cost():
    noise = (1.1, 0.9, 1.05, 0.95, 1.1, 0.9, 1.0)
    fixed, _, exponent = fit(SIZES, [size**1.2 * factor for size, factor in zip(SIZES, noise, strict=True)])
    assert fixed >= 0
    assert exponent == pytest.approx(1.2, abs=0.15)


@pytest.mark.parametrize("name", [name for name, axis in AXES.items() if axis.options])
def test_options_of_curves_are_valid(name):
    axis = AXES[name]
    assert axis.at(64, Path("model"))[0] == axis.options[0]
    compose_config([option for option in axis.at(64, Path("model")) if not option.startswith("policy.model=")])


def test_page_shows_the_table_of_the_rows():
    rows = [json.loads(line) for line in ROWS.read_text("utf-8").splitlines()]
    assert {(row["axis"], row["size"]) for row in rows} == {
        (n, size) for n, axis in AXES.items() for size in axis.sizes
    }
    assert "\n".join(table(rows)) in RESULTS.read_text("utf-8")
