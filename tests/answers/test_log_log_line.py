"""Power laws against exact ones and against the coverage that their interval promises."""

import numpy as np
import pytest
from scipy import stats

from flowlift.answers import log_log_line

SIZES = np.repeat([8, 16, 32, 64], 6)


def test_an_exact_log_log_line_is_found_exactly():
    law = log_log_line(SIZES, 3.0 * SIZES**-0.5)
    assert law.exponent == pytest.approx(-0.5, abs=1e-12)
    assert law.constant == pytest.approx(3.0)
    assert law.high - law.low < 1e-10
    np.testing.assert_allclose(law.at([4, 100]), [1.5, 0.3])
    np.testing.assert_allclose(law.band([4, 100]), [[1.5, 0.3]] * 2, rtol=1e-9)
    assert "-0.500 (95%" in str(law)


def test_the_slope_is_that_of_ordinary_least_squares():
    rng = np.random.default_rng(0)
    values = SIZES**-0.7 * np.exp(rng.normal(0, 0.3, SIZES.size))
    law = log_log_line(SIZES.reshape(4, 6), values.reshape(4, 6))
    reference = stats.linregress(np.log(SIZES), np.log(values))
    assert law.exponent == pytest.approx(reference.slope)
    assert law.points == 24
    middle = np.exp(np.mean(np.log(SIZES)))
    widths = [np.log(high / low) for low, high in (law.band([n]) for n in (4, middle, 128))]
    assert widths[1] < min(widths[0], widths[2])


def test_the_interval_keeps_its_promise_when_the_spread_depends_on_the_size():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        noise = rng.normal(0, 0.2, SIZES.size) * np.sqrt(64 / SIZES)
        hits += log_log_line(SIZES, SIZES**-0.5 * np.exp(noise)).contains(-0.5)
    # 95% of 400 are 380, to within 4.4 standard deviations; HC3 errs on the cautious side.
    assert 360 <= hits <= 399


@pytest.mark.parametrize(
    ("sizes", "values", "message"),
    [
        ([1, 2, 4], [1.0, np.inf, 1.0], "holds 1 values that are not"),
        ([1, 2, 4], [1.0, 0.0, np.nan], "holds 2 values that are not"),
        ([2, 2, 2], [1.0, 2.0, 3.0], "at least 3 points of 2 sizes"),
        ([1, 2], [1.0, 2.0], "but hold 2 of 2"),
    ],
)
def test_what_has_no_slope_is_refused(sizes, values, message):
    with pytest.raises(ValueError, match=message):
        log_log_line(sizes, values)
